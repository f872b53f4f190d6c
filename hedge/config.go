package hedge

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

// Defaults and bounds of [Config].
const (
	defaultQuantile   = 0.95
	defaultMinSamples = 100
	defaultWindow     = 30 * time.Second
	defaultMinDelay   = time.Millisecond
	defaultMaxRise    = 2
	defaultRatio      = 0.05

	maxSamples = 1_000_000
	minWindow  = 100 * time.Millisecond
	maxWindow  = time.Hour
	maxHedges  = 4
)

// A Config says when a call is hedged and how often. The zero value is the
// default: one hedge, after the 95th percentile of the latencies of the last
// 30 s, for at most 5 % of the calls.
type Config struct {
	// Delay is how long a call waits for its answer before a hedge is sent, and
	// before each further one. 0 means the Quantile of recent latencies. If
	// both are given, Delay holds until there are MinSamples. A negative value
	// is an error.
	Delay time.Duration
	// Quantile is the share of calls that are answered within the delay, above
	// 0 and below 1. 0 means 0.95. It is a number of millionths: what is finer
	// is cut off. A higher one sends fewer hedges, and later; it should be no
	// lower than one less the share that the Budget pays for. With a Delay and
	// no Quantile it serves MaxRise alone.
	Quantile float64
	// MinSamples is how many latencies the Quantile is taken of at least.
	// Before there are so many it is not known: calls are hedged after Delay,
	// and without a Delay not at all. 0 means 100; at most 1,000,000; a
	// negative value is an error.
	MinSamples int
	// Window is how old the latencies are that the Quantile is taken of, once
	// there are MinSamples; older ones stay until there are. They leave together
	// with those of the next tenth of a Window, or, where calls are few, with a
	// tenth of MinSamples. 0 means 30 s. At least 100 ms and at most 1 h.
	Window time.Duration
	// MinDelay is the shortest delay that a Quantile leads to. 0 means 1 ms;
	// negative: none.
	MinDelay time.Duration
	// MaxHedges is how many hedges of one call are sent at most, those that
	// were refused unsent not counted. 0 means 1; at most 4; a negative value
	// is an error.
	MaxHedges int
	// MaxRise pauses hedging: there is none while the quantile is more than
	// MaxRise times what it was a minute before. 0 means 2; at least 1;
	// negative: no pause.
	MaxRise float64
	// Budget bounds the hedges of all calls together; a hedge that is refused
	// unsent draws on it as well. nil means one of its own for each call of
	// [Layer] or [NewPolicy], with a Ratio of 0.05 and no MinPerSecond: 5 % of
	// the calls. A client with fewer than two calls a second needs one with a
	// MinPerSecond, or is never hedged. retry.Unlimited means none.
	Budget *retry.Budget
	// Counted says that something else counts the calls in Budget. Set it if a
	// retry in the same stack has the same Budget: a call that both count pays
	// for two. (To a retry inside a hedge each attempt is a call.) Without a
	// Budget it is an error.
	Counted bool
	// Success says which errors are answers, so that an attempt that returns
	// one wins as if it had none. nil means that none is. It is not asked about
	// errors that match turret.ErrNotReady. ctx is that of the attempt. It may
	// be called concurrently.
	Success func(ctx context.Context, err error) bool
	// RetryAfter finds in an error what the other side says about when to send
	// the request again; said is false if it does not say. If it does, the call
	// sends no further hedges, whatever the delay; and if no attempt succeeds,
	// its error is the call's, so that a retry outside sees it. nil means
	// that there is never such a delay. It may be called concurrently.
	RetryAfter func(ctx context.Context, err error) (delay time.Duration, said bool)
	// OnHedge, if not nil, is called for each hedge before it is sent: attempt is
	// its number, 1 for the first, and after how long the call has taken so
	// far. It runs on the goroutine of the hedge, with no lock held, and may be
	// called concurrently.
	OnHedge func(ctx context.Context, attempt int, after time.Duration)
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Delay < 0:
		return invalid("Delay", c.Delay, "at least 0 (0 means the Quantile)")
	case c.Quantile != 0 && !(c.Quantile >= 1.0/million && c.Quantile < 1): // NaN is neither
		return invalid("Quantile", c.Quantile, fmt.Sprintf("at least 0.000001 and below 1 (0 means %v)", defaultQuantile))
	case c.MinSamples < 0 || c.MinSamples > maxSamples:
		return invalid("MinSamples", c.MinSamples, fmt.Sprintf("between 1 and %d (0 means %d)", maxSamples, defaultMinSamples))
	case c.Window != 0 && (c.Window < minWindow || c.Window > maxWindow):
		return invalid("Window", c.Window, fmt.Sprintf("between %v and %v (0 means %v)", minWindow, maxWindow, defaultWindow))
	case c.MaxHedges < 0 || c.MaxHedges > maxHedges:
		return invalid("MaxHedges", c.MaxHedges, fmt.Sprintf("between 1 and %d (0 means 1)", maxHedges))
	case math.IsNaN(c.MaxRise) || c.MaxRise > 0 && c.MaxRise < 1:
		return invalid("MaxRise", c.MaxRise, fmt.Sprintf("at least 1 (0 means %v, negative no pause)", defaultMaxRise))
	case c.Counted && c.Budget == nil:
		return invalid("Counted", c.Counted, "false without a Budget, which nothing else counts in")
	}
	return nil
}

// withDefaults returns c with its zeros filled in, but for its Budget, and 0 for
// none.
func (c Config) withDefaults() *settings {
	fixed := c.Delay > 0 && c.Quantile == 0
	c.Quantile = cmp.Or(c.Quantile, defaultQuantile)
	c.MinSamples = cmp.Or(c.MinSamples, defaultMinSamples)
	c.Window = cmp.Or(c.Window, defaultWindow)
	c.MinDelay = max(cmp.Or(c.MinDelay, defaultMinDelay), 0)
	c.MaxHedges = cmp.Or(c.MaxHedges, 1)
	c.MaxRise = max(cmp.Or(c.MaxRise, defaultMaxRise), 0)
	return &settings{c, fixed}
}

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "hedge", Field: field, Value: value, Bound: bound}
}
