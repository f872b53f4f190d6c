package interceptors

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

// handled returns the error of a handler as its stack is to see it: without the
// causes that would say that the request was not sent, or that this side
// refused it. A handler that returns them has run; they are about a call of its
// own. The error keeps its text, its status and everything else.
func handled(err error) error {
	if err == nil || !isTurrets(err) {
		return err
	}
	return &handledError{Status(err), err}
}

// isTurrets reports whether err has a cause that Turret's layers act on.
func isTurrets(err error) bool {
	if errors.Is(err, turret.ErrNotReady) || errors.Is(err, timeout.ErrTimeout) {
		return true
	}
	if _, ok := errors.AsType[*turret.Refusal](err); ok {
		return true
	}
	_, ok := errors.AsType[*pushbackError](err)
	return ok
}

// handledError hides err from the walk of errors.Is and errors.As, and does the
// walk itself, so that it can leave Turret's own causes out.
// It has no Unwrap: with one, errors.Is and errors.As would walk on to what it hides.
type handledError struct {
	status *status.Status
	err    error
}

func (e *handledError) Error() string              { return e.err.Error() }
func (e *handledError) GRPCStatus() *status.Status { return e.status }

// Is finds everything that errors.Is would find in err, but for Turret's own causes.
func (e *handledError) Is(target error) bool {
	return target != turret.ErrNotReady && target != timeout.ErrTimeout && errors.Is(e.err, target)
}

// As finds everything that errors.As would find in err, but for Turret's own types.
func (e *handledError) As(target any) bool {
	switch target.(type) {
	case **turret.Refusal, **timeout.Error, **pushbackError:
		return false
	default:
		return errors.As(e.err, target)
	}
}

// errPanic says nothing of what happened: it goes to the peer.
var errPanic = status.Error(codes.Internal, "internal error")
