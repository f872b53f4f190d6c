package interceptors

import (
	"context"

	"google.golang.org/grpc"
)

func adoptServer(name string, unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) Layer {
	return func(inner Service) Service { return &adoptedServer{inner, name, unary, stream} }
}

// adoptedServer runs RPCs of a server through the interceptor of their kind, if
// there is one.
type adoptedServer struct {
	Service

	name   string
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

func (s *adoptedServer) Call(ctx context.Context, rpc *RPC) (any, error) {
	switch leaf := rpc.leaf.(type) {
	case *unaryServer:
		if s.unary != nil {
			return s.callUnary(ctx, rpc, leaf)
		}
	case *streamServer:
		if s.stream != nil {
			return nil, s.callStream(ctx, rpc, leaf)
		}
	}
	return s.Service.Call(ctx, rpc)
}

func (s *adoptedServer) String() string { return s.name }

func (s *adoptedServer) callUnary(ctx context.Context, rpc *RPC, leaf *unaryServer) (any, error) {
	var p passages
	reply, err := s.unary(ctx, rpc.Request, leaf.info, func(ctx context.Context, req any) (any, error) {
		p.begin()
		inside := rpc
		if !sameMessage(req, rpc.Request) {
			inside = rpc.WithRequest(req)
		}
		reply, err := s.Service.Call(ctx, inside)
		p.back(err)
		return reply, edge(err)
	})
	return reply, p.out(err)
}

// callStream gives the interceptor the stream as the layers outside have made
// it. What it passes on is the stream of a leaf of its own, for the layers
// inside.
func (s *adoptedServer) callStream(ctx context.Context, rpc *RPC, leaf *streamServer) error {
	var p passages
	err := s.stream(leaf.srv, leaf.streamOf(ctx, rpc), leaf.info, func(srv any, stream grpc.ServerStream) error {
		p.begin()
		inside := &streamServer{srv: srv, stream: stream, info: leaf.info, handler: leaf.handler}
		inside.RPC = rpc.adopted(inside)
		_, err := s.Service.Call(stream.Context(), &inside.RPC)
		p.back(err)
		return edge(err)
	})
	return p.out(err)
}

// adopted returns r as it is inside an adopted interceptor, with another leaf,
// to which what the layers outside added has been given already.
func (r *RPC) adopted(l leaf) RPC {
	c := *r
	c.leaf, c.more = l, nil
	attempt := r.isAttempt()
	if r.more != nil && r.more.observer != nil {
		c.more = &extra{observer: r.more.observer, traced: r.more.traced, attempt: attempt}
	} else if attempt {
		c.more = &extra{attempt: true}
	}
	return c
}
