package reconnect

import (
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

// A Config says how soon to try again. The zero value is the default.
type Config struct {
	// Backoff is the pause after an attempt that failed; its first delay comes
	// after the first one. The zero value grows from 50 ms to 5 s, with full
	// jitter. Base must not be negative: without any pause a service that cannot
	// be reached would be tried in a loop.
	Backoff retry.Backoff
	// OnFailure, if not nil, is called for each attempt that failed, and for each
	// service that was lost: err is why, failures how many there were in a row,
	// this one included, and delay the pause before the next attempt. failures
	// and delay are 0 for a service that was lost after calls on it had
	// succeeded. It runs with no lock held, on the goroutine of a caller or of an
	// attempt, before the callers that wait for it return, and may call all methods
	// but Close.
	OnFailure func(err error, failures int, delay time.Duration)
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	if c.Backoff.Base < 0 {
		return invalid("Backoff.Base", c.Backoff.Base, "at least 0 (0 means 50ms)")
	}
	return turret.FieldOf("reconnect", "Backoff", c.Backoff.Validate())
}

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "reconnect", Field: field, Value: value, Bound: bound}
}
