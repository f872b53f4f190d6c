package alarm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/misuse"
)

// Config says how an [Alarm] works. The zero value is a good default.
type Config struct {
	// Relearn is how long calls may take far longer than they did until that has
	// become ordinary, and the alarm ends. 0 means 5 min; not negative.
	Relearn time.Duration
	// MaxWatchers is how many streams of clients there may be at a time; more are
	// refused with RESOURCE_EXHAUSTED, and clients then ask again some minutes
	// later. 0 means 10,000; not negative.
	MaxWatchers int
}

// Defaults of [Config].
const (
	defaultRelearn  = 5 * time.Minute
	defaultWatchers = 10_000
)

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Relearn < 0:
		return &turret.FieldError{Package: "alarm", Field: "Relearn", Value: c.Relearn, Bound: fmt.Sprintf("at least 0 (0 means %v)", defaultRelearn)}
	case c.MaxWatchers < 0:
		return &turret.FieldError{Package: "alarm", Field: "MaxWatchers", Value: c.MaxWatchers, Bound: fmt.Sprintf("at least 0 (0 means %d)", defaultWatchers)}
	}
	return nil
}

// An Alarm measures one server and says to its clients when it is sick: see the
// package documentation. [New] makes one, for one server. [Alarm.Layer] and
// [Alarm.Register] are both needed. Its methods may be called concurrently.
type Alarm struct {
	base     time.Time
	health   health
	watchers watchers
}

// New returns an [Alarm] that knows nothing yet. It panics with the error of
// [Config.Validate] if c is not valid. Nothing runs until a client watches.
func New(c Config) *Alarm {
	misuse.Check("alarm: New", c.Validate())
	a := &Alarm{base: time.Now()}
	if c.Relearn == 0 {
		c.Relearn = defaultRelearn
	}
	if c.MaxWatchers == 0 {
		c.MaxWatchers = defaultWatchers
	}
	a.health.relearn = int64(c.Relearn)
	a.watchers.most = c.MaxWatchers
	return a
}

func (a *Alarm) now() int64 { return int64(time.Since(a.base)) }

// Stats says what an [Alarm] has measured.
type Stats struct {
	Sick     bool
	Latency  time.Duration // how long a call takes now; 0 if nothing was measured
	Typical  time.Duration // how long it ordinarily takes; 0 if that is not known
	Watchers int           // streams of clients
	Refused  uint64        // streams that were one too many
}

// Stats returns a snapshot of a.
func (a *Alarm) Stats() Stats {
	r := a.health.look(a.now())
	watchers, refused := a.watchers.count()
	return Stats{r.sick, r.latency, r.typical, watchers, refused}
}

// String returns the state of a in words.
func (a *Alarm) String() string {
	s := a.Stats()
	return fmt.Sprintf("alarm: %s, %v a call, ordinarily %v, %d watch", s.state(), s.Latency, s.Typical, s.Watchers)
}

func (s Stats) state() string {
	if s.Sick {
		return "sick"
	}
	return "well"
}

// Describe describes a.
func (a *Alarm) Describe(d *turret.Description) {
	s := a.Stats()
	d.Is("alarm", "alarm")
	d.State("state", s.state())
	d.Gauge("latency", "s", s.Latency.Seconds())
	d.Gauge("typical", "s", s.Typical.Seconds())
	d.Gauge("watchers", "{stream}", float64(s.Watchers))
	d.Count("refused", "{stream}", "", s.Refused)
}

// Layer returns the layer by which a measures the unary RPCs of its server, for the
// stack of that server. Put it outermost, so that waiting in lines counts. Streams,
// RPCs of a client and health checks pass through unmeasured. An RPC costs two
// readings of the clock and no allocation.
func (a *Alarm) Layer() interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return &service{inner, a} }
}

type service struct {
	interceptors.Service

	alarm *Alarm
}

// healthPrefix begins the methods of health checks, which are answered by a server
// whose other calls hang.
const healthPrefix = "/grpc.health.v1.Health/"

// Call measures a call, however it ends: a panic is a call that was not answered.
func (s *service) Call(ctx context.Context, rpc *interceptors.RPC) (reply any, err error) {
	if rpc.Kind != interceptors.KindUnary || rpc.Side != interceptors.SideServer || strings.HasPrefix(rpc.Method, healthPrefix) {
		return s.Service.Call(ctx, rpc)
	}
	a := s.alarm
	start := a.now()
	a.health.start(start)
	v := atLeast
	defer func() { a.health.done(a.now(), start, v) }()
	reply, err = s.Service.Call(ctx, rpc)
	v = judge(ctx, rpc, reply, err)
	return reply, err
}

// judge says what the end of a call shows.
func judge(ctx context.Context, rpc *interceptors.RPC, reply any, err error) verdict {
	switch {
	case errors.Is(err, turret.ErrNotReady):
		return nothing
	case interceptors.Classify(ctx, rpc, reply, err) == turret.Success:
		return answered
	case ctx.Err() != nil:
		return atLeast
	default:
		return failed
	}
}

func (s *service) String() string { return s.alarm.String() }

func (s *service) Describe(d *turret.Description) { s.alarm.Describe(d) }
