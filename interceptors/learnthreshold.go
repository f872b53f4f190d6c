package interceptors

import (
	"context"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/throttle"
)

// LearnThreshold returns a [Layer] for clients that sends everything, and tells t
// what the server admits now, as [Threshold] learns it for itself. It is for a server
// that works for an RPC before it calls the server behind: with Admit(t) in its own
// stack it turns away at its door, before that work, what the server behind does not
// admit. t is a gate that goes by the level of the context, so both stacks need a
// [Criticality] outside:
//
//	behind := throttle.NewThreshold()
//	server := interceptors.New(interceptors.Recover(), interceptors.Criticality(interceptors.CriticalityConfig{}),
//		interceptors.For("/shop.v1.Shop/Buy", interceptors.Admit(behind)))
//	client := interceptors.New(interceptors.Criticality(interceptors.CriticalityConfig{}), interceptors.LearnThreshold(behind))
//
// Put Admit(t) around the methods that need the server behind, and no other. Do not
// put Threshold into the same client: a level of which a part is admitted would be
// thinned out twice. All RPCs of the layer must be for one server, or for servers that
// are alike. On a server the layer does nothing. It panics if t is nil.
func LearnThreshold(t *throttle.Threshold) Layer {
	if t == nil {
		misused("LearnThreshold", "threshold", nil, "non-nil")
	}
	return func(inner Service) Service { return &learningService{inner, t} }
}

type learningService struct {
	Service

	known *throttle.Threshold
}

func (s *learningService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.Side == SideServer {
		return s.Service.Call(ctx, rpc)
	}
	return learnFrom(ctx, rpc, s.Service, s.known)
}

// learnFrom makes an RPC and tells known what its answer says.
func learnFrom(ctx context.Context, rpc *RPC, inner Service, known *throttle.Threshold) (any, error) {
	asking, trailer := withTrailer(rpc)
	reply, err := inner.Call(ctx, asking)
	if outside := rpc.more; outside != nil && outside.trailer != nil {
		*outside.trailer = *trailer // a layer outside learns from it too
	}
	if answered(ctx, err, *trailer) {
		known.Learn(answerIn(ctx, rpc, *trailer))
	}
	return reply, err
}

func (s *learningService) String() string { return "learns the threshold of the server" }

// Describe says that the layer is there. What it has learnt is described by the gate.
func (s *learningService) Describe(d *turret.Description) { d.Is("learn_threshold", s.String()) }
