// Package interceptors runs a stack of layers on gRPC: unary calls and client,
// server and bidirectional streams, on the client and on the server side.
//
//	stack := interceptors.New(
//		interceptors.Recover(),                              // outermost
//		interceptors.ConcurrencyLimit(100, limit.Queue{}),
//		interceptors.Timeout(2*time.Second),                 // innermost
//	)
//	server := grpc.NewServer(stack.ServerOptions()...)
//
// # Order
//
// The first layer listed is outermost. It sees an RPC first and its result
// last, like the outer skin of an onion:
//
//	         client side                         server side
//	New(a, b, c).DialOptions()           New(x, y, z).ServerOptions()
//
//	caller -> a -> b -> c -> connection ->  x -> y -> z -> handler
//	caller <- a <- b <- c <- connection <-  x <- y <- z <- handler
//
// # Streams
//
// One call of a layer is one RPC, from its opening to its end, whatever its
// kind. A concurrency limit holds its place until a stream is over, a timeout
// bounds all of it, and a breaker gets its final status. On the client the
// stack of a stream runs in a goroutine of its own, which ends with the stream;
// whatever shows the caller the end of a stream (RecvMsg, or an error of
// SendMsg or NewStream) returns after the outermost layer has returned, and
// returns what that returned. As gRPC demands, a caller that stops reading a
// stream cancels its context; until then the stream holds its place.
//
// # Errors
//
// At the edge of a stack every error is a gRPC status. [Status] and [Code] say
// inside a stack what an error will be outside. On the side where an error
// arose, errors.Is and errors.AsType reach its cause through the status.
//
//	a refusal for overload or rate       RESOURCE_EXHAUSTED   ErrorInfo, RetryInfo when known
//	a refusal without a ready server     UNAVAILABLE          ErrorInfo, RetryInfo when known
//	timeout.ErrTimeout                   DEADLINE_EXCEEDED    ErrorInfo, reason TIMEOUT
//	the caller's context ended           CANCELLED or DEADLINE_EXCEEDED
//	a panic that Recover caught          INTERNAL
//	a plain error of a Filter            PERMISSION_DENIED
//	a nil or wrong reply                 INTERNAL
//	any other plain error                UNKNOWN
//	a status                             unchanged
//
// The ErrorInfo has the domain "turret" and, of a refusal, its reason.
package interceptors

// Where things are: a server's pushback is written in pushback.go and read by
// package internal/pushback; a hedge's header and trailer are in variables.go; a
// stream's replay in streamclient_replay.go; method patterns in match.go; what a
// status says in status.go and refusal.go; a panic becomes INTERNAL in recover.go;
// what a stack prints in stack.go and layer.go.
