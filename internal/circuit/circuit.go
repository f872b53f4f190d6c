// Package circuit is a circuit breaker without a clock, for owners of many of
// them that read their clock once. Package breaker makes a gate of one, and
// package balance has two for each endpoint.
package circuit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
)

// A Circuit decides which calls pass, from how the calls before them ended.
//
// now is in nanoseconds since an instant that the owner chose, not negative,
// and the same for all calls. Enter and Leave of a closed circuit whose call did
// not fail take no lock. The methods may be called concurrently.
type Circuit struct {
	config atomic.Pointer[Config]
	// epoch is the state and a generation that grows with every change of it,
	// in one word: a call that began in another generation has no say.
	epoch  atomic.Uint64
	streak atomic.Int64
	shares atomic.Bool // whether calls are counted for a share
	window window

	mu     sync.Mutex
	until  int64  // the open period ends here
	period int64  // its length
	level  int    // how often in a row it was prolonged
	closed int64  // when the circuit closed last
	probe  int64  // when the running probe began, or noProbe
	serial uint64 // of the running probe
	opened uint64
	enters [HalfOpen + 1]uint64 // how often each state was entered from another
	random func() uint64

	wake       chan struct{} // closed and replaced at every change; nil if no call waits
	changes    []change
	delivering bool
}

type change struct{ from, to State }

const (
	noProbe   = -1
	stateBits = 2
)

// New returns a closed Circuit. random returns uniform random words, for the
// jitter; it is called concurrently only if the owner's other circuits share it.
func New(c Config, random func() uint64) *Circuit {
	circuit := new(Circuit)
	circuit.Init(c, random)
	return circuit
}

// Init is New for a Circuit that is part of something else. It is called once,
// before all other methods.
func (c *Circuit) Init(config Config, random func() uint64) {
	c.probe, c.random = noProbe, random
	c.SetConfig(config)
}

// State returns the state at now. An open circuit whose period is over is
// HalfOpen.
func (c *Circuit) State(now int64) State {
	if State(c.epoch.Load()&(1<<stateBits-1)) == Closed {
		return Closed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.stateLocked()
	if state == Open && now >= c.until {
		return HalfOpen
	}
	return state
}

func (c *Circuit) stateLocked() State { return State(c.epoch.Load() & (1<<stateBits - 1)) }

// Enter lets a call pass, or says how long the circuit will certainly refuse:
// 0 if that depends on the running probe. It must be followed by one Leave for
// each ok.
func (c *Circuit) Enter(now int64) (t turret.Ticket, wait time.Duration, ok bool) {
	epoch := c.epoch.Load()
	if State(epoch&(1<<stateBits-1)) == Closed {
		return turret.Ticket{Data: epoch}, 0, true
	}
	return c.enterSlowly(now)
}

// EnterClosed is Enter for a circuit that is closed; to any other it does nothing,
// and ok is false. The ticket is turret.Ticket{Data: data}.
func (c *Circuit) EnterClosed() (data uint64, ok bool) {
	epoch := c.epoch.Load()
	return epoch, epoch&(1<<stateBits-1) == uint64(Closed)
}

// enterSlowly is Enter for a circuit that is not closed.
func (c *Circuit) enterSlowly(now int64) (t turret.Ticket, wait time.Duration, ok bool) {
	defer c.deliver()
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.stateLocked()
	if state == Closed {
		return turret.Ticket{Data: c.epoch.Load()}, 0, true
	}
	if state == Open {
		if now < c.until {
			return t, time.Duration(c.until - now), false
		}
		c.changeLocked(HalfOpen)
	}
	if _, ok := c.roomLocked(now); !ok {
		return t, 0, false
	}
	c.probe = now
	c.serial++
	return turret.Ticket{Start: int64(c.serial), Data: c.epoch.Load()}, 0, true
}

// roomLocked reports whether a half-open circuit lets a probe in, and else how
// long the running one can keep others out. A probe that takes longer than the
// longest open period does no longer: it may be a stream that lives for hours.
// Where there is no longest period, the one before the probe takes its place.
func (c *Circuit) roomLocked(now int64) (wait time.Duration, ok bool) {
	if c.probe == noProbe {
		return 0, true
	}
	longest := int64(c.config.Load().Backoff.Max)
	if longest < 0 {
		longest = c.period
	}
	wait = time.Duration(longest - (now - c.probe))
	return max(0, wait), wait <= 0
}

// Refuses reports whether Enter would refuse at now. Unlike Enter it changes
// nothing.
func (c *Circuit) Refuses(now int64) bool {
	if State(c.epoch.Load()&(1<<stateBits-1)) == Closed {
		return false
	}
	_, refuses := c.Refusal(now)
	return refuses
}

// Refusal reports whether the circuit refuses at now, and for how long it will
// unless its state changes.
func (c *Circuit) Refusal(now int64) (wait time.Duration, refuses bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.stateLocked() {
	case Closed:
		return 0, false
	case Open:
		return max(0, time.Duration(c.until-now)), now < c.until
	default:
		wait, ok := c.roomLocked(now)
		return wait, !ok
	}
}

// Leave says how a call that Enter let pass ended.
//
// Success ends a row of failures; Failure prolongs it. Overload neither prolongs
// nor ends a row, for a server that says it is full is alive; but it counts as a
// failure for the share, for one that says hardly anything else has to be left
// alone. Ignored and Unused count for nothing, and so does a call that entered
// before the last change of state. A probe succeeds with Success and fails with
// Failure or Overload; with Ignored or Unused it frees its place without a
// verdict, and the next call is the probe.
func (c *Circuit) Leave(now int64, t turret.Ticket, o turret.Outcome) Verdict {
	epoch := c.epoch.Load()
	if t.Data != epoch {
		return Unchanged // began before the last change of state
	}
	if State(epoch&(1<<stateBits-1)) == HalfOpen {
		return c.judge(now, t, o)
	}
	switch o {
	case turret.Success:
		return c.succeeded(now)
	case turret.Ignored, turret.Unused:
		return Unchanged
	default: // Failure, Overload, and what is none of the outcomes
		return c.failed(now, o)
	}
}

func (c *Circuit) succeeded(now int64) Verdict {
	// Reading first keeps the cache line of a healthy circuit shared.
	if c.streak.Load() != 0 {
		c.streak.Store(0)
	}
	if c.shares.Load() {
		c.window.add(now, false)
	}
	return Unchanged
}

func (c *Circuit) failed(now int64, o turret.Outcome) Verdict {
	config := c.config.Load()
	due := false
	if o != turret.Overload {
		row := c.streak.Add(1)
		due = config.Consecutive > 0 && row >= int64(config.Consecutive)
	}
	if config.Ratio > 0 {
		c.window.add(now, true)
		calls, failures := c.window.sum(now)
		due = due || calls >= config.MinCalls && float64(failures) >= config.Ratio*float64(calls)
	}
	if due {
		return Due
	}
	return Unchanged
}

// Row returns how many calls have failed in a row since the circuit closed.
func (c *Circuit) Row() int64 { return c.streak.Load() }

// judge takes the verdict of a probe.
func (c *Circuit) judge(now int64, t turret.Ticket, o turret.Outcome) Verdict {
	defer c.deliver()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Data != c.epoch.Load() {
		return Unchanged
	}
	switch o {
	case turret.Success:
		c.closed = now
		c.resetLocked()
		return Recovered
	case turret.Ignored, turret.Unused:
		if t.Start == int64(c.serial) { // not a later probe's place
			c.probe = noProbe
			c.wakeLocked()
		}
		return Unchanged
	default:
		c.level++
		c.openLocked(now)
		return Reopened
	}
}

// Trip opens a closed circuit, and reports whether it was closed. The period is
// the first one of the backoff, unless the circuit has been closed for less
// time than it was open before: then the backoff goes on where it was, so that
// a server which passes its probe and fails again is left alone for longer.
func (c *Circuit) Trip(now int64) bool {
	defer c.deliver()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stateLocked() != Closed {
		return false
	}
	if c.opened > 0 && now-c.closed < c.period {
		c.level++
	} else {
		c.level = 0
	}
	c.openLocked(now)
	return true
}

// Reset closes the circuit and forgets every call so far.
func (c *Circuit) Reset() {
	defer c.deliver()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.level, c.period = 0, 0
	c.resetLocked()
}

func (c *Circuit) openLocked(now int64) {
	c.period = int64(c.config.Load().Backoff.Delay(c.level+1, c.random()))
	c.until = now + min(c.period, math.MaxInt64-now)
	c.opened++
	c.changeLocked(Open)
}

// resetLocked closes the circuit with nothing counted.
func (c *Circuit) resetLocked() {
	c.streak.Store(0)
	c.window.clear()
	c.changeLocked(Closed)
}

// changeLocked moves to another state and begins a new generation.
func (c *Circuit) changeLocked(to State) {
	from := c.stateLocked()
	generation := c.epoch.Load()>>stateBits + 1
	c.epoch.Store(generation<<stateBits | uint64(to))
	c.probe = noProbe
	c.wakeLocked()
	if from != to {
		c.enters[to]++
	}
	if from != to && c.config.Load().OnChange != nil {
		c.changes = append(c.changes, change{from, to})
	}
}

func (c *Circuit) wakeLocked() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// Changed returns a channel that is closed at the next change.
func (c *Circuit) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake == nil {
		c.wake = make(chan struct{})
	}
	return c.wake
}

