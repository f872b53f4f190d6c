package breaker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/circuit"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/retry"
)

// ErrOpen is the error of the refusals of an open breaker.
var ErrOpen = errors.New("circuit breaker is open")

// layerName is the name in the refusals.
const layerName = "breaker"

// probing is the refusal while a probe runs: for how long is not known.
var probing = &turret.Refusal{
	Kind: turret.KindUnavailable, Layer: layerName, Reason: turret.ReasonCircuitOpen, Err: ErrOpen,
}

// A Breaker is a [turret.Gate] that refuses calls at once while the other side
// is unwell, instead of letting each of them find out. It is closed at first.
// Its methods may be called concurrently; entering and leaving a closed breaker
// takes no lock. It has no goroutine and no timer of its own.
type Breaker struct {
	circuit *circuit.Circuit
	base    time.Time

	mu     sync.Mutex // held while config and the circuit's change together
	config Config

	entered, left, refused atomic.Uint64
}

// New returns a closed Breaker. It panics with the error of [Config.Validate]
// if c is not valid.
func New(c Config) *Breaker {
	misuse.Check("breaker: New", c.Validate())
	return &Breaker{circuit: circuit.New(c.circuit(), rand.Uint64), base: time.Now(), config: c}
}

func (b *Breaker) now() int64 { return int64(time.Since(b.base)) }

// Ready waits until a call would pass: until the breaker is closed, or its open
// period is over and no probe runs.
func (b *Breaker) Ready(ctx context.Context) error {
	for {
		// The channel comes first: what changes after it was made closes it.
		changed := b.circuit.Changed()
		wait, refuses := b.circuit.Refusal(b.now())
		if !refuses {
			return nil
		}
		if ctx.Err() != nil {
			return turret.NotReady(ctx.Err())
		}
		if err := sleep(ctx, wait, changed); err != nil {
			return turret.NotReady(err)
		}
	}
}

// sleep waits for changed, for ctx, and, if wait is positive, that long.
func sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
		return nil
	case <-over:
		return nil
	}
}

// Enter lets the call pass or refuses it with [ErrOpen]. It never waits: a call
// that waits for another one to probe would wait for a server that is unwell.
func (b *Breaker) Enter(ctx context.Context) (turret.Ticket, error) {
	if ctx.Err() != nil {
		return turret.Ticket{}, turret.NotReady(ctx.Err())
	}
	return b.TryEnter(ctx)
}

// TryEnter lets the call pass or refuses it with [ErrOpen]. RetryAfter of the
// refusal is what is left of the open period; it is 0 while a probe runs.
func (b *Breaker) TryEnter(context.Context) (turret.Ticket, error) {
	t, wait, ok := b.circuit.Enter(b.now())
	if ok {
		b.entered.Add(1)
		return t, nil
	}
	b.refused.Add(1)
	if wait == 0 {
		return turret.Ticket{}, probing
	}
	r := *probing
	r.RetryAfter = wait
	return turret.Ticket{}, &r
}

// Leave says how a call went.
//
// Success ends a row of failures; Failure prolongs it. Overload neither prolongs
// nor ends a row, for a server that says it is full is alive; but it counts as a
// failure for the share, for one that says hardly anything else has to be left
// alone. Ignored and Unused count for nothing, and so does a call that entered
// before the last change of state. A probe succeeds with Success and fails with
// Failure or Overload; with Ignored or Unused it frees its place without a
// verdict, and the next call is the probe.
func (b *Breaker) Leave(t turret.Ticket, o turret.Outcome) {
	b.left.Add(1)
	now := b.now()
	if b.circuit.Leave(now, t, o) == circuit.Due {
		b.circuit.Trip(now)
	}
}

// State returns the state. An open breaker whose period is over is HalfOpen,
// before and while a probe runs.
func (b *Breaker) State() State { return State(b.circuit.State(b.now())) }

// Trip opens a closed breaker by hand, as a row of failures would.
func (b *Breaker) Trip() { b.circuit.Trip(b.now()) }

// Reset closes the breaker by hand and forgets every call so far.
func (b *Breaker) Reset() { b.circuit.Reset() }

// SetConsecutive changes [Config].Consecutive, 0 and negative values included.
func (b *Breaker) SetConsecutive(n int) {
	b.retune("SetConsecutive", func(c *Config) { c.Consecutive = n })
}

// SetRatio changes [Config].Ratio and MinCalls, 0 and negative values
// included. It panics if they are not valid.
func (b *Breaker) SetRatio(ratio float64, minCalls int) {
	b.retune("SetRatio", func(c *Config) { c.Ratio, c.MinCalls = ratio, minCalls })
}

// SetWindow changes [Config].Window, 0 included. The state stays: an open breaker
// stays open. The new window begins empty. It panics if it is not valid.
func (b *Breaker) SetWindow(d time.Duration) {
	b.retune("SetWindow", func(c *Config) { c.Window = d })
}

// SetBackoff changes [Config].Backoff, from the next open period on. It panics
// if it is not valid.
func (b *Breaker) SetBackoff(backoff retry.Backoff) {
	b.retune("SetBackoff", func(c *Config) { c.Backoff = backoff })
}

// retune changes the configuration for setter. It panics if the result is not
// valid, and nothing is changed then.
func (b *Breaker) retune(setter string, change func(c *Config)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	config := b.config
	change(&config)
	misuse.Check("breaker: Breaker."+setter, config.Validate())
	b.config = config
	b.circuit.SetConfig(config.circuit())
}

// Stats is a snapshot of a [Breaker].
type Stats struct {
	State    State
	InFlight int    // calls that entered and have not left
	Entered  uint64 // calls that passed, since New
	Refused  uint64 // calls that were refused, since New
	Opened   uint64 // how often it opened, a failed probe included
	Row      int    // failures in a row that stand at the moment
	Calls    int    // calls in the window, while closed
	Failures int    // failures and overloads among them
	// OpenFor is what is left of the open period.
	OpenFor time.Duration
}

// Stats returns a snapshot. Its fields are read one after another, so that
// they may be a few calls apart.
func (b *Breaker) Stats() Stats {
	now := b.now()
	s := Stats{State: State(b.circuit.State(now)), Row: int(b.circuit.Row())}
	left := b.left.Load() // before entered, so that InFlight is not negative
	s.Entered, s.Refused = b.entered.Load(), b.refused.Load()
	s.InFlight = int(s.Entered - left)
	s.Calls, s.Failures = b.circuit.Counts(now)
	s.OpenFor, _ = b.circuit.Refusal(now)
	s.Opened = b.circuit.Openings()
	return s
}

// String returns the state and what led to it.
func (b *Breaker) String() string {
	s := b.Stats()
	if s.State == Open {
		return fmt.Sprintf("breaker: Open for %v, opened %d, refused %d", s.OpenFor.Round(time.Millisecond), s.Opened, s.Refused)
	}
	return fmt.Sprintf("breaker: %v, %d of %d failed, %d in a row, opened %d, refused %d",
		s.State, s.Failures, s.Calls, s.Row, s.Opened, s.Refused)
}
