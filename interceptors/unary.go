package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// UnaryClient returns the interceptor of unary RPCs for the client side.
func (s *Stack) UnaryClient() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if s.empty {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		opts, onFinish := takeOnFinish(opts)
		c := &unaryClient{reply: reply, conn: cc, invoke: invoker, opts: opts}
		c.RPC = RPC{Method: method, Side: SideClient, Request: req, leaf: c}
		got, err := s.service.Call(ctx, &c.RPC)
		if err == nil {
			err = c.deliver(got)
		}
		err = edge(err)
		c.repetition.free()
		for _, f := range onFinish {
			f(err)
		}
		return err
	}
}

// unaryClient is a unary RPC of a client, and the leaf of its stack.
type unaryClient struct {
	RPC

	reply      any // the caller's
	conn       *grpc.ClientConn
	invoke     grpc.UnaryInvoker
	opts       []grpc.CallOption // the caller's, without OnFinish
	repetition *repetition       // nil unless a layer asked for it
}

func (c *unaryClient) call(ctx context.Context, rpc *RPC) (any, error) {
	opts := c.opts
	if c.repetition != nil {
		return c.attempt(ctx, rpc)
	}
	if rpc.more != nil {
		opts = rpc.options(opts, 0)
	}
	if err := c.invoke(ctx, rpc.Method, rpc.Request, c.reply, c.conn, opts...); err != nil {
		return nil, err
	}
	return c.reply, nil
}

// attempt is call for an RPC that may be called again.
func (c *unaryClient) attempt(ctx context.Context, rpc *RPC) (any, error) {
	ctx, opts := c.repetition.begin(ctx, rpc, c.opts, c.reply)
	err := c.invoke(ctx, rpc.Method, rpc.Request, c.reply, c.conn, opts...)
	if err != nil {
		return nil, c.repetition.failed(err)
	}
	return c.reply, nil
}

func (c *unaryClient) newReply() any { return newMessage(c.reply) }

func (c *unaryClient) repeat(*RPC, int) {
	if c.repetition == nil {
		c.repetition = newRepetition(c.opts, c.reply)
	}
}

func (c *unaryClient) committed() bool { return false }

// deliver puts the reply that the stack returned where the caller wants it.
func (c *unaryClient) deliver(got any) error {
	if sameMessage(got, c.reply) || setMessage(c.reply, got) {
		return nil
	}
	return status.Errorf(codes.Internal, "turret: %s: a layer returned a reply of type %T, want %T", c.Method, got, c.reply)
}

// UnaryServer returns the interceptor of unary RPCs for the server side.
func (s *Stack) UnaryServer() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if s.empty {
			return handler(ctx, req)
		}
		c := &unaryServer{info: info, handler: handler}
		c.RPC = RPC{Method: info.FullMethod, Side: SideServer, Request: req, leaf: c}
		reply, err := s.service.Call(ctx, &c.RPC)
		if err != nil {
			if md := pushback(err); md != nil {
				_ = grpc.SetTrailer(ctx, md) // fails only outside a real RPC
			}
			return nil, edge(err)
		}
		if reply == nil {
			return nil, status.Errorf(codes.Internal, "turret: %s: no reply", info.FullMethod)
		}
		return reply, nil
	}
}

// unaryServer is a unary RPC of a server, and the leaf of its stack.
type unaryServer struct {
	RPC

	info    *grpc.UnaryServerInfo
	handler grpc.UnaryHandler
}

func (c *unaryServer) call(ctx context.Context, rpc *RPC) (any, error) {
	reply, err := c.handler(ctx, rpc.Request)
	return reply, handled(err)
}

func (c *unaryServer) newReply() any    { return nil }
func (c *unaryServer) repeat(*RPC, int) {}
func (c *unaryServer) committed() bool  { return true }
