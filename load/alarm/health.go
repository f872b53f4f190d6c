package alarm

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// meanOver is the time in which the mean latency forgets.
	meanOver = int64(300 * time.Millisecond)
	// leastWeight is the least that one call counts in the mean, however many
	// calls there are.
	leastWeight = 0.05
	// longestSample bounds what one call does to the mean, as a multiple of it.
	longestSample = 2
	// fadeOver is the time in which the mean of an idle server falls to 1/e: it is
	// then tried again, and measured.
	fadeOver = float64(4 * time.Second)
	// waiting is how many calls must wait for an answer before the silence means
	// anything: one may be a call that takes long.
	waiting = 3
	// stale is how long calls may go on waiting, with no new one, until the
	// silence means nothing any more: the server must be tried again.
	stale = int64(10 * time.Second)
)

// health is how long the calls of one server take now, and whether that is out of
// the ordinary. Times are in nanoseconds since a base. Its methods may be called
// concurrently; of two calls that end at the same moment one may be left out.
type health struct {
	relearn int64 // after so long a sickness is ordinary

	inFlight atomic.Int64
	started  atomic.Int64 // when a call began last
	alive    atomic.Int64 // when a call was answered last, or the server had none
	idle     atomic.Int64 // when a call ended last; invariant: known before inFlight is 0

	mu        sync.Mutex
	mean      float64 // at measured; 0 if nothing was measured
	measured  int64
	ordinary  ordinary
	sickSince int64 // when the first call ended that began this sickness; 0 if well
}

// A verdict says how a call ended.
type verdict uint8

const (
	nothing  verdict = iota // it says nothing: it was not served
	atLeast                 // it took at least as long, and was not answered
	failed                  // it was answered, but may not have been worked at
	answered                // it took as long as it took
)

// start notes that a call begins. What the first of several calls does comes before
// it is counted, so that no look takes an idle time for a silence.
func (h *health) start(now int64) {
	if h.inFlight.Load() == 0 {
		h.wake(now)
	}
	h.inFlight.Add(1)
	h.started.Store(now)
}

// wake ends a time without calls.
func (h *health) wake(now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inFlight.Load() > 0 { // another call was first
		return
	}
	h.mean = faded(h.mean, now-h.idle.Swap(now))
	h.alive.Store(now)
}

// done notes that a call ends that began at start.
func (h *health) done(now, start int64, v verdict) {
	silence := h.silence(now)
	h.idle.Store(now)
	left := h.inFlight.Add(-1)
	if left > 0 && v >= failed {
		h.alive.Store(now)
	}
	if left == 0 {
		h.mu.Lock()
	} else if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	took := max(1, float64(now-start))
	if v == nothing || v != answered && took <= h.mean {
		return
	}
	h.measure(now, took, float64(silence))
	h.learn(now, took)
}

// measure takes a call into the mean. A single long one doubles it at most, unless
// all calls have been waiting as long.
func (h *health) measure(now int64, took, silence float64) {
	if h.mean == 0 {
		h.mean, h.measured = took, now
		return
	}
	weight := min(1, max(leastWeight, float64(now-h.measured)/float64(meanOver)))
	took = min(took, max(longestSample*max(h.mean, h.ordinary.typical()), silence))
	h.mean += weight * (took - h.mean)
	h.measured = now
}

// learn takes a call into what is ordinary, unless the server is sick. A sickness
// that lasts has become ordinary.
func (h *health) learn(now int64, took float64) {
	if !h.ordinary.exceeded(h.mean) {
		h.sickSince = 0
		h.ordinary.observe(now, took)
		return
	}
	if h.sickSince == 0 {
		h.sickSince = now
	}
	if now-h.sickSince > h.relearn {
		h.ordinary, h.sickSince = ordinary{}, 0
	}
}

// silence returns how long calls have been waiting without any answer; 0 if that
// means nothing.
func (h *health) silence(now int64) int64 {
	if h.inFlight.Load() < waiting || now-h.started.Load() > stale {
		return 0
	}
	return max(0, now-h.alive.Load())
}

// A report says how a server is.
type report struct {
	sick             bool
	latency, typical time.Duration
}

// look returns how the server is now.
func (h *health) look(now int64) report {
	silence := h.silence(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	latency := h.mean
	if h.inFlight.Load() == 0 {
		latency = faded(latency, now-h.idle.Load())
	}
	latency = max(latency, float64(silence))
	return report{h.ordinary.exceeded(latency), time.Duration(latency), time.Duration(h.ordinary.typical())}
}

// faded is what is left of a mean after a time without calls.
func faded(mean float64, idle int64) float64 {
	return mean * math.Exp(-float64(max(0, idle))/fadeOver)
}

// ordinary is what calls of a server take when it is well: the mean and the mean
// deviation of the logarithm of their latency, over the last 256 calls or the last
// minute, whichever is longer. Its memory is much longer than that of the mean that
// it judges. The zero value knows nothing.
type ordinary struct {
	samples   float64
	mean, dev float64 // of ln(latency in ns)
	next      int64   // no observation before this
}

const (
	ordinaryMemory = 256
	ordinaryGap    = int64(time.Minute) / ordinaryMemory
	// firstGap is between the first observations, of a server that has just begun.
	firstGap = int64(time.Second) / 128
	// doubt is how many calls it takes to outweigh the first guess, that latencies
	// vary widely.
	doubt = 8
	// deviations is how many mean deviations above the mean are ordinary, as with
	// the outliers of package balance: four standard deviations of a normal
	// distribution.
	deviations = 5
	// leastFactor is how much longer than typical sick calls take, at least.
	leastFactor = 2
)

// observe takes a call in. One that is out of the ordinary counts as the longest
// that is not.
func (o *ordinary) observe(now int64, took float64) {
	if now < o.next {
		return
	}
	o.next = now + ordinaryGap
	if o.samples < ordinaryMemory {
		o.next = now + firstGap
	}
	x := math.Log(took)
	if o.samples == 0 {
		o.samples, o.mean, o.dev = doubt, x, 1
	}
	x = min(x, o.mean+o.reach())
	o.samples = min(o.samples+1, ordinaryMemory)
	o.dev += (math.Abs(x-o.mean) - o.dev) / o.samples
	o.mean += (x - o.mean) / o.samples
}

func (o *ordinary) reach() float64 { return max(math.Log(leastFactor), deviations*o.dev) }

// exceeded reports whether a mean latency is out of the ordinary.
func (o *ordinary) exceeded(latency float64) bool {
	return o.samples > 0 && latency > math.Exp(o.mean+o.reach())
}

func (o *ordinary) typical() float64 {
	if o.samples == 0 {
		return 0
	}
	return math.Exp(o.mean)
}
