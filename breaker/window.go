package breaker

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// A window is kept in this many buckets.
const buckets = 10

// One word holds a bucket: which one it is, how many calls ended in it, and
// how many of those failed. 28 bits of number come round after 8 years of
// buckets of a second.
const (
	countBits   = 18
	maxCount    = 1<<countBits - 1
	numberMask  = 1<<(64-2*countBits) - 1
	maxMinCalls = 1_000_000
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
	width   uint64 // of a bucket, in nanoseconds
	inverse uint64 // 2^64/width, rounded down: a division costs more than counting
	words   [buckets]atomic.Uint64
}

func pack(number uint64, calls, failures uint64) uint64 {
	return number<<(2*countBits) | calls<<countBits | failures
}

func unpack(word uint64) (number, calls, failures uint64) {
	return word >> (2 * countBits), word >> countBits & maxCount, word & maxCount
}

func (w *window) setWidth(width int64) {
	w.width, w.inverse = uint64(width), math.MaxUint64/uint64(width)
}

// number returns the number of the bucket that now is in. It starts at ten, so
// that the zero word, bucket 0, is always out of date.
func (w *window) number(now int64) uint64 {
	quotient, _ := bits.Mul64(uint64(now), w.inverse)
	if uint64(now)-quotient*w.width >= w.width { // rounding takes away one at most
		quotient++
	}
	return quotient + buckets
}

// add counts one call that ended at now.
func (w *window) add(now int64, failed bool) {
	current := w.number(now)
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
