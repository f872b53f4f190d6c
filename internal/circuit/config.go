package circuit

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

// Defaults of [Config].
const (
	defaultConsecutive = 5
	defaultRatio       = 0.5
	defaultMinCalls    = 20
	defaultWindow      = 10 * time.Second
	defaultOpenFor     = time.Second
	defaultMaxOpenFor  = time.Minute
	defaultJitter      = 0.25
)

// Config says when a circuit opens, and for how long. Its fields mean what those
// of breaker.Config do, zeros included.
type Config struct {
	Consecutive int           // failures in a row
	Ratio       float64       // of failures among the calls of the last Window
	MinCalls    int           // that the Window must hold
	Window      time.Duration // how far back calls count for Ratio
	Backoff     retry.Backoff // the open periods
	// OnChange, if not nil, is called for each change of state, in order, one at
	// a time, with no lock held.
	OnChange func(from, to State)
}

// Validate returns a [turret.FieldError] if c cannot be used. It names the fields
// as those of package pkg, in whose configuration they were set. New and
// SetConfig take valid configurations only.
func (c Config) Validate(pkg string) error {
	invalid := func(field string, value any, bound string) error {
		return &turret.FieldError{Package: pkg, Field: field, Value: value, Bound: bound}
	}
	switch {
	case math.IsNaN(c.Ratio) || c.Ratio > 1:
		return invalid("Ratio", c.Ratio, fmt.Sprintf("at most 1 (0 means %v, negative none)", defaultRatio))
	case c.MinCalls < 0 || c.MinCalls > maxMinCalls:
		return invalid("MinCalls", c.MinCalls, fmt.Sprintf("between 0 and %d (0 means %d)", maxMinCalls, defaultMinCalls))
	case c.Window < 0 || c.Window > 0 && c.Window < buckets:
		return invalid("Window", c.Window, fmt.Sprintf("at least %v (0 means %v)", time.Duration(buckets), defaultWindow))
	case c.Backoff.Base < 0:
		return invalid("Backoff.Base", c.Backoff.Base, fmt.Sprintf("at least 0 (0 means %v)", defaultOpenFor))
	}
	return turret.FieldOf(pkg, "Backoff", c.Backoff.Validate())
}

// withDefaults returns c with every zero replaced by what it stands for.
func (c Config) withDefaults() Config {
	c.Consecutive = cmp.Or(c.Consecutive, defaultConsecutive)
	c.Ratio = cmp.Or(c.Ratio, defaultRatio)
	c.MinCalls = cmp.Or(c.MinCalls, defaultMinCalls)
	c.Window = cmp.Or(c.Window, defaultWindow)
	if c.Backoff.Base == 0 {
		c.Backoff.Base = defaultOpenFor
		if c.Backoff.Max > 0 {
			c.Backoff.Base = min(defaultOpenFor, c.Backoff.Max)
		}
	}
	c.Backoff.Max = cmp.Or(c.Backoff.Max, max(defaultMaxOpenFor, c.Backoff.Base))
	c.Backoff.Jitter = cmp.Or(c.Backoff.Jitter, defaultJitter)
	return c
}
