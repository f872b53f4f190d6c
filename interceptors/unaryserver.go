package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unaryServer is a unary RPC of a server, and the leaf of its stack.
type unaryServer struct {
	RPC
	once

	info    *grpc.UnaryServerInfo
	handler grpc.UnaryHandler
}

// handleUnary sends an RPC through the layers of s, to handler.
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

func (c *unaryServer) call(ctx context.Context, rpc *RPC) (any, error) {
	reply, err := c.handler(ctx, rpc.Request)
	return reply, handled(err)
}

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
