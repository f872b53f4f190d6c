package interceptors

import (
	"context"
	"sync"

	"google.golang.org/grpc"
)

func adoptClient(name string, unary grpc.UnaryClientInterceptor, stream grpc.StreamClientInterceptor) Layer {
	return func(inner Service) Service {
		return &adoptedClient{inner, name, unary, stream, &Stack{service: inner}}
	}
}

// adoptedClient runs RPCs of a client through the interceptor of their kind, if
// there is one.
type adoptedClient struct {
	Service

	name   string
	unary  grpc.UnaryClientInterceptor
	stream grpc.StreamClientInterceptor
	inside *Stack // of the layers inside, for what the interceptor calls
}

func (s *adoptedClient) Call(ctx context.Context, rpc *RPC) (any, error) {
	switch leaf := rpc.leaf.(type) {
	case *unaryClient:
		if s.unary != nil {
			return s.callUnary(ctx, rpc, leaf)
		}
	case *clientStream:
		if s.stream != nil {
			return nil, s.callStream(ctx, rpc, leaf)
		}
	}
	return s.Service.Call(ctx, rpc)
}

func (s *adoptedClient) String() string { return s.name }

func (s *adoptedClient) callUnary(ctx context.Context, rpc *RPC, leaf *unaryClient) (any, error) {
	c := &adoptedCall{inside: s.inside, rpc: rpc, outer: leaf}
	err := s.unary(ctx, rpc.Method, rpc.Request, leaf.reply, leaf.conn, c.invoke, rpc.options(leaf.opts, 0)...)
	if err != nil {
		return nil, c.out(err)
	}
	return leaf.reply, nil
}

// An adoptedCall is a unary RPC of a client inside an adopted interceptor. Each
// time that the interceptor calls its invoker, an RPC with a leaf of its own
// goes through the layers inside.
type adoptedCall struct {
	passages

	inside *Stack
	rpc    *RPC
	outer  *unaryClient
	alone  sync.Mutex // held while an invoker runs that counts for outer's repetition
}

// invoke is the invoker that the interceptor gets.
func (c *adoptedCall) invoke(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
	rpc := c.rpc.adopted(nil)
	rpc.Method, rpc.Request = method, req
	rpc.Attempt += c.begin()
	err := c.inside.invoke(ctx, rpc, reply, cc, c.send, opts)
	c.back(err)
	return err
}

// send is the invoker behind the layers inside. To a Retry outside, it is that
// of an attempt, unless another one is running: the interceptor hedges.
func (c *adoptedCall) send(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
	r := c.outer.repetition
	if r == nil || !c.alone.TryLock() {
		return c.outer.invoker(ctx, method, req, reply, cc, opts...)
	}
	defer c.alone.Unlock()
	opts, trailer := r.next(opts, nil)
	err := c.outer.invoker(r.in(ctx), method, req, reply, cc, opts...)
	return withPushback(err, *trailer)
}
