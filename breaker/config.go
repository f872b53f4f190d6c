package breaker

import (
	"cmp"
	"fmt"
	"math"
	"time"

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

// Config says when a breaker opens, and for how long. The zero value is the
// default: five failures in a row, or half of at least 20 calls of the last
// 10 s; open for about 1 s, doubled up to a minute while probes fail.
type Config struct {
	// Consecutive is how many failures in a row open the breaker. 0 means 5.
	// Negative: a row of failures does not open it.
	Consecutive int
	// Ratio is the share of failures, above 0 and up to 1, among the calls of
	// the last Window that opens the breaker. 0 means 0.5. Negative: no share
	// opens it. A row finds an outage within a few calls; a share finds a
	// server that answers every other call, whose rows are short.
	Ratio float64
	// MinCalls is how many calls the last Window must hold before their share
	// of failures is judged. 0 means 20; at least 1, at most 1,000,000.
	MinCalls int
	// Window is how far back calls are counted for Ratio. 0 means 10 s; at
	// least 10 ns. It is kept in ten buckets, so calls are forgotten a tenth
	// of it at a time.
	Window time.Duration
	// Backoff says how long the breaker stays open: Base the first time (0
	// means 1 s), doubled up to Max (0 means a minute, or Base if that is
	// longer) each time that a probe fails. Jitter 0 means 0.25: the period is
	// anything from three quarters of that up to all of it, so that the clients
	// of one server do not all probe it at the same instant. The other values
	// mean what [retry.Backoff] says, except that Base must not be negative.
	Backoff retry.Backoff
	// OnChange, if not nil, is told of each change of state, in order, one at
	// a time, with no lock held: it may call the breaker's methods. Of the change
	// to HalfOpen it is told when the first probe enters, which may be long after
	// the open period: a breaker has no timer. It runs on the goroutine of the
	// call that caused the change, or of a call that caused an earlier one. If it
	// panics, the panic is that call's.
	OnChange func(from, to State)
}

// Validate returns an error that names the field, its value and its bound if c
// cannot be used.
func (c Config) Validate() error {
	switch {
	case math.IsNaN(c.Ratio) || c.Ratio > 1:
		return fmt.Errorf("breaker: Config.Ratio is %v, must be at most 1 (0 means %v, negative none)", c.Ratio, defaultRatio)
	case c.MinCalls < 0 || c.MinCalls > maxMinCalls:
		return fmt.Errorf("breaker: Config.MinCalls is %d, must be from 0 to %d (0 means %d)", c.MinCalls, maxMinCalls, defaultMinCalls)
	case c.Window < 0 || c.Window > 0 && c.Window < buckets:
		return fmt.Errorf("breaker: Config.Window is %v, must be at least %v (0 means %v)", c.Window, time.Duration(buckets), defaultWindow)
	case c.Backoff.Base < 0:
		return fmt.Errorf("breaker: Config.Backoff.Base is %v, must not be negative (0 means %v)", c.Backoff.Base, defaultOpenFor)
	}
	if err := c.Backoff.Validate(); err != nil {
		return fmt.Errorf("breaker: Config.Backoff: %w", err)
	}
	return nil
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
