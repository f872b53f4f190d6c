package breaker

import (
	"time"

	"github.com/turret-go/turret/internal/circuit"
	"github.com/turret-go/turret/retry"
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
func (c Config) Validate() error { return c.circuit().Validate("breaker") }

// circuit returns c for the circuit of a breaker.
func (c Config) circuit() circuit.Config {
	inner := circuit.Config{
		Consecutive: c.Consecutive, Ratio: c.Ratio, MinCalls: c.MinCalls, Window: c.Window, Backoff: c.Backoff,
	}
	if f := c.OnChange; f != nil {
		inner.OnChange = func(from, to circuit.State) { f(State(from), State(to)) }
	}
	return inner
}
