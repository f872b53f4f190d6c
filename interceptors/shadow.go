package interceptors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turret-go/turret"
)

// Shadow returns a [Layer] that asks g what it would do with each RPC and lets
// all of them pass: a limit, a rate or a breaker that is tried before it is
// enforced. An RPC that finds room is inside g until it has ended, and g gets its
// outcome by [Classify]. An RPC that g would refuse goes on outside of g: a
// refused RPC would not be inside either. It is counted by g as refused, and
// observers get an [EventShadow] with the refusal's reason.
//
// g is asked with TryEnter, so RPCs never wait in its line, and those that would
// have waited count as refused. Its Ready is that of what is inside it. It panics
// as [Admit] does.
func Shadow(g turret.Gate) Layer {
	_ = Admit(g) // panics for what is no gate
	return func(inner Service) Service { return &shadowService{inner, g} }
}

type shadowService struct {
	Service

	gate turret.Gate
}

// Leave runs on every way out, with Failure where the call panicked, as for a gate that
// is enforced: the gate learns the same either way.
func (s *shadowService) Call(ctx context.Context, rpc *RPC) (reply any, err error) {
	ticket, refused := s.gate.TryEnter(ctx)
	if refused != nil {
		rpc.tell(ctx, shadowEvent(refused))
		return s.Service.Call(ctx, rpc)
	}
	outcome := turret.Failure // unless the call returns
	defer func() { s.gate.Leave(ticket, outcome) }()
	reply, err = s.Service.Call(ctx, rpc)
	if err != nil && errors.Is(err, turret.ErrNotReady) {
		outcome = turret.Unused
	} else {
		outcome = Classify(ctx, rpc, reply, err)
	}
	return reply, err
}

// shadowEvent returns the event of a refusal that was not enforced.
func shadowEvent(err error) *Event {
	e := &Event{Kind: EventShadow, Layer: "shadow", Err: err}
	if r, ok := errors.AsType[*turret.Refusal](err); ok {
		e.Layer, e.Reason, e.Delay = r.Layer, r.Reason, r.RetryAfter
	}
	return e
}

func (s *shadowService) String() string {
	if g, ok := s.gate.(fmt.Stringer); ok {
		return "shadow of " + g.String()
	}
	return fmt.Sprintf("shadow of %T", s.gate)
}

// ShadowTimeout returns a [Layer] that measures which RPCs a [Timeout] of d would
// have ended, and ends none. Observers get an [EventShadow] with reason TIMEOUT
// when such an RPC has ended; one whose own deadline is earlier is not counted. It
// panics if d <= 0.
func ShadowTimeout(d time.Duration) Layer {
	if d <= 0 {
		panic(fmt.Errorf("interceptors: ShadowTimeout: %w", &turret.FieldError{Field: "d", Value: d, Bound: "positive"}))
	}
	return func(inner Service) Service { return &shadowTimeout{inner, d} }
}

type shadowTimeout struct {
	Service

	d time.Duration
}

// Call needs no timer: how long the RPC took is known at its end. An RPC whose own
// deadline is earlier would have been ended by that.
func (s *shadowTimeout) Call(ctx context.Context, rpc *RPC) (any, error) {
	start := time.Now()
	reply, err := s.Service.Call(ctx, rpc)
	if took := time.Since(start); took >= s.d {
		if deadline, ok := ctx.Deadline(); !ok || deadline.Sub(start) >= s.d {
			rpc.tell(ctx, &Event{Kind: EventShadow, Layer: "timeout", Reason: reasonTimeout})
		}
	}
	return reply, err
}

func (s *shadowTimeout) String() string { return fmt.Sprintf("shadow of timeout %v", s.d) }

// Describe describes the gate, of which nothing is enforced.
func (s *shadowService) Describe(d *turret.Description) {
	d.Is("shadow", "shadow")
	d.Inside(s.gate)
}

// Describe says which RPCs are measured.
func (s *shadowTimeout) Describe(d *turret.Description) {
	d.Is("shadow", s.String())
	d.Setting("timeout", "s", s.d)
}
