package turret

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotReady is matched (errors.Is) by every error of a call whose request was
// not sent anywhere: it may be sent again, or elsewhere, without being run
// twice. [*Refusal] matches it, and so does the error of a caller that gave up
// while it waited in a line. Ready returns it when there is no room.
var ErrNotReady = errors.New("turret: not ready")

// Kind says what sort of refusal a [Refusal] is: what an edge needs to choose a
// status.
type Kind uint8

// The kinds of refusal. The zero Kind is treated as KindOverloaded.
const (
	// KindOverloaded: there is too much to do at the moment.
	KindOverloaded Kind = iota
	// KindRateLimited: the caller asks more often than it may.
	KindRateLimited
	// KindUnavailable: there is no server to ask.
	KindUnavailable
)

// String returns the name of k without its prefix.
func (k Kind) String() string {
	switch k {
	case KindOverloaded:
		return "Overloaded"
	case KindRateLimited:
		return "RateLimited"
	case KindUnavailable:
		return "Unavailable"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown kind is Kind(9).
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// The reasons of the refusals that Turret's own mechanisms make. Others may use
// reasons of their own, in the same form.
const (
	ReasonLimitFull    = "LIMIT_FULL"    // a concurrency limit is full and has no line
	ReasonQueueFull    = "QUEUE_FULL"    // the line in front of a limit is full
	ReasonQueueTimeout = "QUEUE_TIMEOUT" // the longest time in line is over
	ReasonRateLimited  = "RATE_LIMITED"  // no token is left
	ReasonOverloaded   = "OVERLOADED"    // something inside a load shedder is not ready
	ReasonBufferFull   = "BUFFER_FULL"   // the line of a buffer is full
	ReasonBufferClosed = "BUFFER_CLOSED" // the buffer was closed
	ReasonCircuitOpen  = "CIRCUIT_OPEN"  // a circuit breaker is open
	ReasonNoEndpoint   = "NO_ENDPOINT"   // a balancer has no endpoint that takes the call
	ReasonLimitAway    = "LIMIT_AWAY"    // the engine of a shared limit cannot be asked
)

// A Refusal is the error of a call that a limit, a breaker, a shedder, a buffer
// or a balancer turned away before it was sent anywhere. It matches
// [ErrNotReady]. A Refusal that was returned is not to be changed: mechanisms
// return the same one many times, to many goroutines.
type Refusal struct {
	// Kind is what an edge needs to choose a status.
	Kind Kind
	// Layer is the name of the layer that refused, such as "limit".
	Layer string
	// Reason says why, in upper case with underscores: LIMIT_FULL.
	Reason string
	// RetryAfter is how long to wait before trying again; zero if not known.
	RetryAfter time.Duration
	// Err is the error that stands for the reason in Go code, such as
	// limit.ErrFull. It is in reach of errors.Is; it may be nil.
	Err error
}

// Error returns the layer and the reason, in one line.
func (r *Refusal) Error() string {
	text := r.Reason
	if r.Err != nil {
		text = r.Err.Error()
	}
	if r.Layer != "" {
		text = r.Layer + ": " + text
	}
	if r.RetryAfter > 0 {
		text += ", retry after " + r.RetryAfter.String()
	}
	return text
}

// Is reports whether target is [ErrNotReady].
func (r *Refusal) Is(target error) bool { return target == ErrNotReady }

// Unwrap returns r.Err.
func (r *Refusal) Unwrap() error { return r.Err }

// NotReady returns an error with the text of err that matches err and also
// [ErrNotReady]. Gates return NotReady(ctx.Err()) when ctx ends before there
// was room. NotReady(nil) is ErrNotReady.
func NotReady(err error) error {
	if err == nil {
		return ErrNotReady
	}
	return &notReadyError{err}
}

type notReadyError struct{ err error }

func (e *notReadyError) Error() string        { return e.err.Error() }
func (e *notReadyError) Unwrap() error        { return e.err }
func (e *notReadyError) Is(target error) bool { return target == ErrNotReady }

// Sent returns an error with the text of err that matches everything that err
// matches, but not [ErrNotReady]: the request may have been sent. Code that sends
// a request more than once, or may have sent it before the last refusal,
// must return Sent(err). An error that does not match ErrNotReady, and nil, are
// returned as they are.
func Sent(err error) error {
	if !errors.Is(err, ErrNotReady) {
		return err
	}
	return &sentError{err}
}

// sentError hides err from the walk of errors.Is and errors.As, and does the
// walk itself, so that it can leave ErrNotReady out.
type sentError struct{ err error }

func (e *sentError) Error() string { return e.err.Error() }

func (e *sentError) Is(target error) bool {
	return target != ErrNotReady && errors.Is(e.err, target)
}

func (e *sentError) As(target any) bool { return errors.As(e.err, target) }
