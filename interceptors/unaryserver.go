package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unaryServer is a unary RPC of a server, and the leaf of its stack.
type unaryServer struct {
	// RPC is what the layers see; its leaf is the unaryServer itself.
	RPC
	// A server's RPC has one attempt: it cannot be repeated or hedged.
	once

	info    *grpc.UnaryServerInfo
	handler grpc.UnaryHandler
}

// handleUnary sends an RPC through the layers of s, to handler.
// It is the body of a stack's unary server interceptor. An error leaves as a status.
// If it is a refusal that knows when the client should come back, the trailer
// grpc-retry-pushback-ms says so. A reply that is nil cannot be encoded: it is an error
// here, which names the method.
func handleUnary(ctx context.Context, s Service, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := &unaryServer{info: info, handler: handler}
	c.Method, c.Side, c.Request, c.leaf = info.FullMethod, SideServer, req, c
	reply, err := s.Call(ctx, &c.RPC)
	if err != nil {
		if md := pushbackTrailer(err); md != nil {
			_ = grpc.SetTrailer(ctx, md) // fails only outside a real RPC
		}
		return nil, edge(err)
	}
	if reply == nil {
		return nil, status.Errorf(codes.Internal, "turret: %s: no reply", info.FullMethod)
	}
	return reply, nil
}

// call runs the handler. What the handler's error says about calls of its own is
// taken off: see handled.
func (c *unaryServer) call(ctx context.Context, rpc *RPC) (any, error) {
	reply, err := c.handler(ctx, rpc.Request)
	return reply, handled(err)
}

// adopt calls the interceptor, whose handler goes on to the layers inside. The
// request that it passes on takes the place of the RPC's, if it is another one. p
// notes whether the handler was called and what came of it: an interceptor that
// answers without it has not sent the RPC.
func (c *unaryServer) adopt(ctx context.Context, rpc *RPC, a *adopted) (any, error) {
	if a.unaryServer == nil {
		return a.Service.Call(ctx, rpc)
	}
	var p passages
	reply, err := a.unaryServer(ctx, rpc.Request, c.info, func(ctx context.Context, req any) (any, error) {
		p.begin()
		inside := rpc
		if !sameMessage(req, rpc.Request) {
			inside = rpc.WithRequest(req)
		}
		reply, err := a.Service.Call(ctx, inside)
		p.back(err)
		return reply, edge(err)
	})
	return reply, p.out(err)
}
