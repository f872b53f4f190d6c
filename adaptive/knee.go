package adaptive

import (
	"math"
	"time"
)

const (
	headroom    = 1.3 // the limit is that many times what keeps the service busy
	restLeast   = 20  // what an unused limit falls to
	calmMemory  = 5 * float64(time.Second)
	onlySlow    = int64(2 * time.Second) // of nothing but slow failures, after which the limit is halved
	dipsApart   = int64(time.Second)
	dipsShare   = 40                      // a dip takes at most this part of the time,
	dipsMost    = 15 * int64(time.Second) // if it is short enough
	fullEnough  = 0.9                     // part of the limit that is used in a window that says what the limit does
	creditBelow = 1.5                     // successes slower than this many unloaded latencies wait for each other
)

// A knee finds how many calls keep a service busy. Its input is the ends of
// calls, and the calls that found no room; it is a pure function of them: it reads
// no clock. Its owner serializes access.
//
// The formulas and constants come from simulated surges; doc/overload.md has the
// results and the command that prints them.
type knee struct {
	least, most float64
	limit       float64
	unloaded    float64 // latency of a call that waits for nothing; 0: unknown
	// hangs says that slow failures are calls that hang and take no part in any
	// queue. A trial that finds that they fall with the limit clears it.
	hangs bool

	window  window
	closed  int64 // when the last window closed
	calm    int   // successes in windows in which few calls had to wait, ever
	refused bool  // calls were refused in the last window
	grew    bool  // the last window raised the limit
	nextDip int64 // when the unloaded latency is to be tested

	trial trial
	last  Trial  // what the last trial found
	tried uint64 // trials that ended
	// what the last window said
	latency, rate float64
}

func newKnee(c Config) knee {
	return knee{
		least: float64(c.Min), most: float64(c.Max), limit: float64(c.Start), hangs: true,
	}
}

// places is how many calls may be inside.
func (k *knee) places() int { return int(k.limit) }

// pace is how fast a line before the places moves.
func (k *knee) pace() pace { return pace{k.unloaded, k.places()} }

// entered says that with this call inside calls are inside.
func (k *knee) entered(inside int) { k.window.peak = max(k.window.peak, inside) }

// waits says that a call found no room at now.
func (k *knee) waits(now int64) {
	if now >= k.window.opened {
		k.window.waits++
	}
}

// refuses says that a call was refused at now.
func (k *knee) refuses(now int64) {
	if now >= k.window.opened {
		k.window.refused++
	}
}

// ended says that a call ended at now and took x nanoseconds, and that inside
// calls are still there.
func (k *knee) ended(now, x int64, success bool, inside int) {
	w := &k.window
	if now < w.opened {
		return
	}
	took := float64(max(x, 1))
	switch {
	case success:
		w.add(took)
	case took > k.unloaded:
		w.addSlow(took)
	default: // a failure that is quick says nothing of the latency
		return
	}
	before := k.limit
	switch {
	case k.trial.running && (w.ripeInTrial(now, k.trial.first) || k.trial.overdue(now, w)):
		k.conclude(now)
	case k.trial.running:
		return
	case w.ripe(now):
		k.adjust(now)
	case w.n == 0 && now-w.opened >= onlySlow:
		k.limit /= 2
		k.grew = false
	default:
		return
	}
	k.limit = min(max(k.limit, k.least), k.most)
	k.open(now, before, inside)
}

// open begins the next window. After a change of the limit it opens when the
// calls that were admitted under the old one have left, which takes longer after
// a cut.
func (k *knee) open(now int64, before float64, inside int) {
	settle := 0.0
	switch change := k.limit / before; {
	case change < 0.95:
		settle = k.window.meanOfAll() * (2 - change)
	case change > 1.05:
		settle = k.window.meanOfAll()
	}
	k.closed = now
	k.window = window{opened: now + int64(settle), peak: inside, seen: now, from: inside + 1}
}

// adjust moves the limit by what the window of normal operation says.
func (k *knee) adjust(now int64) {
	w := &k.window
	k.note(now)
	if k.unloaded == 0 {
		k.unloaded = w.mean()
	}
	if k.places() == 1 { // a call that is alone waits for none
		k.unloaded = w.mean()
	}
	busy, full := w.busy(), w.used(now) >= fullEnough*math.Floor(k.limit)
	if !busy {
		k.rest(now)
	}
	if w.refused > 0 && !k.refused { // it may be a burst
		k.nextDip = now + int64(10*w.meanOfAll())
	}
	k.refused = w.refused > 0
	r := w.reading(k.limit)
	target, due := k.target(r), now >= k.nextDip
	grow := w.waits > 0 && target > 1.1*k.limit+1
	switch {
	case busy && !full: // it was filling up, and latency with it
		k.grew = false
	case busy && w.refused > 0 && (due && (!grow || r.cost > creditBelow*r.mean) || target < 0.7*k.limit):
		k.grew = false
		k.try(now, r)
	case busy && target < 0.7*k.limit: // the line is still there for bursts
		k.grew = false
	case grow:
		k.grow(target)
	case busy:
		k.grew = false
		k.approach(target)
	default:
		k.grew = false
	}
}

// note keeps the results of the window for readers.
func (k *knee) note(now int64) {
	k.latency = k.window.mean()
	k.rate = float64(k.window.n) / (float64(max(now-k.window.opened, 1)) / float64(time.Second))
}

// rest learns the unloaded latency from a window in which few calls had to wait,
// and lets an unused limit sink. At first it is the mean of all such calls: the
// first windows are short, and have few of the calls that take long.
func (k *knee) rest(now int64) {
	w := &k.window
	k.calm += w.n
	k.hangs = true
	weight := max(float64(w.n)/float64(k.calm), min(0.1, float64(now-k.closed)/calmMemory))
	k.unloaded += weight * (w.mean() - k.unloaded)
	if idle := max(restLeast, 2*float64(w.peak)); w.waits == 0 && k.limit > idle {
		k.limit = max(0.95*k.limit, idle)
	}
}

// target returns the limit that r asks for: somewhat more than the calls that
// would be inside if none of them waited for another.
func (k *knee) target(r reading) float64 {
	unloaded := k.unloaded
	if k.credits(r) {
		unloaded += r.cost - r.mean
	}
	busy := math.Floor(r.limit) * unloaded / r.cost
	return max(headroom*busy, busy+1)
}

// credits reports whether the slow failures in r are taken for calls that hang:
// the successes next to them are about as fast as ever.
func (k *knee) credits(r reading) bool { return k.hangs && r.mean <= creditBelow*k.unloaded }

// grow raises the limit towards target, and further from the second time on:
// what a limit that is much too low has measured says only that it is.
func (k *knee) grow(target float64) {
	factor := target / k.limit
	if k.grew {
		factor = factor * factor * factor
	}
	k.limit *= min(factor, 2)
	k.grew = true
}

// approach moves the limit half the way to target, and up by at least a half, so
// that a limit of one comes to two.
func (k *knee) approach(target float64) {
	step := (target - k.limit) / 2
	if step > 0 {
		step = min(max(step, 0.5), target-k.limit)
	}
	k.limit += step
}
