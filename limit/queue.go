package limit

import (
	"fmt"
	"time"
)

// Unbounded as [Queue.Max] lets any number of calls wait.
const Unbounded = -1

// A Queue says how calls may wait in line for room in a limit. The zero Queue
// lets nobody wait: a call that finds no room is refused at once. A line is
// first in, first out.
//
// A short line smooths bursts. A long one only adds time to every call once the
// limit is below what is asked of it: the line is then always full, and each
// call waits through all of it. Give Timeout well below the deadlines of the
// callers, so that who gets in still has time to do something.
type Queue struct {
	// Max is how many calls may wait; a call that finds Max calls waiting is
	// refused. Zero: none may. Unbounded (-1): any number, as Tower's limits do.
	Max int
	// Timeout is how long a call may wait before it is refused. Zero: as long as
	// its context allows. It has no meaning when Max is zero.
	Timeout time.Duration
}

// Validate returns an error that names the field that is out of bounds: Max
// below -1, or a negative Timeout.
func (q Queue) Validate() error {
	switch {
	case q.Max < Unbounded:
		return fmt.Errorf("limit: Queue.Max is %d, must be Unbounded (-1), 0 or more", q.Max)
	case q.Timeout < 0:
		return fmt.Errorf("limit: Queue.Timeout is %v, must be 0 (no bound) or more", q.Timeout)
	}
	return nil
}
