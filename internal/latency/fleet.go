// Package latency knows which latency is usual at a fleet of endpoints.
package latency

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A Fleet knows how long calls take at all the endpoints of a balancer
// together, and how much that varies: what an endpoint that was never measured
// is taken for, and which latency is out of the ordinary.
//
// It keeps the mean and the mean deviation of the logarithm of the latency over
// the last 128 calls or the last second, whichever is longer. In logarithms a
// few huge latencies do not move the mean, and a fleet with wide latencies has
// a wide idea of the ordinary: of a log-normal latency no more than one call in
// 10,000 is called an outlier.
//
// Its methods may be called concurrently. Reading takes no lock; of two calls
// that observe at the same moment one is left out.
//
// What every call reads shares no cache line with anything else that is written:
// processors fetch lines of 64 bytes in pairs.
type Fleet struct {
	_       [cacheLines]byte
	typical atomic.Int64
	limit   atomic.Int64
	next    atomic.Int64 // no observation before this
	_       [cacheLines]byte

	mu        sync.Mutex // only ever tried
	samples   float64
	mean, dev float64 // of ln(latency in ns)
}

const (
	cacheLines = 128 // bytes

	// memory is how many calls the means go back, and gap the time between two
	// calls that are observed, so that at least a second is remembered.
	memory = 128
	gap    = time.Second / memory
	// doubt is how many calls it takes to outweigh the first guess, that
	// latencies vary widely.
	doubt = 8
	// ordinary is how many mean deviations above the mean are ordinary: 4 standard
	// deviations of a normal distribution.
	ordinary = 5
	// leastFactor is how much longer than typical a call takes, at least, to be
	// an outlier, however little latencies vary.
	leastFactor = 2
)

// NewFleet returns a Fleet that knows nothing.
func NewFleet() *Fleet { return new(Fleet) }

// Observe takes the latency of an answered call in.
func (f *Fleet) Observe(now int64, latency time.Duration) {
	if now < f.next.Load() || !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	f.next.Store(now + int64(gap))
	x := math.Log(max(1, float64(latency)))
	if f.samples == 0 {
		f.samples, f.mean, f.dev = doubt, x, 1
	}
	f.samples = min(f.samples+1, memory)
	f.dev += (math.Abs(x-f.mean) - f.dev) / f.samples
	f.mean += (x - f.mean) / f.samples
	f.typical.Store(nanoseconds(f.mean))
	f.limit.Store(nanoseconds(f.mean + max(math.Log(leastFactor), ordinary*f.dev)))
}

func nanoseconds(log float64) int64 { return int64(math.Exp(min(log, math.Log(math.MaxInt64/2)))) }

// Typical returns the typical latency, a geometric mean; 0 if nothing is known.
func (f *Fleet) Typical() time.Duration { return time.Duration(f.typical.Load()) }

// Outlier reports whether a call that takes this long is out of the ordinary.
func (f *Fleet) Outlier(latency time.Duration) bool {
	limit := f.limit.Load()
	return limit > 0 && int64(latency) > limit
}
