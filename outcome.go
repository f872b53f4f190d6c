package turret

import (
	"context"
	"errors"
	"fmt"
)

// An Outcome says how a call went, as far as it tells something about the side
// that was called. Limits, breakers, budgets and balancers share it. The zero
// value is none of the outcomes and counts as [Failure].
type Outcome uint8

// The outcomes.
const (
	// Success: the other side answered. An error that is the answer to the
	// request (not found, permission denied) is a success too: the server that
	// gave it is healthy.
	Success Outcome = iota + 1
	// Failure: the other side is unwell. Also a panic or a runtime.Goexit
	// below, and a deadline that passed while waiting for the other side,
	// also the caller's own: otherwise an address that swallows requests would
	// never count as unwell.
	Failure
	// Overload: the other side said that it has too much to do.
	Overload
	// Ignored: the request was sent, and its end says nothing about the other
	// side, because our own caller cancelled it.
	Ignored
	// Unused: the request was not sent; its error matches [ErrNotReady]. What
	// was taken for it (a token, the place of a probe) goes back.
	Unused
)

// String returns the name of o.
func (o Outcome) String() string {
	switch o {
	case Success:
		return "Success"
	case Failure:
		return "Failure"
	case Overload:
		return "Overload"
	case Ignored:
		return "Ignored"
	case Unused:
		return "Unused"
	default:
		return fmt.Sprintf("Outcome(%d)", uint8(o))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown outcome is Outcome(9).
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Classify is the classification of calls whose errors have no further
// meaning: nil is [Success], an error after ctx was cancelled is [Ignored],
// everything else is [Failure], an expired deadline too. ctx is the context
// that the call was made with.
func Classify(ctx context.Context, err error) Outcome {
	switch {
	case err == nil:
		return Success
	case errors.Is(ctx.Err(), context.Canceled):
		return Ignored
	default:
		return Failure
	}
}
