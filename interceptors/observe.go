package interceptors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/boundedmap"
)

// EventKind says what an [Event] tells of.
type EventKind uint8

// The kinds of event. The zero value is none of them.
const (
	// EventRefused: a layer turned the RPC, or an attempt of it, away.
	EventRefused EventKind = iota + 1
	// EventRetry: the RPC will be tried again after Delay.
	EventRetry
	// EventHedge: a further attempt was started beside those that run.
	EventHedge
	// EventTimeout: a Timeout ended the RPC or the attempt.
	EventTimeout
	// EventPanic: a panic was caught, or a panic or runtime.Goexit passed.
	EventPanic
	// EventShadow: a layer that is only tried, [Shadow] or [ShadowTimeout], would
	// have refused or ended the RPC.
	EventShadow
	// EventWarning: something is most likely a mistake: a layer that acts on the
	// other side only, a stack on both sides, a pattern for a method that does
	// not exist. It comes once for each layer or stack; Err says what to do.
	EventWarning
	// EventEnd: the RPC, or the attempt, has ended. It comes last, after a
	// success too.
	EventEnd
)

// String returns the name of k in lower case.
func (k EventKind) String() string {
	switch k {
	case EventRefused:
		return "refused"
	case EventRetry:
		return "retry"
	case EventHedge:
		return "hedge"
	case EventTimeout:
		return "timeout"
	case EventPanic:
		return "panic"
	case EventShadow:
		return "shadow"
	case EventWarning:
		return "warning"
	case EventEnd:
		return "end"
	default:
		return fmt.Sprintf("EventKind(%d)", uint8(k))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown kind is EventKind(9).
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// An Event is something that happened to an RPC inside an [Observe] layer. slog
// writes it as a group, without the request: slog.Any("event", e).
type Event struct {
	Kind EventKind
	// RPC is the RPC as the layer that tells of the event sees it. It is
	// read-only, and valid while the function runs.
	RPC *RPC
	// Layer is the name of the layer where it happened: "limit", "retry", or
	// the name given with [Named]. A panic that went on has none.
	Layer string
	// Reason is the reason of a refusal; of a retry, that of the refusal or else
	// the name of the status code it follows; of a timeout, TIMEOUT. Hedges,
	// panics and ends have none.
	Reason string
	// Attempt is the number of the attempt that will follow a retry, or that a
	// hedge started: 1 for the first one after the original.
	Attempt int
	// Delay is how long a retry waits before it is sent; of a refusal, after how
	// long it says to try again, 0 if it does not.
	Delay time.Duration
	// Err is the error of the refusal, of the attempt that is retried, of the
	// timeout; of a panic, the INTERNAL that a Recover makes of it; of an end, what
	// the layer returned, nil for a success; nil of a hedge.
	Err error
	// Panic is the value of a panic that was caught; nil if it went on.
	Panic any
	// Took, Code and Outcome are of an end: how long the RPC took, the code of
	// its status as far as layers outside leave it alone, and what [Classify]
	// says of it. After a panic or runtime.Goexit that passed they are INTERNAL
	// and Failure.
	Took    time.Duration
	Code    codes.Code
	Outcome turret.Outcome
}

// LogValue returns what there is to log of e, for slog. What is zero is left out,
// and so is the request: see [RPC.LogValue].
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("kind", e.Kind.String())}
	if e.RPC != nil {
		attrs = append(attrs, slog.Any("rpc", e.RPC))
	}
	if e.Layer != "" {
		attrs = append(attrs, slog.String("layer", e.Layer))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	if e.Attempt != 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Delay != 0 {
		attrs = append(attrs, slog.Duration("delay", e.Delay))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("err", e.Err))
	}
	if e.Panic != nil {
		attrs = append(attrs, slog.String("panic", fmt.Sprint(e.Panic)))
	}
	if e.Kind == EventEnd {
		attrs = append(attrs, slog.Duration("took", e.Took),
			slog.String("code", codeName(e.Code)), slog.String("outcome", e.Outcome.String()))
	}
	return slog.GroupValue(attrs...)
}

// An eventNamer gives the events of one layer its name: see [Named].
type eventNamer interface{ tells(e *Event) }

// observer is a list of the observers of events, the innermost first. An entry
// either takes them, or gives them another name on their way out.
type observer struct {
	tell  func(ctx context.Context, e *Event)
	named eventNamer
	outer *observer
}

// has reports whether o has an entry of n.
func (o *observer) has(n eventNamer) bool {
	for ; o != nil; o = o.outer {
		if o.named == n {
			return true
		}
	}
	return false
}

