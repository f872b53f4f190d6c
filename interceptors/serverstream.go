package interceptors

import (
	"context"

	"google.golang.org/grpc"
)

// StreamServer returns the interceptor of streams for the server side.
func (s *Stack) StreamServer() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if s.empty {
			return handler(srv, stream)
		}
		c := &streamServer{srv: srv, stream: stream, info: info, handler: handler}
		c.RPC = RPC{Method: info.FullMethod, Kind: kindOf(info.IsClientStream, info.IsServerStream), Side: SideServer, leaf: c}
		_, err := s.service.Call(stream.Context(), &c.RPC)
		if err != nil {
			if md := pushback(err); md != nil {
				stream.SetTrailer(md)
			}
		}
		return edge(err)
	}
}

// streamServer is a stream of a server, and the leaf of its stack.
type streamServer struct {
	RPC

	srv     any
	stream  grpc.ServerStream
	info    *grpc.StreamServerInfo
	handler grpc.StreamHandler
	derived serverStream
}

func (c *streamServer) call(ctx context.Context, rpc *RPC) (any, error) {
	return nil, handled(c.handler(c.srv, c.streamOf(ctx, rpc)))
}

// streamOf returns the stream as layers have made it, with their context.
func (c *streamServer) streamOf(ctx context.Context, rpc *RPC) grpc.ServerStream {
	stream := c.stream
	if w := rpc.wrapping(); w != nil {
		stream = &serverMessages{stream, w.inward(stream)}
	}
	c.derived = serverStream{stream, ctx}
	return &c.derived
}

func (c *streamServer) newReply() any    { return nil }
func (c *streamServer) repeat(*RPC, int) {}
func (c *streamServer) restore()         {}
func (c *streamServer) committed() bool  { return true }

// serverStream is a stream with the context that the layers made.
type serverStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // grpc.ServerStream carries its context
}

func (s *serverStream) Context() context.Context { return s.ctx }

// serverMessages is a stream whose messages pass through hooks.
type serverMessages struct {
	grpc.ServerStream

	messages MessageStream
}

func (s *serverMessages) SendMsg(m any) error { return s.messages.SendMsg(m) }
func (s *serverMessages) RecvMsg(m any) error { return s.messages.RecvMsg(m) }
