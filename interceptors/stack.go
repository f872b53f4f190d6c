package interceptors

import (
	"context"
	"strings"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	loadv1 "github.com/turret-go/turret/proto/turret/load/v1"
)

// A Stack is a stack of layers as the four interceptors of gRPC. It is built
// once, and everything that its layers keep (limits, budgets, breakers) is
// shared by all RPCs of all kinds that pass through it, on every connection and
// server that it is given to. Use one stack for the client side and another for
// the server side.
//
// A Stack may be used concurrently and must be made by [New].
type Stack struct {
	entry entry // to the outermost layer

	empty  bool
	layers []Service // what each layer made, outermost first; for String
	sides  sides
}

// New returns a stack of layers. The first one listed is outermost: it sees the
// RPC first and its result last. Nil layers are skipped. A stack without layers
// is not in the way at all. New panics if a layer returns a nil service.
func New(layers ...Layer) *Stack {
	s := &Stack{}
	s.entry.Service, s.layers = stacked("New", layers, leafService{})
	s.empty = len(s.layers) == 0
	return s
}

// mustBeMade panics if s is not of New.
func (s *Stack) mustBeMade(method string) {
	if s == nil || s.entry.Service == nil {
		misused("Stack."+method, "stack", "the zero Stack", "made by New")
	}
}

// UnaryServer returns the interceptor of unary RPCs for the server side.
func (s *Stack) UnaryServer() grpc.UnaryServerInterceptor {
	s.mustBeMade("UnaryServer")
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if s.empty {
			return handler(ctx, req)
		}
		s.sides.note(ctx, SideServer, info.FullMethod, s.layers)
		return handleUnary(ctx, s.entry.Service, req, info, handler)
	}
}

// StreamServer returns the interceptor of streams for the server side.
func (s *Stack) StreamServer() grpc.StreamServerInterceptor {
	s.mustBeMade("StreamServer")
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		// The streams of alarms last as long as connections; see load/alarm.
		if s.empty || info.FullMethod == loadv1.Load_Watch_FullMethodName {
			return handler(srv, stream)
		}
		s.sides.note(stream.Context(), SideServer, info.FullMethod, s.layers)
		return handleStream(s.entry.Service, srv, stream, info, handler)
	}
}

// UnaryClient returns the interceptor of unary RPCs for the client side.
func (s *Stack) UnaryClient() grpc.UnaryClientInterceptor {
	s.mustBeMade("UnaryClient")
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if s.empty {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		s.sides.note(ctx, SideClient, method, s.layers)
		return invokeUnary(ctx, &s.entry, RPC{Method: method, Side: SideClient, Request: req}, reply, cc, invoker, opts)
	}
}

// StreamClient returns the interceptor of streams for the client side.
func (s *Stack) StreamClient() grpc.StreamClientInterceptor {
	s.mustBeMade("StreamClient")
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if s.empty {
			return streamer(ctx, desc, cc, method, opts...)
		}
		s.sides.note(ctx, SideClient, method, s.layers)
		c := newStreamClient(RPC{Method: method, Side: SideClient}, desc, cc, streamer, opts)
		go c.run(ctx, s.entry.Service)
		return c.open()
	}
}

// ServerOptions returns both server interceptors as options of grpc.NewServer.
// They are chained behind interceptors of options before them, and behind those of
// grpc.UnaryInterceptor and grpc.StreamInterceptor wherever these stand: gRPC puts
// them first. It panics if s was not made by [New].
func (s *Stack) ServerOptions() []grpc.ServerOption {
	s.mustBeMade("ServerOptions")
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.UnaryServer()),
		grpc.ChainStreamInterceptor(s.StreamServer()),
	}
}

// DialOptions returns both client interceptors as options of grpc.NewClient.
// They are chained behind interceptors of options before them, and behind those of
// grpc.WithUnaryInterceptor and grpc.WithStreamInterceptor wherever these stand:
// gRPC puts them first, so that one that retries does so outside of the stack. Give
// an interceptor to grpc.WithChainUnaryInterceptor, or to [FromClient], to choose
// its place. It panics if s was not made by [New].
func (s *Stack) DialOptions() []grpc.DialOption {
	s.mustBeMade("DialOptions")
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(s.UnaryClient()),
		grpc.WithChainStreamInterceptor(s.StreamClient()),
	}
}

// Ready waits until the stack had room for an RPC a moment ago, and takes
// nothing; see [turret.Service]. It says nothing of connections or handlers.
func (s *Stack) Ready(ctx context.Context) error { return s.entry.Ready(ctx) }

// Describe describes the layers of s, outermost first. A layer that is no
// [turret.Describer] is shown by its type and its String.
func (s *Stack) Describe(d *turret.Description) {
	d.Is("stack", "stack")
	describeLayers(d, s.layers, leafService{})
}

// String returns one line for each layer, outermost first: its name and what
// its gates count. A layer that has no String method is shown by its type.
//
// What [turret.Stack] has made one layer of is shown by the first of its layers,
// for that is all of it that can be seen here. To see all of them, give [New]
// the layers themselves: New(append(common, own...)...).
func (s *Stack) String() string {
	if s.empty {
		return "(no layers)"
	}
	lines := make([]string, len(s.layers))
	for i, layer := range s.layers {
		lines[i] = describe(layer)
	}
	return strings.Join(lines, "\n")
}
