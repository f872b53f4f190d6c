package adaptive

import "github.com/turret-go/turret"

// A gate is the whole of a [Limit] but for the clock, the mutex and the
// goroutines that wait: a pure function of its inputs and their times. Its owner
// serializes access. It keeps an invariant: no call waits while there is room.
type gate struct {
	knee     knee
	line     line
	watchers waiters // calls of Ready that wait for room
	inside   int
	pause    pause
	counts   counts

	threshold threshold // for the peers that send calls
	filled    filled
}

// counts are the totals that [Stats] shows.
type counts struct {
	entered, full, tooLong, noTime, gaveUp uint64
}

func newGate(c Config) *gate {
	g := &gate{knee: newKnee(c), threshold: newThreshold()}
	g.pause.never()
	if c.Key != nil {
		g.line.usage = new(usage)
	}
	return g
}

// enter lets a call in at now and reports true if there is room.
func (g *gate) enter(now int64, key uint64) bool {
	g.touch(now)
	if !g.open() {
		return false
	}
	g.threshold.asks(now)
	g.admit(now, key)
	return true
}

// admit takes a place.
func (g *gate) admit(now int64, key uint64) {
	if g.inside == 0 {
		g.pause.begin(now)
	}
	g.inside++
	g.counts.entered++
	g.knee.entered(g.inside)
	if g.line.usage != nil {
		g.line.usage.add(now, key)
	}
}

// wait puts w in the line at now, or lets it in if room has come free.
func (g *gate) wait(now int64, w *waiter) {
	if g.enter(now, w.key) {
		w.entered = now
		w.decide(admitted)
		return
	}
	g.foundFull(now)
	g.threshold.full[w.level]++
	g.threshold.asks(now)
	g.line.push(now, w)
	g.settle(now)
}

// foundFull says that a call found no room at now.
func (g *gate) foundFull(now int64) {
	if !g.pause.recovering {
		g.knee.waits(now)
	}
}

// refused counts a call that was turned away at now.
func (g *gate) refused(now int64) {
	g.line.refused = now
	if !g.pause.recovering {
		g.knee.refuses(now)
	}
}

// shed counts a call that was refused in line at now.
func (g *gate) shed(now int64) {
	g.refused(now)
	if !g.pause.recovering {
		g.threshold.refused++
	}
}

// turnAway counts n calls that found no room until now and do not wait.
func (g *gate) turnAway(now, n int64) {
	g.counts.full += uint64(n)
	for range min(n, mostTurned) {
		g.foundFull(now)
		g.refused(now)
	}
}

// mostTurned bounds what many calls that were turned away at once weigh.
const mostTurned = 1000

// open reports whether there is room.
func (g *gate) open() bool { return g.inside < g.knee.places() }

// leave gives a place back at now. start is when the call entered.
func (g *gate) leave(now, start int64, o turret.Outcome) {
	g.touch(now)
	g.inside--
	success := o == turret.Success
	if (success || o == turret.Failure || o == 0) && !g.pause.spans(start) {
		g.knee.ended(now, now-start, success, g.inside)
	}
	g.settle(now)
}

// giveUp takes out w, whose caller has gone. A place that it was given in the
// same instant goes to the next. It reports false if w was refused before: then w
// has been counted.
func (g *gate) giveUp(now int64, w *waiter) bool {
	g.touch(now)
	defer g.settle(now)
	switch {
	case g.line.remove(w):
	case w.fate == admitted:
		g.inside--
		g.counts.entered--
	default:
		return false
	}
	g.counts.gaveUp++
	return true
}

// bound changes the bounds of the limit.
func (g *gate) bound(now int64, least, most int) {
	k := &g.knee
	k.least, k.most = float64(least), float64(most)
	k.limit = min(max(k.limit, k.least), k.most)
	k.trial.running = false
	g.touch(now)
	g.settle(now)
}

// tick does what time alone does in the line.
func (g *gate) tick(now int64) {
	g.touch(now)
	g.settle(now)
}

// touch notices at now that the process stood still.
func (g *gate) touch(now int64) {
	g.filled.advance(now, g.inside+g.line.n)
	g.knee.window.fill(now, g.inside)
	if gap := g.pause.touch(now, g.inside, g.knee.unloaded); gap > 0 {
		g.line.shift(gap)
	}
	g.pause.recover(now, g.line.n, g.knee.unloaded)
}

// settle gives room to waiting calls and refuses those that have waited too
// long.
func (g *gate) settle(now int64) {
	g.expire(now)
	for g.line.n > 0 && g.open() {
		w := g.line.pop()
		if g.tooLate(now, w) {
			g.counts.noTime++
			g.shed(now)
			w.decide(outOfTime)
			continue
		}
		g.admit(now, w.key)
		w.entered = now
		w.decide(admitted)
	}
	for g.watchers.n > 0 && g.open() {
		w := g.watchers.oldest
		g.watchers.remove(w)
		w.decide(admitted)
	}
}

// tooLate reports whether too little is left at now until the deadline of w: less
// than w has waited, or, in a hot line, than an unloaded latency. Latencies differ
// much more than their mean shows. A call that has half of its time left is
// answered in time wherever deadlines are a few latencies long.
func (g *gate) tooLate(now int64, w *waiter) bool {
	left := w.deadline - now
	return left <= 0 || left < now-w.since || g.line.hot && float64(left) < g.knee.unloaded
}

// expire refuses calls that have waited too long at now. A line that becomes
// hot has less patience than before.
func (g *gate) expire(now int64) {
	if g.line.n == 0 && !g.line.hot {
		return
	}
	g.line.warm(now, g.knee.pace())
	for {
		w := g.line.expired(now, g.knee.pace())
		if w == nil {
			return
		}
		g.counts.tooLong++
		g.shed(now)
		w.decide(waitedTooLong)
	}
}

// due returns the instant at which tick is to be called; never if there is none.
func (g *gate) due() int64 { return g.line.due(g.knee.pace()) }
