package circuit

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// A window is kept in this many buckets.
const buckets = 10

// One word holds a bucket: which one it is, how many calls ended in it, and
// how many of those failed. 28 bits of number come round, after 8 years with
// buckets of a second and after 3 days with buckets of a millisecond: what was
// counted half of that before is cleared by then, see forget.
const (
	countBits   = 18
	maxCount    = 1<<countBits - 1
	numberMask  = 1<<(64-2*countBits) - 1
	maxMinCalls = 1_000_000
	eraBits     = 64 - 2*countBits - 1
)

// A window counts the calls and the failures of the last ten buckets of time,
// the running one included, exactly: each count is one compare-and-swap of one
// word, so nothing is lost between reading the clock, clearing a bucket and
// counting. An average weighted by the time between calls would be cheaper and
// wrong: it gives a tight burst of failures almost no weight.
//
// A bucket holds 262,143 calls; what comes after them in the same bucket is
// not counted, and its share of failures is that of the calls before.
type window struct {
	width   atomic.Uint64 // of a bucket, in nanoseconds
	inverse atomic.Uint64 // 2^64/width, rounded down: a division costs more than counting
	era     atomic.Uint64 // the bucket counted in last, in units of 1<<eraBits
	words   [buckets]atomic.Uint64
}

func pack(number uint64, calls, failures uint64) uint64 {
	return number<<(2*countBits) | calls<<countBits | failures
}

func unpack(word uint64) (number, calls, failures uint64) {
	return word >> (2 * countBits), word >> countBits & maxCount, word & maxCount
}

// setWidth forgets everything if the width changes. A call that is counted at the
// same time may be counted in a bucket of another time, and is lost with it.
func (w *window) setWidth(width int64) {
	if w.width.Swap(uint64(width)) != uint64(width) {
		w.inverse.Store(math.MaxUint64 / uint64(width))
		w.era.Store(0)
		w.clear()
	}
}

// number returns the number of the bucket that now is in. It starts at ten, so
// that the zero word, bucket 0, is always out of date.
func (w *window) number(now int64) uint64 {
	quotient, _ := bits.Mul64(uint64(now), w.inverse.Load())
	if width := w.width.Load(); uint64(now)-quotient*width >= width { // rounding takes away one at most
		quotient++
	}
	return quotient + buckets
}

// add counts one call that ended at now.
func (w *window) add(now int64, failed bool) {
	current := w.number(now)
	if era := current >> eraBits; era > w.era.Load() {
		w.forget(era)
	}
	word := &w.words[current%buckets]
	current &= numberMask
	for {
		old := word.Load()
		number, calls, failures := unpack(old)
		if number != current {
			calls, failures = 0, 0
		}
		if calls == maxCount {
			return
		}
		if failed {
			failures++
		}
		if word.CompareAndSwap(old, pack(current, calls+1, failures)) {
			return
		}
	}
}

// forget clears what was counted before the era before this one, and makes this
// one the last. What others count meanwhile stays: they do so after the era is
// this one, so that a word which was read before that is without it.
func (w *window) forget(era uint64) {
	for {
		last := w.era.Load()
		if era <= last {
			return
		}
		var old [buckets]uint64
		for i := range w.words {
			old[i] = w.words[i].Load()
		}
		if w.era.Load() != last {
			continue
		}
		for i := range w.words {
			if era > last+1 {
				w.words[i].CompareAndSwap(old[i], 0)
			}
		}
		if w.era.CompareAndSwap(last, era) {
			return
		}
	}
}

// sum returns what was counted in the ten buckets up to now.
func (w *window) sum(now int64) (calls, failures int) {
	current := w.number(now)
	for i := range w.words {
		number, c, f := unpack(w.words[i].Load())
		if age := (current - number) & numberMask; age < buckets {
			calls += int(c)
			failures += int(f)
		}
	}
	return calls, failures
}

// clear forgets everything.
func (w *window) clear() {
	for i := range w.words {
		w.words[i].Store(0)
	}
}