// without returns o without the entry of n.
func (o *observer) without(n eventNamer) *observer {
	switch {
	case o == nil:
		return nil
	case o.named == n:
		return o.outer
	}
	outer := o.outer.without(n)
	if outer == o.outer {
		return o
	}
	return &observer{o.tell, o.named, outer}
}

// Observe returns a [Layer] that tells f what happens inside it: refusals,
// retries with their reason and delay, hedges, timeouts, panics, and the end of
// each RPC with its duration, code and outcome. It is the hook for metrics and
// logs; [Log] makes an f. f is called on the goroutine of the RPC, or of a hedge
// of it, with no lock held, may be called concurrently, and should not wait. It
// panics if f is nil.
//
// A refusal is reported once: when it leaves the layer, or when a retry or hedge
// inside the layer takes its place. Put Observe outside of what it is to see.
// Outside [Retry] an end is that of the RPC, inside it that of each attempt.
//
// An RPC that succeeds costs one allocation and two readings of the clock.
func Observe(f func(ctx context.Context, e Event)) Layer {
	if f == nil {
		misused("Observe", "function", nil, "non-nil")
	}
	tell := func(ctx context.Context, e *Event) { f(ctx, *e) }
	return func(inner Service) Service {
		return &observeService{Service: inner, f: f, add: func(x *extra) { x.observer = &observer{tell: tell, outer: x.observer} }}
	}
}

// An observeService belongs to one stack; f is shared by all stacks that the layer is
// used in.
type observeService struct {
	Service

	f        func(ctx context.Context, e Event)
	add      func(*extra) // adds f to the observers
	observed derivation
}

func (s *observeService) Call(ctx context.Context, rpc *RPC) (reply any, err error) {
	start := time.Now()
	returned := false
	defer func() {
		if !returned {
			err = errPanic
			s.f(ctx, Event{Kind: EventPanic, RPC: rpc, Err: err})
		} else if e, ok := refusedEvent(err); ok {
			e.RPC = rpc
			s.f(ctx, e)
		}
		s.f(ctx, endOf(ctx, rpc, err, time.Since(start), returned))
	}()
	reply, err = s.Service.Call(ctx, s.observed.of(rpc, s.add))
	returned = true
	return reply, err
}

func (s *observeService) String() string { return "observe" }

// endOf returns the event of an RPC that ended with err.
// Classify is asked only if the layers returned: a panic is a failure whatever it was.
func endOf(ctx context.Context, rpc *RPC, err error, took time.Duration, returned bool) Event {
	e := Event{Kind: EventEnd, RPC: rpc, Err: err, Took: took, Outcome: turret.Failure}
	if err != nil {
		e.Code = Code(err)
	}
	if returned {
		e.Outcome = Classify(ctx, rpc, nil, err)
	}
	return e
}

// A derivation makes copies of RPCs that have something more in their extra. If
// the extra of an RPC is none, or one that many RPCs share, then so is that of the
// copy, and it is made once.
type derivation struct {
	made boundedmap.Map[*extra, *extra]
}

// of returns a copy of r whose extra was changed by set, which must change it in
// the same way each time.
// Nearly all RPCs come with the same few extras, so that of allocates the copy of the
// RPC and nothing else. The map is bounded: an extra that a layer makes anew for each
// RPC is not marked as shared, and does not enter it.
func (d *derivation) of(r *RPC, set func(*extra)) *RPC {
	if r.more != nil && !r.more.shared {
		return r.with(set)
	}
	more, ok := d.made.Load(r.more)
	if !ok {
		more = d.made.Get(r.more, func(was *extra) *extra {
			x := new(extra)
			if was != nil {
				*x = *was
			}
			set(x)
			x.shared = true
			return x
		})
	}
	c := *r
	c.more = more
	return &c
}

// refusedEvent returns the event that tells of the refusal in err, if there is
// one that was not reported before.
func refusedEvent(err error) (Event, bool) {
	if err == nil {
		return Event{}, false
	}
	r, ok := errors.AsType[*turret.Refusal](err)
	if !ok {
		return Event{}, false
	}
	if _, before := errors.AsType[reportedError](err); before {
		return Event{}, false
	}
	return Event{Kind: EventRefused, Layer: r.Layer, Reason: r.Reason, Delay: r.RetryAfter, Err: err}, true
}

// reasonOf says in one word why an attempt failed: the reason of the refusal,
// or the name of its code.
func reasonOf(err error) string {
	if r, ok := errors.AsType[*turret.Refusal](err); ok {
		return r.Reason
	}
	return codeName(Code(err))
}

// codeName returns the name of c as the gRPC specification writes it.
func codeName(c codes.Code) string { return code.Code(c).String() }

// Describe says that RPCs are observed.
func (s *observeService) Describe(d *turret.Description) { d.Is("observe", s.String()) }
