package limit

import (
	"time"

	"github.com/turret-go/turret"
)

// Unbounded as [Queue.Max] lets any number of calls wait.
const Unbounded = -1

// A Queue says how calls may wait in line for room in a limit. The zero Queue
// lets no call wait: a call that finds no room is refused at once. A line is
// first in, first out.
//
// A short line smooths bursts. A long one only adds time to every call once the
// limit is below what is asked of it: the line is then always full, and each
// call waits through all of it. Give Timeout well below the deadlines of the
// callers, so that a call that gets in still has time to run.
type Queue struct {
	// Max is how many calls may wait; a call that finds Max calls waiting is
	// refused. Zero: none may. Unbounded (-1): any number, as Tower's limits do.
	Max int
	// Timeout is how long a call may wait before it is refused. Zero: as long as
	// its context allows. It must be zero when Max is zero: no call waits then.
	Timeout time.Duration
}

// Validate returns a [turret.FieldError] if q cannot be used: Max below -1, a
// negative Timeout, or a Timeout without a Max.
func (q Queue) Validate() error {
	switch {
	case q.Max < Unbounded:
		return invalid("Max", q.Max, "Unbounded (-1) or at least 0")
	case q.Timeout < 0:
		return invalid("Timeout", q.Timeout, "at least 0 (0 means no bound)")
	case q.Timeout > 0 && q.Max == 0:
		return invalid("Timeout", q.Timeout, "0 where Max is 0, which lets no call wait")
	}
	return nil
}

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "limit", Field: field, Value: value, Bound: bound}
}
