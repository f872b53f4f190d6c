package turret

import (
	"context"
	"errors"
)

// IsFinal reports whether err, an error of Ready, means that the service will
// never be ready again, so that balancers drop it. Such
// an error matches neither [ErrNotReady] nor an error of a context: a service
// that fails for good says so with an error of its own. IsFinal(nil) is false.
//
// It is for errors of Ready, not of Call: a Call may fail with any error, and
// the next one succeed.
func IsFinal(err error) bool {
	return err != nil && !errors.Is(err, ErrNotReady) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// Do waits until s is ready and then calls it. It is Tower's oneshot.
//
// Call waits for room by itself, so most callers need no Do. It is for a service
// whose Call refuses at once what its Ready would wait for: a limit without a
// line, a connection that is being made. Ready takes nothing; between the two
// another caller may be quicker, and the call is then refused as if Ready had
// not been asked.
//
// An error of Ready is returned as that of a call that was not sent: it matches
// [ErrNotReady], also if it is final.
func Do[Req, Res any](ctx context.Context, s Service[Req, Res], req Req) (res Res, err error) {
	if err := s.Ready(ctx); err != nil {
		return res, unsent(err)
	}
	return s.Call(ctx, req)
}

// unsent returns err, an error of Ready, as the error of a call that was not
// made for it: it matches [ErrNotReady], since nothing was sent.
func unsent(err error) error {
	if errors.Is(err, ErrNotReady) {
		return err
	}
	return NotReady(err)
}
