package turret

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// A Gate decides whether a call may start, and Leave takes how it went. It knows
// nothing of requests, so one Gate may guard services of different types, and a
// balancer may keep one for each endpoint. Its methods may be called
// concurrently.
//
// [Gated] makes a Layer of a Gate. Most code never calls a Gate itself.
type Gate interface {
	// Ready waits until there was room a moment ago. It takes nothing and holds
	// no place in the line. With a ctx that is done it answers at once: nil, or
	// an error that matches ErrNotReady. An error that matches neither
	// ErrNotReady nor ctx's error is final: there will never be room again.
	Ready(ctx context.Context) error

	// Enter takes room, waiting in line as long as the gate allows. It returns
	// a *Refusal when the gate turns the call away (line full, time in line
	// over, breaker open), and an error that matches both ctx's error and
	// ErrNotReady when ctx ends first. It holds nothing when it returns an
	// error.
	Enter(ctx context.Context) (Ticket, error)

	// TryEnter takes room that is free now, or refuses. It never waits and
	// never overtakes calls that wait in line. ctx carries on whose behalf the
	// call is made (a tenant, a priority); whether ctx is done does not matter.
	TryEnter(ctx context.Context) (Ticket, error)

	// Leave gives back the room that t stands for and says how the call went.
	// It is called exactly once for each success of Enter and TryEnter, on any
	// goroutine, and does not wait. Room that is given back goes to the head of
	// the line at once.
	Leave(t Ticket, o Outcome)
}

// A Ticket is what a [Gate] wants to remember of one call between Enter and
// Leave. Only the Gate reads and changes it. It is
// a plain value, so that entering a gate need not allocate.
type Ticket struct {
	Start int64  // an instant on the gate's own clock
	Data  uint64 // a number, such as a generation
	Ref   any    // a pointer
}

// Gated returns a [Layer] that lets calls pass through g: Enter, the inner
// call, Leave. Ready asks g, then the inner service.
//
// classify says how a call went; nil means [Classify]. It may be called
// concurrently. An error that matches [ErrNotReady] is [Unused] without asking
// it. Leave runs on every way out of the call: a panic or runtime.Goexit below,
// or in classify, is a [Failure] and goes on.
//
// Gated panics if g is nil, and if a nil pointer, function or channel is in it,
// such as a *limit.Concurrency that was never made: it would fail at the first
// call. A nil slice or map is an empty one, and may well be a gate. Where there
// is to be no gate, leave the layer out: [Stack] skips a nil one.
func Gated[Req, Res any](g Gate, classify func(ctx context.Context, req Req, res Res, err error) Outcome) Layer[Req, Res] {
	if g == nil {
		misused("Gated", "gate", nil, "non-nil")
	}
	switch v := reflect.ValueOf(g); v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Chan:
		if v.IsNil() {
			misused("Gated", "gate", g, "non-nil")
		}
	default:
	}
	if classify == nil {
		classify = func(ctx context.Context, _ Req, _ Res, err error) Outcome { return Classify(ctx, err) }
	}
	return func(inner Service[Req, Res]) Service[Req, Res] {
		return &gated[Req, Res]{inner, g, classify}
	}
}

type gated[Req, Res any] struct {
	Service[Req, Res]

	gate     Gate
	classify func(ctx context.Context, req Req, res Res, err error) Outcome
}

func (s *gated[Req, Res]) Ready(ctx context.Context) error {
	if err := s.gate.Ready(ctx); err != nil {
		return err
	}
	return s.Service.Ready(ctx)
}

func (s *gated[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	ticket, err := s.gate.Enter(ctx)
	if err != nil {
		return res, err
	}
	outcome := Failure // unless the call and classify return
	defer func() { s.gate.Leave(ticket, outcome) }()
	res, err = s.Service.Call(ctx, req)
	if err != nil && errors.Is(err, ErrNotReady) {
		outcome = Unused
		return res, err
	}
	outcome = s.classify(ctx, req, res, err)
	return res, err
}

// String returns the gate's String, so that a stack can be printed with the
// state of its gates, or its type if it has none: fmt would read the fields of a
// gate that is in use.
func (s *gated[Req, Res]) String() string {
	if g, ok := s.gate.(fmt.Stringer); ok {
		return g.String()
	}
	return fmt.Sprintf("%T", s.gate)
}

// Describe says what the gate says.
func (s *gated[Req, Res]) Describe(d *Description) { d.Forward(s.gate) }

// Gate returns the gate.
func (s *gated[Req, Res]) Gate() Gate { return s.gate }
