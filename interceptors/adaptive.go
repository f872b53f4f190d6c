package interceptors

import (
	"context"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/internal/misuse"
)

// AdaptiveLimit returns a [Layer] that has as many RPCs inside at a time as the
// handlers can make use of, and finds that number by itself. RPCs beyond it wait
// for a moment, the most critical first. It is AdmitAdaptive(adaptive.New(c)), and
// panics with the error of c.Validate if there is one.
//
// The level of an RPC is that of its context: put a [Criticality] outside. It
// refuses with RESOURCE_EXHAUSTED and reason QUEUE_TIMEOUT or DEADLINE_NEAR.
func AdaptiveLimit(c adaptive.Config, o ...GateOption) Layer {
	misuse.Check("interceptors: AdaptiveLimit", c.Validate())
	return AdmitAdaptive(adaptive.New(c), o...)
}

// AdmitAdaptive returns a [Layer] that lets RPCs pass through l, and tells l how
// each unary RPC went, as [Classify] or [ClassifiedBy] says. A stream waits its
// turn as a unary RPC does, and then holds no place: how long it lives says nothing
// of how busy the handlers are. Put a [ConcurrencyLimit] for streams beside it to
// bound their number. It panics if l is nil.
//
// [Admit] with the same gate lets a stream hold a place until it is over, and
// takes its life for a latency. That is right for streams that are short and work
// all the time.
func AdmitAdaptive(l *adaptive.Limit, o ...GateOption) Layer {
	if l == nil {
		misused("AdmitAdaptive", "limit", nil, "non-nil")
	}
	gated := Admit(l, o...)
	return func(inner Service) Service { return &adaptiveService{gated(inner), inner, l} }
}

// adaptiveService is the gate around unary RPCs, and a turnstile for streams.
type adaptiveService struct {
	Service // the gate, around inner

	inner Service
	gate  *adaptive.Limit
}

func (s *adaptiveService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.Kind == KindUnary {
		return s.Service.Call(ctx, rpc)
	}
	ticket, err := s.gate.Enter(ctx)
	if err != nil {
		return nil, err
	}
	s.gate.Leave(ticket, turret.Unused)
	return s.inner.Call(ctx, rpc)
}

func (s *adaptiveService) String() string { return s.gate.String() }

// Describe says what the gate says.
func (s *adaptiveService) Describe(d *turret.Description) { d.Forward(s.gate) }