// deliver tells OnChange of what happened. One goroutine at a time does it;
// what others add meanwhile is delivered by the one that is at it, in order.
func (c *Circuit) deliver() {
	for {
		next, ok := c.nextChange()
		if !ok {
			return
		}
		c.tell(next)
	}
}

func (c *Circuit) nextChange() (next change, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.delivering || len(c.changes) == 0 {
		return next, false
	}
	next, c.changes = c.changes[0], c.changes[1:]
	c.delivering = true
	return next, true
}

func (c *Circuit) tell(next change) {
	defer func() { // also when OnChange panics
		c.mu.Lock()
		defer c.mu.Unlock()
		c.delivering = false
	}()
	if f := c.config.Load().OnChange; f != nil {
		f(next.from, next.to)
	}
}

// SetConfig changes the configuration. The state, an open period that has begun
// and the row of failures stay; a new Window begins empty.
func (c *Circuit) SetConfig(config Config) {
	config = config.withDefaults()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config.Store(&config)
	c.shares.Store(config.Ratio > 0)
	c.window.setWidth(int64(config.Window) / buckets)
}

// Config returns the configuration with every zero replaced by what it stands for.
func (c *Circuit) Config() Config { return *c.config.Load() }

// Entries returns how often each state was entered from another one.
func (c *Circuit) Entries() [HalfOpen + 1]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enters
}

// Counts returns how many calls have ended in the Window before now, and how many
// of them failed. Without a Ratio nothing is counted.
func (c *Circuit) Counts(now int64) (calls, failures int) { return c.window.sum(now) }

// Period returns the length of the open period that began last.
func (c *Circuit) Period() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.period)
}

// Openings returns how often the circuit has opened, failed probes included.
func (c *Circuit) Openings() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened
}

// IsClosed reports whether the circuit is closed. It takes no lock.
func (c *Circuit) IsClosed() bool { return State(c.epoch.Load()&(1<<stateBits-1)) == Closed }
