package load

import (
	"math"
	"sync/atomic"
)

// average is an exponentially weighted moving average over time that decays to
// 0 while nothing is recorded. Its value and the time of that value are one
// word, so that readers and writers need no lock: a float32 of nanoseconds, and
// a count of ticks.
//
// A tick is a 1,024th of the decay. What is recorded within a tick of the last
// record has no weight in an average over time, so nothing is lost by it.
// Ticks come round after four million decays.
type average struct {
	word atomic.Uint64 // 0: nothing was recorded
	tick int64         // nanoseconds
}

const ticksPerDecay = 1024

func newAverage(decay int64) average {
	return average{tick: max(1, decay/ticksPerDecay)}
}

// at returns the value projected to now, and the share of it that is left of
// the last record's. It is pure.
func (a *average) at(word uint64, now int64) (value, left float64) {
	age := uint32(now/a.tick) - uint32(word)
	if age == 0 || age > math.MaxInt32 { // now is before the last record: a race of two callers
		return a.stored(word), 1
	}
	left = math.Exp(-float64(age) / ticksPerDecay)
	return a.stored(word) * left, left
}

func (a *average) stored(word uint64) float64 {
	return float64(math.Float32frombits(uint32(word >> 32)))
}

// load returns the value at now; ok is false if nothing was recorded yet.
func (a *average) load(now int64) (value float64, ok bool) {
	word := a.word.Load()
	if word == 0 {
		return 0, false
	}
	value, _ = a.at(word, now)
	return value, true
}

// record takes a sample in. If peak is true, one above the present value
// replaces it; else it is averaged in with the weight that has decayed.
// at least 1 ns is recorded: a zero would be no record.
func (a *average) record(now int64, sample float64, peak bool) {
	sample = max(sample, 1)
	for {
		old := a.word.Load()
		value, left := a.at(old, now)
		switch {
		case old == 0 || peak && sample > value:
			value = sample
		default:
			value += sample * (1 - left)
		}
		word := uint64(math.Float32bits(float32(value)))<<32 | uint64(uint32(now/a.tick))
		if left == 1 { // the same tick: keep the older stamp, so that no weight is lost
			word = word&^math.MaxUint32 | old&math.MaxUint32
		}
		if a.word.CompareAndSwap(old, word) {
			return
		}
	}
}
