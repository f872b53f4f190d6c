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

// Validate returns a [turret.FieldError] if r cannot be used: N or Per not above
// zero, or a negative Burst.
func (r Rate) Validate() error {
	switch {
	case r.N < 1:
		return invalid("N", r.N, "at least 1")
	case r.Per <= 0:
		return invalid("Per", r.Per, "above 0")
	case r.Burst < 0:
		return invalid("Burst", r.Burst, "at least 0 (0 means N)")
	}
	return nil
}

// String returns r in the form "100 per 1s, burst 10".
func (r Rate) String() string {
	return fmt.Sprintf("%d per %v, burst %d", r.N, r.Per, r.burst())
}

func (r Rate) burst() int { return cmp.Or(r.Burst, r.N) }
