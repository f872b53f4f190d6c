package limit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
)

// A line is where calls wait for room. It is the same in front of every limit;
// what room is, a [room] knows.
//
// Two lists are kept apart: calls that wait to enter, which have an order and
// get room; and waits in Ready, which have neither and end together when there is
// room and the line is empty. So Ready costs no call its turn.
//
// Invariant: while the mutex is free, no call waits that could have room. Code that
// makes room, or finds that time has made some, gives it away before unlocking.
type line struct {
	room room
	none atomic.Bool // queue.Max is 0; read without the mutex

	mu       sync.Mutex
	queue    Queue
	waiting  list
	watching list

	refusals refusals
	waited   atomic.Int64 // nanoseconds that calls have been in line, in all
}

// A room is what a line stands in front of. Its methods are called with the
// line's mutex held, except clock and refusal.
type room interface {
	clock() int64   // the time, for begin
	begin(at int64) // the mutex was locked: find out what is free
	free() bool     // whether there is room for one
	take() bool     // takes room for one, if there is
	put()           // takes back what take gave, as if it had not
	end(wanted bool)
	// refusal returns what a call gets that is turned away for this reason.
	refusal(why reason) *turret.Refusal
}

// setQueue changes how calls may wait from now on.
func (l *line) setQueue(q Queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = q
	l.none.Store(q.Max == 0)
}

func (l *line) getQueue() Queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue
}

// lock locks the line and gives away the room that was made in the meantime.
func (l *line) lock() {
	now := l.room.clock() // outside the lock, which is the shorter for it
	l.mu.Lock()
	l.room.begin(now)
	l.settle()
}

func (l *line) unlock() {
	l.room.end(l.waiting.n+l.watching.n > 0)
	l.mu.Unlock()
}

// settle gives room to calls that wait, first come first served, and ends the waits
// in Ready if some is left.
func (l *line) settle() {
	for l.waiting.n > 0 && l.room.take() {
		l.waiting.tell()
	}
	for l.watching.n > 0 && l.room.free() {
		l.watching.tell()
	}
}

// enter takes room, and waits for it as long as the queue and ctx allow.
func (l *line) enter(ctx context.Context) error {
	l.lock()
	// The line is empty if there is room: lock has settled.
	if l.room.take() {
		l.unlock()
		return nil
	}
	if l.queue.Max != Unbounded && l.waiting.n >= l.queue.Max {
		why := lineFull
		if l.queue.Max == 0 {
			why = noRoom
		}
		return l.refuse(why)
	}
	w, longest := newWaiter(), l.queue.Timeout
	l.waiting.push(w)
	l.unlock()
	return l.wait(ctx, w, longest)
}

// tryEnter takes room that is free now.
func (l *line) tryEnter() error {
	l.lock()
	if l.room.take() {
		l.unlock()
		return nil
	}
	return l.refuse(noRoom)
}

// wait waits in line as w, for longest at most if that is not zero.
func (l *line) wait(ctx context.Context, w *waiter, longest time.Duration) error {
	start := time.Now()
	told := w.wait(ctx, longest)
	l.waited.Add(int64(time.Since(start)))
	if told && ctx.Err() == nil {
		return nil
	}
	ended := ctx.Err()
	l.lock()
	entered := !l.waiting.remove(w) // maybe in this very instant
	switch {
	case ended != nil:
		if entered {
			l.room.put()
			l.settle()
		}
		l.unlock()
		l.refusals.gaveUp.Add(1)
		return turret.NotReady(ended)
	case entered:
		l.unlock()
		return nil
	default:
		return l.refuse(tooLong)
	}
}

// ready waits until there is room and the line is empty.
func (l *line) ready(ctx context.Context) error {
	ended := ctx.Err() != nil
	l.lock()
	if l.room.free() {
		l.unlock()
		return nil
	}
	if ended {
		l.unlock()
		return turret.ErrNotReady
	}
	w := newWaiter()
	l.watching.push(w)
	l.unlock()
	if w.wait(ctx, 0) {
		return nil
	}
	l.lock()
	l.watching.remove(w)
	l.unlock()
	return turret.NotReady(ctx.Err())
}

// refuse unlocks the line, counts and makes the refusal.
func (l *line) refuse(why reason) error {
	refusal := l.room.refusal(why)
	l.unlock()
	l.refusals.count(why)
	return refusal
}

// wait waits until w has its message, and reports false if ctx ends first, or
// d passes if it is not zero.
func (w *waiter) wait(ctx context.Context, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-w.told:
		return true
	case <-ctx.Done():
	case <-over:
	}
	return false
}

// A reason is why a call is turned away.
type reason int

const (
	noRoom   reason = iota // and no line to wait in
	lineFull               // as many wait as may wait
	tooLong                // it has waited as long as it may
)

// refusals counts the calls that did not get in.
type refusals struct {
	noRoom, lineFull, tooLong, gaveUp atomic.Uint64
}

func (r *refusals) count(why reason) {
	switch why {
	case noRoom:
		r.noRoom.Add(1)
	case lineFull:
		r.lineFull.Add(1)
	case tooLong:
		r.tooLong.Add(1)
	}
}
