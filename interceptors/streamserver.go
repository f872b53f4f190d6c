package interceptors

import (
	"context"

	"google.golang.org/grpc"
)

// streamServer is a stream of a server, and the leaf of its stack.
type streamServer struct {
	// RPC is what the layers see; its leaf is the streamServer itself.
	RPC
	// A server's stream has one attempt: it cannot be repeated.
	once

	srv     any
	bottom  *interruptible // what all leaves of the stream stand on
	own     interruptible  // what bottom points to, unless this one is inside an adopted interceptor
	stream  grpc.ServerStream
	info    *grpc.StreamServerInfo
	handler grpc.StreamHandler
	handed  handlerStream // what the handler gets, in place
}

// handleStream sends a stream through the layers of s, to handler.
// It is the body of a stack's stream server interceptor. The layers' Call lasts as
// long as the handler runs. The trailer with a pushback must be set before this
// returns: gRPC sends trailers then.
func handleStream(s Service, srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := &streamServer{srv: srv, info: info, handler: handler}
	c.own.ServerStream, c.bottom, c.stream = stream, &c.own, &c.own
	c.RPC = RPC{Method: info.FullMethod, Kind: kindOf(info.IsClientStream, info.IsServerStream), Side: SideServer, leaf: c}
	_, err := s.Call(stream.Context(), &c.RPC)
	if err != nil {
		if md := pushbackTrailer(err); md != nil {
			stream.SetTrailer(md)
		}
	}
	return edge(err)
}

// call runs the handler. While it runs, RecvMsg and SendMsg end with the context
// that the layers have derived, which those of gRPC do not: see interruptible.
func (c *streamServer) call(ctx context.Context, rpc *RPC) (any, error) {
	before := c.bottom.listen(ctx)
	defer c.bottom.unlisten(before)
	return nil, handled(c.handler(c.srv, c.streamOf(ctx, rpc)))
}

// streamOf returns the stream as layers have made it, with their context.
// The innermost layer's wrapping is nearest to the handler. The result lies in c, so
// that it costs no allocation; streamOf is called once for each leaf.
func (c *streamServer) streamOf(ctx context.Context, rpc *RPC) grpc.ServerStream {
	stream := c.stream
	if w := rpc.wrapping(); w != nil {
		stream = &serverMessages{stream, w.inward(stream)}
	}
	c.handed = handlerStream{stream, ctx}
	return &c.handed
}

// adopt gives the interceptor the stream as the layers outside have made it.
// What the interceptor passes on is the stream of a leaf of its own, for the
// layers inside.
// All leaves of one stream share bottom, because gRPC's stream underneath is one: two
// of them must not have two helpers that receive at once.
func (c *streamServer) adopt(ctx context.Context, rpc *RPC, a *adopted) (any, error) {
	if a.streamServer == nil {
		return a.Service.Call(ctx, rpc)
	}
	before := c.bottom.listen(ctx)
	defer c.bottom.unlisten(before)
	var p passages
	err := a.streamServer(c.srv, c.streamOf(ctx, rpc), c.info, func(srv any, stream grpc.ServerStream) error {
		p.begin()
		inside := &streamServer{srv: srv, stream: stream, bottom: c.bottom, info: c.info, handler: c.handler}
		inside.RPC = rpc.inside(inside)
		_, err := a.Service.Call(stream.Context(), &inside.RPC)
		p.back(err)
		return edge(err)
	})
	return nil, p.out(err)
}

// handlerStream is a stream with the context that the layers made.
type handlerStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // grpc.ServerStream carries its context
}

// Context returns the context that the innermost layer passed on.
func (s *handlerStream) Context() context.Context { return s.ctx }
