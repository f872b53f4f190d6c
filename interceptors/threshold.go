package interceptors

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/throttle"
)

// Threshold returns a [Layer] for clients that does not send RPCs which are less
// critical than what the server admits now. A server that is full says so in the
// trailer criticality.ThresholdKey of its answers, see [AdmitAdaptive]. What is
// known of it is a throttle.Threshold for each target of grpc.NewClient, of which
// a layer keeps 64: further targets share one. In the stack of an endpoint
// (balance.NewClientConn) it is about that endpoint alone.
//
// The level of an RPC is that which a [Criticality] outside sends; without one, that
// of the context, and the next lower one with every attempt after the first. Put
// it inside Criticality and outside [Retry]: an RPC that was turned away is not
// sent, and Retry would ask again. It refuses with RESOURCE_EXHAUSTED and reason
// BELOW_THRESHOLD.
//
// Peers without this layer send what the server then refuses, and get room that
// those with it leave: use it where all clients do. On a server the layer does
// nothing.
func Threshold() Layer {
	targets := &thresholds{}
	return func(inner Service) Service { return &thresholdService{inner, targets} }
}

type thresholdService struct {
	Service

	targets *thresholds
}

func (s *thresholdService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.Side == SideServer {
		return s.Service.Call(ctx, rpc)
	}
	known := s.targets.of(rpc.end().target())
	level := criticality.Critical
	if known.Limiting() {
		level = levelSent(ctx, rpc)
	}
	if err := known.Admit(level); err != nil {
		return nil, err
	}
	return learnFrom(ctx, rpc, s.Service, known)
}

// answerIn is what the answer to rpc with this trailer says.
func answerIn(ctx context.Context, rpc *RPC, trailer metadata.MD) throttle.Answer {
	a := throttle.Answer{Threshold: thresholdIn(trailer)}
	if len(trailer[criticality.ThresholdKey]) == 0 {
		return a
	}
	a.Sent = levelSent(ctx, rpc)
	a.Given = a.Sent
	if given := trailer[criticality.Key]; len(given) == 1 {
		if level, ok := criticality.Parse(given[0]); ok {
			a.Given = level
		}
	}
	return a
}

// withTrailer returns a copy of rpc, of a client, and where its trailer is when the
// copy's Call has returned.
func withTrailer(rpc *RPC) (*RPC, *metadata.MD) {
	c := &struct {
		RPC
		extra   extra
		trailer metadata.MD
		option  [1]grpc.CallOption
	}{RPC: *rpc}
	if rpc.more != nil {
		c.extra = *rpc.more
		c.extra.shared = false
	}
	c.more = &c.extra
	if rpc.Kind != KindUnary {
		c.extra.trailer = &c.trailer
		return &c.RPC, &c.trailer
	}
	c.option[0] = grpc.Trailer(&c.trailer)
	if len(c.extra.options) > 0 {
		c.extra.options = append(slices.Clip(c.extra.options), c.option[0])
	} else {
		c.extra.options = c.option[:]
	}
	return &c.RPC, &c.trailer
}

// levelSent is the level that goes over the wire with rpc.
func levelSent(ctx context.Context, rpc *RPC) criticality.Level {
	if sent := metadata.ValueFromOutgoingContext(ctx, criticality.Key); len(sent) == 1 {
		if level, ok := criticality.Parse(sent[0]); ok {
			return level
		}
	}
	level := criticality.From(ctx)
	if rpc.Attempt > 0 {
		level = level.Lower()
	}
	return level
}

// answered reports whether an RPC that ended with err and trailer was answered by a
// server.
func answered(ctx context.Context, err error, trailer metadata.MD) bool {
	switch {
	case err == nil || len(trailer) > 0:
		return true
	case ctx.Err() != nil:
		return false
	}
	code := Code(err)
	return code != codes.Unavailable && code != codes.Canceled && code != codes.DeadlineExceeded && Classify(ctx, nil, nil, err) != turret.Unused
}

// thresholdIn returns the threshold in trailer: the least if there are several, of
// several gates, and criticality.Levels if there is none. What is no number says
// nothing.
func thresholdIn(trailer metadata.MD) float64 {
	least := float64(criticality.Levels)
	for _, text := range trailer[criticality.ThresholdKey] {
		if len(text) > mostDigits {
			continue
		}
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
			least = min(least, v)
		}
	}
	return max(least, 0)
}

// mostDigits is how long a threshold may be.
const mostDigits = 16

// thresholds has what is known of each target.
type thresholds struct {
	last atomic.Pointer[targetThreshold] // most layers have one target

	mu     sync.Mutex
	known  map[string]*targetThreshold
	others *throttle.Threshold // of targets beyond mostTargets
}

type targetThreshold struct {
	target string
	*throttle.Threshold
}

const mostTargets = 64

// of returns what is known of target.
func (t *thresholds) of(target string) *throttle.Threshold {
	if last := t.last.Load(); last != nil && last.target == target {
		return last.Threshold
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.known[target]
	switch {
	case ok:
	case len(t.known) >= mostTargets:
		if t.others == nil {
			t.others = throttle.NewThreshold()
		}
		return t.others
	default:
		if t.known == nil {
			t.known = map[string]*targetThreshold{}
		}
		known = &targetThreshold{target, throttle.NewThreshold()}
		t.known[target] = known
	}
	t.last.Store(known)
	return known.Threshold
}

// all returns what is known, in the order of the targets.
func (t *thresholds) all() []*targetThreshold {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*targetThreshold
	for _, target := range slices.Sorted(maps.Keys(t.known)) {
		all = append(all, t.known[target])
	}
	if t.others != nil {
		all = append(all, &targetThreshold{"other targets", t.others})
	}
	return all
}

// Describe says what is known of the target.
func (t *targetThreshold) Describe(d *turret.Description) {
	d.Named(t.target)
	d.Forward(t.Threshold)
}

// String returns what is known of each target, in one line.
func (s *thresholdService) String() string {
	all := s.targets.all()
	if len(all) == 0 {
		return throttle.NewThreshold().String()
	}
	texts := make([]string, len(all))
	for i, known := range all {
		texts[i] = known.String()
		if len(all) > 1 {
			texts[i] += " to " + known.target
		}
	}
	return strings.Join(texts, "; ")
}

// Describe says what is known of the target, or of each if there are several.
func (s *thresholdService) Describe(d *turret.Description) {
	switch all := s.targets.all(); len(all) {
	case 0:
		d.Forward(throttle.NewThreshold())
	case 1:
		d.Forward(all[0].Threshold)
	default:
		d.Is("thresholds", "thresholds of several servers")
		for _, known := range all {
			d.Inside(known)
		}
	}
}
