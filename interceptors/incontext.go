package interceptors

import (
	"context"

	"github.com/turret-go/turret"
)

type rpcKey struct{}

// InContext returns a [Layer] that puts the RPC into the context, for
// [FromContext] in handlers, loggers and whatever else runs inside it. It
// costs one allocation an RPC.
func InContext() Layer {
	return func(inner Service) Service { return &inContextService{inner} }
}

type inContextService struct{ Service }

func (s *inContextService) Call(ctx context.Context, rpc *RPC) (any, error) {
	return s.Service.Call(context.WithValue(ctx, rpcKey{}, rpc), rpc)
}

func (s *inContextService) String() string { return "in context" }

// FromContext returns a copy of the RPC that ctx belongs to, if an [InContext]
// layer put it there. Changes to the copy have no effect, and the copy cannot
// be passed to a service.
func FromContext(ctx context.Context) (RPC, bool) {
	rpc, ok := ctx.Value(rpcKey{}).(*RPC)
	if !ok {
		return RPC{}, false
	}
	c := *rpc
	c.leaf, c.more = nil, nil
	return c, true
}

// Describe says that RPCs are put into their contexts.
func (s *inContextService) Describe(d *turret.Description) { d.Is("in_context", s.String()) }
