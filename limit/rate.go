package limit

import (
	"cmp"
	"fmt"
	"time"
)

// A Rate is how many calls may start in how much time: N in Per, evenly spread,
// and up to Burst at once after a pause. The zero Rate is invalid.
type Rate struct {
	// N is how many calls may start in each Per. At least 1.
	N int
	// Per is the time in which N calls may start. More than 0.
	Per time.Duration
	// Burst is how many calls may start at the same instant, after a time in
	// which few did. Zero means N. With 1 each call starts at least Per/N after
	// the one before it; a line is then served a little below the rate, because
	// the time by which a wake-up comes late is lost. 2 or more makes up for it.
	Burst int
}

// PerSecond returns the rate of n calls a second, with a burst of n.
func PerSecond(n int) Rate { return Rate{N: n, Per: time.Second} }

// Validate returns an error that names the field that is out of bounds: N or Per
// not above zero, or a negative Burst.
func (r Rate) Validate() error {
	switch {
	case r.N < 1:
		return fmt.Errorf("limit: Rate.N is %d, must be at least 1", r.N)
	case r.Per <= 0:
		return fmt.Errorf("limit: Rate.Per is %v, must be more than 0", r.Per)
	case r.Burst < 0:
		return fmt.Errorf("limit: Rate.Burst is %d, must be 0 (the same as N) or more", r.Burst)
	}
	return nil
}

// String returns r in the form "100 per 1s, burst 10".
func (r Rate) String() string {
	return fmt.Sprintf("%d per %v, burst %d", r.N, r.Per, r.burst())
}

func (r Rate) burst() int { return cmp.Or(r.Burst, r.N) }
