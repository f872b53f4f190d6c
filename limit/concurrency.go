package limit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// Concurrency is a [turret.Gate] that bounds how many calls are inside at once.
// A call that finds it full waits in line or is refused, according to its [Queue].
//
// A limit of 0 admits no call. The outcome of a call makes no difference: its
// place is free when it leaves.
//
// Entering and leaving are one atomic operation each, and neither reads a clock,
// as long as no call waits. Its methods may be called concurrently. Use
// [NewConcurrency].
type Concurrency struct {
	// entered counts the calls that were let in, times two. Its lowest bit says
	// is set while a call waits, or the line's mutex is held: then only the holder
	// of the mutex lets calls in. left counts the calls that have left. Leaving adds
	// to left and then reads the bit; a wait begins by setting the bit and then
	// reads left. One of the two sees the other, so no wake-up is lost.
	entered atomic.Uint64
	left    atomic.Uint64
	max     atomic.Int64
	line    line
}

const (
	guarded = 1 // the bit in entered
	one     = 2 // one call in entered
)

// NewConcurrency returns a limit of that many calls at once. It panics if limit
// is negative or q is invalid.
func NewConcurrency(limit int, q Queue) *Concurrency {
	misuse.Check("limit: NewConcurrency", checkMax(limit))
	misuse.Check("limit: NewConcurrency", turret.FieldOf("limit", "Queue", q.Validate()))
	c := &Concurrency{}
	c.max.Store(int64(limit))
	c.line.room = (*places)(c)
	c.line.setQueue(q)
	return c
}

// Ready waits until there is room and the line is empty.
func (c *Concurrency) Ready(ctx context.Context) error {
	e := c.entered.Load()
	if e&guarded == 0 && int64(e/one-c.left.Load()) < c.max.Load() {
		return nil
	}
	return c.line.ready(ctx)
}

// Enter takes a place, and waits for it in line as the [Queue] allows. Its
// refusals match [ErrFull], [ErrQueueFull] or [ErrQueueTimeout].
func (c *Concurrency) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	switch c.try() {
	case in:
		return turret.Ticket{}, nil
	case out:
		if c.line.none.Load() {
			return turret.Ticket{}, c.refuse()
		}
	case unclear:
	}
	return turret.Ticket{}, c.line.enter(ctx)
}

// TryEnter takes a place that is free now. Its refusal matches [ErrFull].
func (c *Concurrency) TryEnter(context.Context) (turret.Ticket, error) {
	switch c.try() {
	case in:
		return turret.Ticket{}, nil
	case out:
		return turret.Ticket{}, c.refuse()
	case unclear:
	}
	return turret.Ticket{}, c.line.tryEnter()
}

// Leave gives the place back. It panics if more calls leave than entered.
func (c *Concurrency) Leave(turret.Ticket, turret.Outcome) {
	left := c.left.Add(1)
	e := c.entered.Load()
	if left > e/one {
		c.left.Add(^uint64(0))
		panic(errors.New("limit: Concurrency.Leave: more calls left than entered"))
	}
	if e&guarded != 0 {
		c.line.lock() // gives the place away
		c.line.unlock()
	}
}

// SetMax changes the limit. A higher one lets waiting calls in at once. After a
// lower one no call enters until enough have left; calls inside stay. It
// panics if limit is negative.
func (c *Concurrency) SetMax(limit int) {
	misuse.Check("limit: Concurrency.SetMax", checkMax(limit))
	c.line.lock()
	c.max.Store(int64(limit))
	c.line.settle()
	c.line.unlock()
}

// SetQueue changes how calls may wait in line. Calls that wait already keep their
// place and the Timeout that they came with, also where there are now more of
// them than q allows. It panics if q is invalid.
func (c *Concurrency) SetQueue(q Queue) {
	misuse.Check("limit: Concurrency.SetQueue", turret.FieldOf("limit", "Queue", q.Validate()))
	c.line.setQueue(q)
}

func checkMax(limit int) error {
	if limit < 0 {
		return invalid("limit", limit, "at least 0")
	}
	return nil
}

// ConcurrencyStats is what a [Concurrency] was doing at one instant, and has
// done since it was made.
type ConcurrencyStats struct {
	Max      int    // the limit
	InFlight int    // calls inside; above Max for a while after the limit was lowered
	Waiting  int    // calls in line
	Entered  uint64 // calls that were let in

	Full         uint64 // calls refused because there was no room, reason LIMIT_FULL
	QueueFull    uint64 // calls refused because the line was full, reason QUEUE_FULL
	QueueTimeout uint64 // calls refused after the longest time in line, reason QUEUE_TIMEOUT
	Cancelled    uint64 // calls whose context ended while they were in line

	// Waited is how long calls have been in line, added up, those that were
	// refused or gave up too. A call that is still in line does not count yet.
	Waited time.Duration
}

// Stats returns a snapshot. The counters are read one after the other while
// calls go on.
func (c *Concurrency) Stats() ConcurrencyStats {
	r := &c.line.refusals
	s := ConcurrencyStats{
		Full:         r.noRoom.Load(),
		QueueFull:    r.lineFull.Load(),
		QueueTimeout: r.tooLong.Load(),
		Cancelled:    r.gaveUp.Load(),
		Waited:       time.Duration(c.line.waited.Load()),
	}
	c.line.lock() // no call enters meanwhile
	defer c.line.unlock()
	s.Max = int(c.max.Load())
	s.Entered = c.entered.Load() / one
	s.InFlight = int(s.Entered - c.left.Load())
	s.Waiting = c.line.waiting.n
	return s
}

// String returns the limit and its Stats in one line.
func (c *Concurrency) String() string {
	s := c.Stats()
	return fmt.Sprintf("concurrency limit: %d of %d in flight, %d waiting, %d entered, %d refused",
		s.InFlight, s.Max, s.Waiting, s.Entered, s.Full+s.QueueFull+s.QueueTimeout)
}

// A verdict is what can be said about a call without the mutex.
type verdict int

const (
	unclear verdict = iota // a call waits: try with the mutex held
	in                     // it has a place
	out                    // there is none
)

// try takes a place if no call waits and one is free.
func (c *Concurrency) try() verdict {
	for {
		e := c.entered.Load()
		if e&guarded != 0 {
			return unclear
		}
		// left is read after entered, so this is never more than are inside; if
		// it is less, entered has changed and the swap fails.
		if int64(e/one-c.left.Load()) >= c.max.Load() {
			return out
		}
		if c.entered.CompareAndSwap(e, e+one) {
			return in
		}
	}
}

// refuse turns away a call that found no place and does not wait.
func (c *Concurrency) refuse() error {
	c.line.refusals.count(noRoom)
	return &full
}

// places is a [Concurrency] as the [room] behind its line.
type places Concurrency

func (p *places) clock() int64 { return 0 }

// begin makes sure that only the holder of the mutex lets calls in.
func (p *places) begin(int64) { p.entered.Or(guarded) }

// end lets calls in without the mutex again, unless a call waits.
func (p *places) end(wanted bool) {
	if !wanted {
		p.entered.And(^uint64(guarded))
	}
}

func (p *places) free() bool {
	return int64(p.entered.Load()/one-p.left.Load()) < p.max.Load()
}

func (p *places) take() bool {
	if !p.free() {
		return false
	}
	p.entered.Add(one)
	return true
}

func (p *places) put() { p.entered.Add(^uint64(one - 1)) }

func (p *places) refusal(why reason) *turret.Refusal {
	switch why {
	case lineFull:
		return &queueFull
	case tooLong:
		return &queueTimeout
	default:
		return &full
	}
}
