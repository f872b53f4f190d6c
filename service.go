package turret

import "context"

// A Service answers requests. It may be called from many goroutines at once.
//
// # Call
//
// Call sends one request and waits for its result. A service at capacity makes
// Call wait in line until there is room, until its own bound on the wait is
// reached, or until ctx is done. Call returns soon after ctx is done, and when
// it has returned nothing of the call goes on: no goroutine of it runs, and
// nothing that belongs to the caller is written to. When it returns an error,
// the result is not to be used.
//
// An error that matches [ErrNotReady] says that the request was not sent and
// may be sent elsewhere.
//
// # Ready
//
// Ready waits until the service had room a moment ago, and takes nothing: no
// room, no token, no place in a line. A nil result is therefore no promise to
// the next Call. With a ctx that is already done it answers at once. It does not
// use ctx after it has returned. Its error is one of
//
//   - an error that matches ErrNotReady, or ctx's own error: not ready now;
//   - any other error: the service will never be ready again. Balancers
//     drop it.
//
// A service made of several gates asks them in turn, outermost first; each had
// room when it was asked.
type Service[Req, Res any] interface {
	Ready(ctx context.Context) error
	Call(ctx context.Context, req Req) (Res, error)
}

// Func is a [Service] made of a function. It is always ready. It may be called
// concurrently if the function may.
type Func[Req, Res any] func(ctx context.Context, req Req) (Res, error)

// Ready returns nil.
func (f Func[Req, Res]) Ready(context.Context) error { return nil }

// Call calls f.
func (f Func[Req, Res]) Call(ctx context.Context, req Req) (Res, error) { return f(ctx, req) }

// ServiceFunc returns f as a [Service] that is always ready. It is [Func] with
// its type arguments inferred.
func ServiceFunc[Req, Res any](f func(ctx context.Context, req Req) (Res, error)) Service[Req, Res] {
	return Func[Req, Res](f)
}

// ReadyNow reports without waiting whether s has room: nil, or the error of
// Ready. s sees a context without values.
func ReadyNow[Req, Res any](s Service[Req, Res]) error {
	return s.Ready(ended)
}

// ended is done from the start: Ready answers it at once.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
