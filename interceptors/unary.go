package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/internal/onfinish"
)

// UnaryClient returns the interceptor of unary RPCs for the client side.
func (s *Stack) UnaryClient() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if s.empty {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		c := s.newUnaryClient()
		c.Method, c.Side, c.Request = method, SideClient, req
		return c.send(ctx, reply, cc, invoker, opts)
	}
}

// invoke sends an RPC through the stack, to invoker.
func (s *Stack) invoke(ctx context.Context, rpc RPC, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	c := s.newUnaryClient()
	c.RPC = rpc
	return c.send(ctx, reply, cc, invoker, opts)
}

// unaryClient is a unary RPC of a client, and the leaf of its stack.
type unaryClient struct {
	RPC

	stack      *Stack
	reply      any // the caller's
	conn       *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption // the caller's, without OnFinish
	repetition *repetition       // nil unless a layer asked for it
	space      *repetition       // to be used as the repetition
}

// newUnaryClient returns an empty unaryClient. Where RPCs of the stack are
// prepared for repetition it has the space for that in the same allocation.
func (s *Stack) newUnaryClient() *unaryClient {
	if !s.repeats.Load() {
		return &unaryClient{stack: s}
	}
	c := &struct {
		client unaryClient
		space  repetition
	}{}
	c.client.stack, c.client.space = s, &c.space
	return &c.client
}

// send sends the RPC through its stack, to invoker.
func (c *unaryClient) send(ctx context.Context, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	c.leaf, c.reply, c.conn, c.invoker = c, reply, cc, invoker
	var onFinish []func(error)
	if c.opts, onFinish = onfinish.Take(opts); onFinish != nil {
		return c.runAndTell(ctx, onFinish)
	}
	return c.run(ctx)
}

// run runs the stack, and puts the reply where the caller wants it.
func (c *unaryClient) run(ctx context.Context) error {
	got, err := c.stack.service.Call(ctx, &c.RPC)
	if err == nil {
		err = c.deliver(got)
	}
	return edge(err)
}

// runAndTell is run with the caller's OnFinish options. They are called also if
// the stack panics or exits: gRPC would have called them when the RPC was over.
func (c *unaryClient) runAndTell(ctx context.Context, onFinish []func(error)) (err error) {
	err = errPanic // unless run returns
	defer func() {
		onfinish.Tell(onFinish, err)
	}()
	err = c.run(ctx)
	return err
}

func (c *unaryClient) call(ctx context.Context, rpc *RPC) (any, error) {
	if c.repetition != nil {
		return c.attempt(ctx, rpc)
	}
	opts := c.opts
	if len(rpc.added()) > 0 {
		opts = rpc.options(opts, 0)
	}
	if err := c.invoker(ctx, rpc.Method, rpc.Request, c.reply, c.conn, opts...); err != nil {
		return nil, err
	}
	return c.reply, nil
}

// attempt is call for an RPC that may be called again.
func (c *unaryClient) attempt(ctx context.Context, rpc *RPC) (any, error) {
	opts, trailer := c.repetition.begin(rpc, c.opts, c.reply)
	ctx = c.repetition.in(ctx)
	if err := c.invoker(ctx, rpc.Method, rpc.Request, c.reply, c.conn, opts...); err != nil {
		return nil, withPushback(err, *trailer)
	}
	return c.reply, nil
}

func (c *unaryClient) newReply() any { return newMessage(c.reply) }

func (c *unaryClient) repeat(rpc *RPC, _ int) {
	switch {
	case c.repetition != nil:
		return
	case c.space != nil:
		c.repetition = c.space
	default:
		c.stack.repeats.Store(true)
		c.repetition = new(repetition)
	}
	c.repetition.init(c.opts, rpc.added(), c.reply, &c.repetition.own)
}

func (c *unaryClient) restore() {
	if c.repetition != nil {
		c.repetition.restore(c.reply)
	}
}

func (c *unaryClient) committed() bool { return false }

// deliver puts the reply that the stack returned where the caller wants it.
func (c *unaryClient) deliver(got any) error {
	if sameMessage(got, c.reply) || setMessage(c.reply, got) {
		return nil
	}
	return status.Errorf(codes.Internal, "turret: %s: a layer returned a reply of type %s, want %s", c.Method, typeName(got), typeName(c.reply))
}

// UnaryServer returns the interceptor of unary RPCs for the server side.
func (s *Stack) UnaryServer() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if s.empty {
			return handler(ctx, req)
		}
		c := &unaryServer{info: info, handler: handler}
		c.Method, c.Side, c.Request, c.leaf = info.FullMethod, SideServer, req, c
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
func (c *unaryServer) restore()         {}
func (c *unaryServer) committed() bool  { return true }
