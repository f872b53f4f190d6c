package breaker

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
	// OnChange, if not nil, is called for each change of state, in order, one at
	// a time, with no lock held: it may call the breaker's methods. For the change
	// to HalfOpen it is called when the first probe enters, which may be long after
	// the open period: a breaker has no timer. It runs on the goroutine of the
	// call that caused the change, or of a call that caused an earlier one. If it
	// panics, the panic is that call's.
	OnChange func(from, to State)
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
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
	return turret.FieldOf("breaker", "Backoff", c.Backoff.Validate())
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

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "breaker", Field: field, Value: value, Bound: bound}
}
