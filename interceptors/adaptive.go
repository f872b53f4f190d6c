package interceptors

import (
	"context"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/criticality"
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
// On a server that is full the trailer criticality.ThresholdKey says which levels
// are worth sending (Threshold of l), for the [Threshold] of clients. If the peer
// claimed a level that [Criticality] does not allow it, the trailer criticality.Key
// says which level it was given.
//
// [Admit] with the same gate lets a stream hold a place until it is over, and
// takes its life for a latency. That is right for streams that are short and work
// all the time.
func AdmitAdaptive(l *adaptive.Limit, o ...GateOption) Layer {
	if l == nil {
		misused("AdmitAdaptive", "limit", nil, "non-nil")
	}
	gated := Admit(l, o...)
	return func(inner Service) Service { return &adaptiveService{Service: gated(inner), inner: inner, gate: l} }
}

// adaptiveService is the gate around unary RPCs, and a turnstile for streams.
type adaptiveService struct {
	Service // the gate, around inner

	inner Service
	gate  *adaptive.Limit
	said  atomic.Pointer[saidThreshold]
}

// saidThreshold is a threshold as a trailer.
type saidThreshold struct {
	value   float64
	trailer metadata.MD
}

func (s *adaptiveService) Call(ctx context.Context, rpc *RPC) (any, error) {
	reply, err := s.pass(ctx, rpc)
	if v := s.gate.Threshold(); v < criticality.Levels && rpc.Side == SideServer {
		_ = grpc.SetTrailer(ctx, s.trailer(ctx, v)) // fails only outside a real RPC
	}
	return reply, err
}

func (s *adaptiveService) pass(ctx context.Context, rpc *RPC) (any, error) {
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

// trailer returns the trailer that says v to the peer of the RPC of ctx. It is made
// once for all RPCs that get the same, because v moves slowly and there are many of
// them under overload.
func (s *adaptiveService) trailer(ctx context.Context, v float64) metadata.MD {
	level, reduced := reducedClaim(ctx)
	if said := s.said.Load(); !reduced && said != nil && said.value == v {
		return said.trailer
	}
	md := metadata.Pairs(criticality.ThresholdKey, strconv.FormatFloat(v, 'f', 3, 64))
	if reduced {
		md.Set(criticality.Key, level.String())
		return md
	}
	s.said.Store(&saidThreshold{v, md})
	return md
}

// reducedClaim returns the level of ctx, and whether the peer claimed a more
// critical one.
func reducedClaim(ctx context.Context) (criticality.Level, bool) {
	given := criticality.From(ctx)
	claims := metadata.ValueFromIncomingContext(ctx, criticality.Key)
	if len(claims) != 1 {
		return given, false
	}
	claimed, ok := criticality.Parse(claims[0])
	return given, ok && claimed < given
}

func (s *adaptiveService) String() string { return s.gate.String() }

// Describe says what the gate says.
func (s *adaptiveService) Describe(d *turret.Description) { d.Forward(s.gate) }
