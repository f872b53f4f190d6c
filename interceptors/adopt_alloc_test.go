package interceptors

import (
	"context"
	"testing"

	"google.golang.org/grpc"
)

// TestAdoptedAllocations holds what an adopted interceptor costs a unary RPC
// beyond a layer that does nothing: an RPC with a leaf of its own, and what the
// interceptor's own function needs.
func TestAdoptedAllocations(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		layer := FromUnaryClient(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		})
		atMost(t, 4, clientCall(New(pass)), clientCall(New(layer)))
	})
	t.Run("server", func(t *testing.T) {
		layer := FromUnaryServer(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, req)
		})
		atMost(t, 2, serverCall(New(pass)), serverCall(New(layer)))
	})
}

// Threshold asks for the trailer of each RPC: a copy of the RPC that holds it, and
// the options with it.
func TestThresholdAllocations(t *testing.T) {
	atMost(t, 2, clientCall(New(pass)), clientCall(New(Threshold())))
}
