package adaptive

import (
	"math"
	"time"
)

const (
	samplesLeast = 16   // successes that a window has at least
	precision    = 0.07 // relative standard error at which a window is good enough
	windowLong   = int64(time.Second)
)

// A window is what was measured since an instant. Times are nanoseconds.
type window struct {
	opened int64 // calls that end before it do not count

	n       int // successes
	sum, sq float64
	slow    int // failures that took longer than a call takes unloaded
	lost    float64
	lostSq  float64
	waits   int // calls that found no room
	refused int // calls that were refused
	peak    int // the most calls inside

	area float64 // sum of the time that calls were inside since the window opened
	seen int64   // when area was last brought up to date
	from int     // calls that were inside when the window opened
}

func (w *window) add(x float64) {
	w.n++
	w.sum += x
	w.sq += x * x
}

func (w *window) addSlow(x float64) {
	w.slow++
	w.lost += x
	w.lostSq += x * x
}

// fill says that inside calls were inside until now.
func (w *window) fill(now int64, inside int) {
	if now < w.opened {
		return
	}
	if w.seen < w.opened {
		w.seen, w.from = w.opened, inside
	}
	w.area += float64(now-w.seen) * float64(inside)
	w.seen = now
}

// used is the least of the mean number of calls inside and that at the beginning:
// while calls become more, their latency is that of the fewer before.
func (w *window) used(now int64) float64 {
	return min(w.area/float64(max(now-w.opened, 1)), float64(w.from))
}

// mean is the mean latency of successes.
func (w *window) mean() float64 { return w.sum / float64(max(w.n, 1)) }

// cost is how long places were held for each success: the number of calls
// inside, divided by the rate of successes. Slow failures add to it.
func (w *window) cost() float64 { return (w.sum + w.lost) / float64(max(w.n, 1)) }

// meanOfAll is the mean time for which a place was held.
func (w *window) meanOfAll() float64 { return (w.sum + w.lost) / float64(max(w.n+w.slow, 1)) }

// meanError is the relative standard error of mean.
func (w *window) meanError() float64 { return ratioError(w.sq, w.sum, w.mean(), w.n) }

// costError is the relative standard error of cost, as that of a ratio: an end
// contributes its time above the line and, if it is a success, one below.
func (w *window) costError() float64 { return ratioError(w.sq+w.lostSq, w.sum, w.cost(), w.n) }

// ratioError returns the relative standard error of the ratio r of two sums, by
// linearization. squares is the sum of the squares of all times, sum the sum of
// the times of the n successes.
func ratioError(squares, sum, r float64, n int) float64 {
	if n == 0 || r <= 0 {
		return math.Inf(1)
	}
	square := squares - 2*r*sum + r*r*float64(n)
	return math.Sqrt(max(square, 0)) / (float64(n) * r)
}

// busy reports whether the limit held up most calls. At nine tenths of capacity
// some calls find no room for an instant; that is what the line is for.
func (w *window) busy() bool { return 2*w.waits >= w.n || 20*w.refused >= w.n }

// ripe reports whether a window of normal operation can be closed. A window lasts
// for at least two latencies: latencies within one queue are alike.
func (w *window) ripe(now int64) bool {
	age := now - w.opened
	return w.n >= samplesLeast && float64(age) >= 2*w.mean() && (age >= windowLong || w.meanError() <= precision)
}

// ripeInTrial reports whether a window of a trial can be closed. Both its
// readings are needed well, however long a latency is. The window lasts for at least
// two latencies of the first reading: where a few calls take much longer than the
// others, a window in which none of them has ended looks quick and precise.
func (w *window) ripeInTrial(now int64, first reading) bool {
	age := float64(now - w.opened)
	return w.n >= samplesLeast && age >= 2*max(w.mean(), first.mean) && (age >= 30*w.mean() || w.meanError() <= precision)
}

// A reading is what a window said at a limit.
type reading struct {
	limit                float64
	mean, cost           float64
	meanError, costError float64
}

func (w *window) reading(limit float64) reading {
	return reading{limit, w.mean(), w.cost(), w.meanError(), w.costError()}
}
