package turret

import (
	"context"
	"errors"
)

// Final reports whether err, an error of Ready, means that the service will
// never be ready again, so that balancers drop it. Such
// an error matches neither [ErrNotReady] nor an error of a context: a service
// that fails for good says so with an error of its own. Final(nil) is false.
//
// It is for errors of Ready, not of Call: a Call may fail with any error, and
// the next one succeed.
func Final(err error) bool {
	return err != nil && !errors.Is(err, ErrNotReady) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// unsent returns err, an error of Ready, as the error of a call that was not
// made for it: it matches [ErrNotReady], since nothing was sent.
func unsent(err error) error {
	if errors.Is(err, ErrNotReady) {
		return err
	}
	return NotReady(err)
}
