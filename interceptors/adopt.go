package interceptors

import (
	"google.golang.org/grpc"
)

// This file and the other adopt files make layers of interceptors that exist.
//
// An adopted interceptor stands on an edge, as if the layers inside it were a
// stack of their own: what it is handed by its handler, invoker or streamer is
// a status, whose causes errors.Is and errors.AsType reach on this side. What it
// returns stays as it is. It sees, and may change, what it would in a chain of
// gRPC: the context, the request, the reply, the call options, the stream.

// FromServer returns a [Layer] made of interceptors of a server: unary for
// unary RPCs, stream for the other kinds. RPCs of a client pass by. It panics if
// either is nil: see [FromUnaryServer] and [FromStreamServer].
//
// An interceptor may call its handler once, not at all, or more than once. It
// must not return before the handler has. If it returns an error that matches
// turret.ErrNotReady after its handler has run, the error that leaves the layer
// does not match it.
func FromServer(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) Layer {
	mustHave("FromServer", "unary", unary == nil)
	mustHave("FromServer", "stream", stream == nil)
	return adopt(interceptorSet{name: "from server", unaryServer: unary, streamServer: stream})
}

// FromUnaryServer is [FromServer] for unary RPCs alone. STREAMS PASS BY: what
// the interceptor guards (with authentication, say) it does not guard for them.
// It panics if unary is nil.
func FromUnaryServer(unary grpc.UnaryServerInterceptor) Layer {
	mustHave("FromUnaryServer", "unary", unary == nil)
	return adopt(interceptorSet{name: "from unary server", unaryServer: unary})
}

// FromStreamServer is [FromServer] for streams alone. UNARY RPCS PASS BY: what
// the interceptor guards (with authentication, say) it does not guard for them.
// It panics if stream is nil.
func FromStreamServer(stream grpc.StreamServerInterceptor) Layer {
	mustHave("FromStreamServer", "stream", stream == nil)
	return adopt(interceptorSet{name: "from stream server", streamServer: stream})
}

// FromClient returns a [Layer] made of interceptors of a client: unary for unary
// RPCs, stream for the other kinds. RPCs of a server pass by. It panics if
// either is nil: see [FromUnaryClient] and [FromStreamClient].
//
// An interceptor may call its invoker or streamer once, not at all, or more than
// once: one that retries sends each RPC through the layers inside it again. If
// it returns an error that matches turret.ErrNotReady after one of its calls
// came back with anything else, the error that leaves the layer does not match
// it: the RPC may have been sent.
//
// The streams of the layers inside are opened by the interceptor's streamer, on
// the goroutine that opens the stream, as in gRPC. The RPC is over
// for the layers outside when the stream that the interceptor returned has
// shown its end: in RecvMsg, or with an error of SendMsg or Header; or when the
// last stream inside has ended while none of its methods ran (its deadline
// passed, the caller cancelled), which an interceptor cannot then continue with
// another. Streams inside that are still open by then are cancelled. Inside
// [Retry] the interceptor sees each attempt as a stream of its own, with all its
// messages: those that are sent again are new copies. A stream costs a
// goroutine more, and each of its messages a few locks.
func FromClient(unary grpc.UnaryClientInterceptor, stream grpc.StreamClientInterceptor) Layer {
	mustHave("FromClient", "unary", unary == nil)
	mustHave("FromClient", "stream", stream == nil)
	return adopt(interceptorSet{name: "from client", unaryClient: unary, streamClient: stream})
}

// FromUnaryClient is [FromClient] for unary RPCs alone. STREAMS PASS BY: what
// the interceptor adds (credentials, say) they go without. It panics if unary is
// nil.
func FromUnaryClient(unary grpc.UnaryClientInterceptor) Layer {
	mustHave("FromUnaryClient", "unary", unary == nil)
	return adopt(interceptorSet{name: "from unary client", unaryClient: unary})
}

// FromStreamClient is [FromClient] for streams alone. UNARY RPCS PASS BY: what
// the interceptor adds (credentials, say) they go without. It panics if stream
// is nil.
func FromStreamClient(stream grpc.StreamClientInterceptor) Layer {
	mustHave("FromStreamClient", "stream", stream == nil)
	return adopt(interceptorSet{name: "from stream client", streamClient: stream})
}

func mustHave(constructor, which string, missing bool) {
	if missing {
		misused(constructor, which+" interceptor", nil, "non-nil")
	}
}

// adopt returns the layer of the interceptors in a.
func adopt(a interceptorSet) Layer {
	return func(inner Service) Service { return &adopted{interceptorSet: a, entry: entry{Service: inner}} }
}
