package retry

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Defaults of [Backoff].
const (
	defaultBase = 50 * time.Millisecond
	defaultMax  = 5 * time.Second
)

// A Backoff says how long to wait before each retry: a bound that grows by
// Multiplier from Base to Max, and a random share of it. The zero value is the default and
// waits, with its full jitter,
//
//	retry    1      2       3       4       5       6      7      8 and more
//	up to    50 ms  100 ms  200 ms  400 ms  800 ms  1.6 s  3.2 s  5 s
//
// Full jitter, uniform over the whole of the bound, is what spreads callers
// that failed at the same moment best and loads the other side least
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
// A Backoff is a value without state: it may be copied and used concurrently.
type Backoff struct {
	// Base is the bound of the first delay. 0 means 50 ms, or Max if that is
	// shorter. Negative: no delay at all.
	Base time.Duration
	// Max is the longest bound. 0 means 5 s, or Base if that is longer.
	// Negative: none. It must not be shorter than Base.
	Max time.Duration
	// Jitter is the share of the bound, above 0 and up to 1, that is left to
	// chance: a delay is uniform over ((1-Jitter) x bound, bound]. 0 means 1:
	// anything up to the bound. Negative: none, the delay is the bound.
	Jitter float64
	// Multiplier is how much longer each bound is than the one before it. 0
	// means 2; above 1, and finite.
	Multiplier float64
}

// Validate returns a [turret.FieldError] if b cannot be used.
func (b Backoff) Validate() error {
	if b.Base > 0 && b.Max > 0 && b.Max < b.Base {
		return invalid("Max", b.Max, fmt.Sprintf("at least Base (%v)", b.Base))
	}
	if math.IsNaN(b.Jitter) || b.Jitter > 1 {
		return invalid("Jitter", b.Jitter, "at most 1 (0 means 1, negative none)")
	}
	if m := b.Multiplier; m != 0 && !(m > 1 && m <= math.MaxFloat64) { // NaN is neither
		return invalid("Multiplier", m, "above 1 and finite (0 means 2)")
	}
	return nil
}

// Delay returns the delay before a retry; attempt 1 is the first retry, and
// what is less counts as 1. random is one uniform random word. Delay is a pure
// function: it never overflows, however high the attempt, and the result is at
// least 0 and at most Max.
func (b Backoff) Delay(attempt int, random uint64) time.Duration {
	bound := b.bound(attempt)
	if b.Jitter < 0 {
		return bound
	}
	span := uint64(bound)
	if b.Jitter > 0 && b.Jitter < 1 {
		// Rounding does not lift the product above bound, even where bound has
		// more than 53 bits.
		span = uint64(b.Jitter * float64(bound))
	}
	// The high word of the product is uniform over [0, span), to the
	// nanosecond: the jitter is one of the whole duration, not of its seconds.
	chance, _ := bits.Mul64(random, span)
	return bound - time.Duration(chance)
}

// bound returns what the delay before a retry is at most: Base multiplied
// attempt-1 times, and no more than Max.
func (b Backoff) bound(attempt int) time.Duration {
	if b.Base < 0 {
		return 0
	}
	longest := b.Max
	if longest < 0 {
		longest = math.MaxInt64
	}
	longest = cmp.Or(longest, max(defaultMax, b.Base))
	base := cmp.Or(b.Base, min(defaultBase, longest))
	steps := max(attempt, 1) - 1
	if b.Multiplier != 0 && b.Multiplier != 2 {
		return grown(base, longest, b.Multiplier, steps)
	}
	// Shifting the limit down instead of the base up cannot overflow.
	if base > longest>>steps {
		return longest
	}
	return base << steps
}

// grown returns base multiplied by m so many times, and no more than longest. A
// product of floating point that is below longest fits a Duration.
func grown(base, longest time.Duration, m float64, steps int) time.Duration {
	product := float64(base) * math.Pow(m, float64(steps))
	if product >= float64(longest) {
		return longest
	}
	return time.Duration(product)
}
