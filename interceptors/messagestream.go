package interceptors

import "google.golang.org/grpc"

// A MessageStream is the two directions of a stream, seen from the side that
// the stack runs on. As in gRPC, one goroutine may send while another receives.
type MessageStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// wrapping is a list of wrappings, the innermost layer's first.
type wrapping struct {
	f     func(MessageStream) MessageStream
	outer *wrapping
}

// outward wraps s with all of w up to, and without, the wrapping end, so that
// the outermost is the outside of the result.
func (w *wrapping) outward(s MessageStream, end *wrapping) MessageStream {
	for ; w != end; w = w.outer {
		s = w.f(s)
	}
	return s
}

// inward wraps s with all of w, so that the innermost is the outside of the
// result.
func (w *wrapping) inward(s MessageStream) MessageStream {
	if w == nil {
		return s
	}
	return w.f(w.outer.inward(s))
}

// clientMessages is a stream whose messages pass through hooks.
type clientMessages struct {
	grpc.ClientStream

	messages MessageStream
}

func (s *clientMessages) SendMsg(m any) error { return s.messages.SendMsg(m) }

func (s *clientMessages) RecvMsg(m any) error { return s.messages.RecvMsg(m) }

func (s *clientMessages) knowsContext() bool { return knowsContext(s.ClientStream) }

// serverMessages is a stream whose messages pass through hooks.
type serverMessages struct {
	grpc.ServerStream

	messages MessageStream
}

func (s *serverMessages) SendMsg(m any) error { return s.messages.SendMsg(m) }

func (s *serverMessages) RecvMsg(m any) error { return s.messages.RecvMsg(m) }

// A contextKnower is a stream that needs no check of its context before CloseSend:
// one of this package makes the check itself. (To ask it for its context would
// commit it.)
type contextKnower interface{ knowsContext() bool }

func knowsContext(s grpc.ClientStream) bool {
	k, ok := s.(contextKnower)
	return ok && k.knowsContext()
}
