package buffer

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/turret-go/turret"
)

// A line is the callers that wait, in the order in which they came. One at a time
// has the turn: it waits in Ready of the inner service, and then calls if it is the
// first. It keeps the turn until it is about to call, so that the next one is
// behind it.
//
// Each caller has a number, so that one that was refused inside can come back to
// its place.
//
// Invariant: while the line is not empty, exactly one caller holds the turn.
type line struct {
	max int

	mu        sync.Mutex
	waiting   list.List // of *waiter, lowest number first
	turnOf    *waiter   // one of them, or one that is about to call; nil if there is neither
	arrived   uint64    // the last number given
	end       *turret.Refusal
	room      chan struct{} // closed when there is a place, or an end; nil if no caller waits for that
	full      uint64
	closed    uint64 // callers that got end
	cancelled uint64
	waited    time.Duration // by all callers that have been in line
}

// A waiter is a caller in the line. Its fields are guarded by the line's mutex.
type waiter struct {
	number uint64
	place  *list.Element // nil once it is out
	told   chan struct{} // has room for one: it has the turn, or is expelled
	cancel func()        // ends the question that it asks; nil if it asks none
	err    error         // why it was expelled
	since  time.Time     // when it joined
}

// arrive gives a caller its number, and returns whether it is the first.
func (l *line) arrive() (number uint64, first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.closed++
		return 0, false, l.end
	}
	l.arrived++
	return l.arrived, l.turnOf == nil, nil
}

// join puts a caller in its place. If that makes the line too long, the last one
// has to go: the caller itself, unless it was there before.
func (l *line) join(number uint64) (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.closed++
		return nil, l.end
	}
	w := &waiter{number: number, told: make(chan struct{}, 1), since: time.Now()}
	l.insert(w)
	if l.waiting.Len() > l.max {
		l.full++
		l.expel(l.waiting.Back().Value.(*waiter), errFull)
	}
	if w.err != nil {
		return nil, w.err
	}
	l.giveTurn()
	return w, nil
}

func (l *line) insert(w *waiter) {
	e := l.waiting.Back()
	if e == nil || e.Value.(*waiter).number < w.number {
		w.place = l.waiting.PushBack(w)
		return
	}
	// It comes back: its place is near the front.
	for e = l.waiting.Front(); e.Value.(*waiter).number < w.number; {
		e = e.Next()
	}
	w.place = l.waiting.InsertBefore(w, e)
}

// turn waits until w has the turn.
func (l *line) turn(ctx context.Context, w *waiter) error {
	select {
	case <-w.told:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if err := ctx.Err(); err != nil {
		return turret.NotReady(err)
	}
	return nil
}

// asking says that w, which has the turn, asks now; cancel ends the question. It
// returns an error if w was expelled.
func (l *line) asking(w *waiter, cancel func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.cancel = cancel
	return w.err
}

// answered says that w asks no more, and whether the inner service is ready. If
// it is, the first in line may go: w, which is out then and has to pass the turn
// on, or another, which gets the turn. It returns an error if w was expelled.
func (l *line) answered(w *waiter, ready bool) (goes bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.cancel = nil
	switch {
	case w.err != nil:
		return false, w.err
	case !ready:
		return false, nil
	case w.place == l.waiting.Front():
		l.remove(w)
		return true, nil
	}
	l.endTurn(w)
	return false, nil
}

// pass ends the turn of w, which goes.
func (l *line) pass(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endTurn(w)
}

// leave takes w out, if it is not out already, whose context has ended or not.
func (l *line) leave(w *waiter, cancelled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.place != nil && cancelled {
		l.cancelled++
	}
	l.remove(w)
	l.endTurn(w)
}

// remove takes w out of the line, but not its turn. It requires l.mu.
func (l *line) remove(w *waiter) {
	if w.place == nil {
		return
	}
	l.waiting.Remove(w.place)
	w.place = nil
	l.waited += time.Since(w.since)
	l.tellRoom()
}

// expel takes w out and tells it why. If w has the turn, that ends when w leaves.
// It requires l.mu.
func (l *line) expel(w *waiter, err error) {
	w.err = err
	l.remove(w)
	if w.cancel != nil {
		w.cancel()
		return
	}
	w.tell()
}

// endTurn gives the turn of w, if it has it, to the first one. It requires l.mu.
func (l *line) endTurn(w *waiter) {
	if l.turnOf == w {
		l.turnOf = nil
		l.giveTurn()
	}
}

// giveTurn gives the turn to the first one if none has it. It requires l.mu.
func (l *line) giveTurn() {
	first := l.waiting.Front()
	if l.turnOf != nil || first == nil {
		return
	}
	l.turnOf = first.Value.(*waiter)
	l.turnOf.tell()
}

// tell wakes w. A wake-up that w has not taken yet is enough.
func (w *waiter) tell() {
	select {
	case w.told <- struct{}{}:
	default:
	}
}

// close ends the line, unless it has ended: all callers get end.
func (l *line) close(end *turret.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end == nil {
		l.end = end
	}
	l.closed += uint64(l.waiting.Len())
	for l.waiting.Len() > 0 { // while callers wait for a place, all places are taken
		l.expel(l.waiting.Back().Value.(*waiter), l.end)
	}
}

// ready waits until there is a place.
func (l *line) ready(ctx context.Context) error {
	for {
		room, err := l.watch(ctx)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
}

// watch returns what to wait for until there is a place, or nil and what Ready is
// to return.
func (l *line) watch(ctx context.Context) (<-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.end != nil:
		return nil, l.end.Err // does not match ErrNotReady: it is final
	case l.waiting.Len() < l.max:
		return nil, nil
	case ctx.Err() != nil:
		return nil, turret.NotReady(ctx.Err())
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room, nil
}

// tellRoom wakes the waits in ready if there is a place, or an end. It
// requires l.mu.
func (l *line) tellRoom() {
	if l.room != nil && (l.end != nil || l.waiting.Len() < l.max) {
		close(l.room)
		l.room = nil
	}
}

func (l *line) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		Max: l.max, Waiting: l.waiting.Len(), Closed: l.end != nil,
		Full: l.full, RefusedClosed: l.closed, Cancelled: l.cancelled, Waited: l.waited,
	}
}
