package adaptive

import (
	"math"
	"time"

	"github.com/turret-go/turret/criticality"
)

const (
	coolFor     = 10 // a line is not hot before it has not been empty for so many unloaded latencies,
	coolShare   = 5  // and a call has waited for that part of the time, or was refused
	coolLeast   = int64(10 * time.Millisecond)
	coolMost    = int64(time.Second)
	hotLeast    = int64(500 * time.Microsecond)
	never       = math.MaxInt64
	hotFor      = 1  // unloaded latencies that a call waits at most in a hot line
	hotForKeys  = 3  // the same if calls have keys, so that one of each has a turn
	hotForCalls = 5  // a call in a hot line waits for as long as so many calls take to leave, if that is more
	fairnessFor = 32 // calls among which one of the least served key is looked for
)

// A waiter is one call that waits: for room, in Enter, or for the news of it,
// in Ready. The line decides what becomes of it and sends one message.
type waiter struct {
	told       chan struct{} // has room for the one message
	prev, next *waiter
	list       *waiters // the list it stands in; nil once it was decided

	since    int64 // when it came; moved forward by the time that the process stood still
	deadline int64 // when its caller gives up; never if it does not
	level    int   // index of its criticality
	key      uint64
	fate     fate
	entered  int64 // when it got its place
}

// A fate is what becomes of a waiter.
type fate uint8

const (
	undecided fate = iota
	admitted
	waitedTooLong
	outOfTime // too little is left until its deadline
)

// decide gives w its fate and wakes it.
func (w *waiter) decide(f fate) {
	w.fate = f
	w.told <- struct{}{}
}

// waiters is a list in the order of arrival. The zero value is empty.
type waiters struct {
	oldest, newest *waiter
	n              int
}

func (l *waiters) push(w *waiter) {
	w.prev, w.next, w.list = l.newest, nil, l
	if l.newest != nil {
		l.newest.next = w
	} else {
		l.oldest = w
	}
	l.newest = w
	l.n++
}

// remove takes w out and reports whether it was there.
func (l *waiters) remove(w *waiter) bool {
	if w.list != l {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.oldest = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.newest = w.prev
	}
	w.list = nil
	l.n--
	return true
}

// A line is the calls that wait for room, by criticality.
type line struct {
	levels [criticality.Levels]waiters
	n      int
	hot    bool
	// filled is when the line was last empty, refused when a call was last
	// refused. Both are moved forward by the time that the process stood still.
	filled, refused int64
	usage           *usage // of keys; nil if there are none
}

// A pace is how fast the line moves: the latency of a call that waits for nothing,
// and how many calls may be inside. A place comes free each time the latency,
// divided by the places, has passed.
type pace struct {
	unloaded float64
	places   int
}

// patience returns how long a call may wait, and how long calls may have to wait
// before the line is hot.
//
// A hot line keeps the service busy only if a call is in it whenever a place comes
// free. Few places come free so rarely that one unloaded latency is too short for
// that: calls arrive unevenly.
func (l *line) patience(p pace) (wait, cool int64) {
	cool = coolMost
	if p.unloaded > 0 {
		cool = min(max(int64(coolFor*p.unloaded), coolLeast), coolMost)
	}
	if !l.hot {
		return cool, cool
	}
	latencies := max(hotFor, hotForCalls/float64(max(p.places, 1)))
	if l.usage != nil {
		latencies = max(latencies, hotForKeys)
	}
	return max(int64(latencies*p.unloaded), hotLeast), cool
}

// push adds w at now.
func (l *line) push(now int64, w *waiter) {
	if l.n == 0 && !l.hot {
		l.filled = now
	}
	w.since = now
	l.levels[w.level].push(w)
	l.n++
}

// remove takes w out and reports whether it was there.
func (l *line) remove(w *waiter) bool {
	if !l.levels[w.level].remove(w) {
		return false
	}
	l.n--
	return true
}

// pop takes out the call that is to have the next place. The line must not be
// empty.
func (l *line) pop() *waiter {
	for i := range l.levels {
		if level := &l.levels[i]; level.n > 0 {
			w := l.next(level)
			l.remove(w)
			return w
		}
	}
	panic("adaptive: pop of an empty line")
}

// next returns the call of level that is to go next: the newest if the line is
// hot, else the oldest. If calls have keys it looks at several and takes one of
// the key that was given least.
func (l *line) next(level *waiters) *waiter {
	first := level.oldest
	if l.hot {
		first = level.newest
	}
	if l.usage == nil {
		return first
	}
	best, least := first, l.usage.of(first.key)
	for w, i := l.behind(first), 1; w != nil && i < fairnessFor; w, i = l.behind(w), i+1 {
		if u := l.usage.of(w.key); u < least {
			best, least = w, u
		}
	}
	return best
}

// behind returns the call of the same level that is next after w.
func (l *line) behind(w *waiter) *waiter {
	if l.hot {
		return w.prev
	}
	return w.next
}

// warm makes the line hot or cool at now. It reports whether it changed.
func (l *line) warm(now int64, p pace) bool {
	_, cool := l.patience(p)
	switch {
	case !l.hot && l.n > 0 && now >= l.heats(cool):
		l.hot, l.refused = true, now
	case l.hot && now-l.refused >= cool:
		l.hot, l.filled = false, now
	default:
		return false
	}
	return true
}

// heats returns when the line becomes hot if nothing changes until then. A line
// that has not been empty for long but is short is a burst at nearly full load: it
// will be gone. The line must not be empty.
func (l *line) heats(cool int64) int64 {
	at := l.filled + cool
	if l.refused > l.filled {
		return at
	}
	oldest := int64(never)
	for i := range l.levels {
		if w := l.levels[i].oldest; w != nil {
			oldest = min(oldest, w.since)
		}
	}
	return max(at, oldest+cool/coolShare)
}

// expired takes out one call that has waited too long at now, of the least
// critical level that has one; nil if there is none.
func (l *line) expired(now int64, p pace) *waiter {
	wait, _ := l.patience(p)
	for i := len(l.levels) - 1; i >= 0; i-- {
		if w := l.levels[i].oldest; w != nil && now-w.since >= wait {
			l.remove(w)
			return w
		}
	}
	return nil
}

// due returns the instant at which time alone changes something in the line;
// never if there is none.
func (l *line) due(p pace) int64 {
	if l.n == 0 {
		return never
	}
	wait, cool := l.patience(p)
	at := int64(never)
	if !l.hot {
		at = l.heats(cool)
	}
	for i := range l.levels {
		if w := l.levels[i].oldest; w != nil {
			at = min(at, w.since+wait)
		}
	}
	return at
}

// shift moves the clocks of the line forward by gap.
func (l *line) shift(gap int64) {
	l.filled += gap
	l.refused += gap
	for i := range l.levels {
		for w := l.levels[i].oldest; w != nil; w = w.next {
			w.since += gap
		}
	}
}
