package adaptive

import (
	"cmp"
	"context"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
)

// Defaults and bounds of [Config].
const (
	defaultStart = 20
	defaultMin   = 1
	defaultMax   = 10_000
	largestMax   = 1_000_000
)

// A Config says between which bounds a [Limit] moves, and how it orders the
// calls in its line. The zero Config is a good one.
type Config struct {
	// Start is how many calls may be inside before anything was measured. 0 means
	// 20, or the nearest number that Min and Max allow. It must be between Min
	// and Max.
	Start int
	// Min is the least number of calls that may be inside. 0 means 1. It must be
	// between 1 and Max.
	Min int
	// Max is the greatest number of calls that may be inside. 0 means 10,000, or
	// Min if that is more. At most 1,000,000. With Min equal to Max the limit does
	// not move and only the line adapts.
	Max int

	// Level returns how critical the call of ctx is. nil means criticality.From.
	// It is called with no lock held, concurrently, and only for calls that have
	// to wait.
	Level func(ctx context.Context) criticality.Level
	// Key returns on behalf of what the call of ctx is made, such as a tenant. Of
	// the calls of one level that wait, one of the key that was given least in
	// the last seconds goes first. nil means that calls have no keys. It is
	// called with no lock held, concurrently, for every call.
	Key func(ctx context.Context) string
}

// Validate returns a [*turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Min < 0:
		return invalid("Min", c.Min, "0 (which means 1) or more")
	case c.Max < 0 || c.Max > largestMax:
		return invalid("Max", c.Max, "between 0 (which means 10000) and 1000000")
	case c.Max > 0 && c.Min > c.Max:
		return invalid("Min", c.Min, "at most Max")
	case c.Min > largestMax:
		return invalid("Min", c.Min, "at most 1000000")
	case c.Start < 0:
		return invalid("Start", c.Start, "0 (which means 20) or more")
	case c.Start > 0 && (c.Start < c.withDefaults().Min || c.Start > c.withDefaults().Max):
		return invalid("Start", c.Start, "between Min and Max")
	}
	return nil
}

func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "adaptive", Field: field, Value: value, Bound: bound}
}

// withDefaults returns c with its zeros filled in.
func (c Config) withDefaults() Config {
	c.Min = cmp.Or(c.Min, defaultMin)
	if c.Max == 0 {
		c.Max = max(defaultMax, c.Min)
	}
	if c.Start == 0 {
		c.Start = min(max(defaultStart, c.Min), c.Max)
	}
	if c.Level == nil {
		c.Level = criticality.From
	}
	return c
}
