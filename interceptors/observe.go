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
	// the name of the status code it follows; of a timeout, TIMEOUT. Hedges and
	// panics have none.
	Reason string
	// Attempt is the number of the attempt that will follow a retry, or that a
	// hedge started: 1 for the first one after the original.
	Attempt int
	// Delay is how long a retry waits before it is sent; of a refusal, after how
	// long it says to try again, 0 if it does not.
	Delay time.Duration
	// Err is the error of the refusal, of the attempt that is retried, of the
	// timeout; of a panic, the INTERNAL that a Recover makes of it; nil of a hedge.
	Err error
	// Panic is the value of a panic that was caught; nil if it went on.
	Panic any
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
	return slog.GroupValue(attrs...)
}

// observer is a list of the observers of events, the innermost first. An entry
// either takes them, or gives them another name on their way out.
type observer struct {
	tell  func(ctx context.Context, e *Event)
	named *namedService
	outer *observer
}

// tell tells e, which must not be used afterwards, to the observers of r.
func (r *RPC) tell(ctx context.Context, e *Event) {
	if r.more == nil {
		return
	}
	e.RPC = r
	for o := r.more.observer; o != nil; o = o.outer {
		if o.named != nil {
			o.named.tells(e)
		} else {
			o.tell(ctx, e)
		}
	}
}

// without returns o without the entry of n.
func (o *observer) without(n *namedService) *observer {
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

// observed returns a copy of r with one more observer, the innermost.
func (r *RPC) observed(tell func(ctx context.Context, e *Event)) *RPC {
	return r.with(func(x *extra) { x.observer = &observer{tell: tell, outer: x.observer} })
}

// Observe returns a [Layer] that tells f what happens inside it: refusals,
// retries with their reason and delay, hedges, timeouts, panics. It is the hook
// for metrics and logs. f is called on the goroutine of the RPC, or of a hedge of
// it, with no lock held, may be called concurrently, and should not wait. It panics if f is nil.
//
// A refusal is reported once: when it leaves the layer, or when a retry or hedge
// inside the layer takes its place. Put Observe outside of what it is to see.
func Observe(f func(ctx context.Context, e Event)) Layer {
	if f == nil {
		misused("Observe", "function", nil, "non-nil")
	}
	tell := func(ctx context.Context, e *Event) { f(ctx, *e) }
	return func(inner Service) Service { return &observeService{inner, tell} }
}

type observeService struct {
	Service

	tell func(ctx context.Context, e *Event)
}

func (s *observeService) Call(ctx context.Context, rpc *RPC) (any, error) {
	returned := false
	defer func() {
		if !returned {
			s.tell(ctx, &Event{Kind: EventPanic, RPC: rpc, Err: errPanic})
		}
	}()
	reply, err := s.Service.Call(ctx, rpc.observed(s.tell))
	returned = true
	if e, ok := refusedEvent(err); ok {
		e.RPC = rpc
		s.tell(ctx, &e)
	}
	return reply, err
}

func (s *observeService) String() string { return "observe" }

// refusedEvent returns the event that tells of the refusal in err, if there is
// one.
func refusedEvent(err error) (Event, bool) {
	if err == nil {
		return Event{}, false
	}
	r, ok := errors.AsType[*turret.Refusal](err)
	if !ok {
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
