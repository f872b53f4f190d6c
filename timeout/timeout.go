package timeout

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// Layer returns a [turret.Layer] that bounds each call: when d has passed it
// cancels the context of the inner call, and then waits for it to return. It
// is [LayerFunc] with the usual answer to which errors are the timeout's: every
// error that comes after the bound. It panics if d is not above zero.
//
//	timeout.Layer[string, int](time.Second)
func Layer[Req, Res any](d time.Duration) turret.Layer[Req, Res] {
	return LayerFunc[Req, Res](d, nil)
}

// LayerFunc is [Layer] with a function that finds the errors of the deadline.
// Where the other side knows the deadline too, its report of it may arrive a
// moment before the bound, and must become the same timeout.
//
// expired is asked about each error of an inner call that this layer bounded;
// ctx is the context which that call had, so ctx.Deadline() is the bound, and
// ctx has not been cancelled by the layer yet. If it answers true, the caller
// gets an [*Error] around err, otherwise err itself. It may be called
// concurrently. A nil expired means that the bound has passed: err came after
// this layer's deadline had ended ctx. LayerFunc panics if d is not above zero.
func LayerFunc[Req, Res any](d time.Duration, expired func(ctx context.Context, err error) bool) turret.Layer[Req, Res] {
	if d <= 0 {
		misuse.Check("timeout: Layer", &turret.FieldError{Package: "timeout", Field: "d", Value: d, Bound: "above 0"})
	}
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] {
		s := &service[Req, Res]{Service: inner, d: d, expired: expired, cause: &Error{After: d, Err: context.DeadlineExceeded}}
		if expired == nil {
			s.expired = s.ended
		}
		return s
	}
}

type service[Req, Res any] struct {
	turret.Service[Req, Res]

	d       time.Duration
	expired func(ctx context.Context, err error) bool
	cause   error         // of the contexts that this service ends
	over    atomic.Uint64 // calls that the bound has ended
}

// Call bounds the inner call. The context is left as it is if it ends soon
// enough without us: no timer, nothing to allocate.
func (s *service[Req, Res]) Call(ctx context.Context, req Req) (Res, error) {
	// time.Until reads one clock where time.Now reads two.
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= s.d {
		return s.Service.Call(ctx, req)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, time.Now().Add(s.d), s.cause)
	defer cancel() // also after a panic or Goexit below
	res, err := s.Service.Call(ctx, req)
	switch {
	case err == nil:
	case err == s.cause: //nolint:errorlint // identity is meant: the inner call has said it already
		s.over.Add(1)
	case s.expired(ctx, err):
		s.over.Add(1)
		err = &Error{After: s.d, Err: err}
	}
	return res, err
}

// ended reports whether it was this service that ended ctx. The cause tells it
// from a caller's context that ends with the same error and named no deadline.
func (s *service[Req, Res]) ended(ctx context.Context, _ error) bool {
	return context.Cause(ctx) == s.cause //nolint:errorlint // identity is meant: our cause, not one like it
}

// String returns the layer in words: "timeout 1s".
func (s *service[Req, Res]) String() string { return "timeout " + s.d.String() }

// ErrTimeout is matched (errors.Is) by the error of every call that a [Layer]
// ended. It matches context.DeadlineExceeded itself.
var ErrTimeout error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string        { return "timeout" }
func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// An Error is what the caller of a bounded call gets when the bound has passed.
// It matches [ErrTimeout] and context.DeadlineExceeded under errors.Is, and
// whatever Err matches: [turret.ErrNotReady] if the call spent its time waiting
// in a line and was never sent.
type Error struct {
	// After is the bound that has passed.
	After time.Duration
	// Err is the error of the inner call.
	Err error
}

// Error returns the bound, and what the inner call said unless that is only
// that its context's deadline was exceeded.
func (e *Error) Error() string {
	text := "timeout after " + e.After.String()
	if e.Err == nil || e.Err == context.DeadlineExceeded { //nolint:errorlint // one with a text of its own is kept
		return text
	}
	return text + ": " + e.Err.Error()
}

// Is reports whether target is [ErrTimeout] or context.DeadlineExceeded.
func (e *Error) Is(target error) bool {
	return target == ErrTimeout || errors.Is(ErrTimeout, target)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout returns true: with Temporary it makes e a net.Error, as
// context.DeadlineExceeded is one.
func (e *Error) Timeout() bool { return true }

// Temporary returns true.
func (e *Error) Temporary() bool { return true }
