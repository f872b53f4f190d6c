package load

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// average is an exponentially weighted moving average over time that decays to
// 0 while nothing is recorded. Its value and the time of that value are one
// word, so that readers and writers need no lock: a float32 of nanoseconds, and
// a count of ticks.
//
// A tick is a power of two of nanoseconds, between a 1,024th and a 2,048th of
// the decay. What is recorded within a tick of the last record has no weight in
// an average over time, so nothing is lost by it.
//
// The word has room for the low 32 bits of the tick count, which come round after
// two million decays. era has the high bits of the last record. A record two eras
// back has decayed to nothing; a later one is less than 2^31 ticks old, so that
// the low bits tell its age. Invariant: era is not ahead of the last word, since
// it is written after it.
type average struct {
	word  atomic.Uint64 // 0: nothing was recorded
	era   atomic.Int64  // the ticks of the last record, in units of 1<<eraBits
	scale uint32        // entries of the decay table to a tick, times 1<<scaleBits
	shift uint8         // a tick is 1<<shift nanoseconds
}

const (
	scaleBits = 20
	eraBits   = 30
)

// newAverage returns an average of nothing. decay is in nanoseconds, at least
// 1,000.
func newAverage(decay int64) average {
	shift := uint8(max(0, bits.Len64(uint64(decay)/decayTable)-1))
	return average{shift: shift, scale: uint32(math.Round(decayTable * (1 << scaleBits) * float64(int64(1)<<shift) / float64(decay)))}
}

// decayTable is how many steps one decay is cut in.
const decayTable = 1024

// wholeDecays and partDecays are e^-n and e^-(n/1024): their product is the
// exponential, to a thousandth, for a third of its price.
var (
	wholeDecays [88]float64 // e^-88 is 0 in a float32
	partDecays  [decayTable]float64
)

func init() {
	for i := range wholeDecays {
		wholeDecays[i] = math.Exp(-float64(i))
	}
	for i := range partDecays {
		partDecays[i] = math.Exp(-float64(i) / decayTable)
	}
}

func (a *average) stamp(now int64) uint32 { return uint32(now >> a.shift) }

func (a *average) eraOf(now int64) int64 { return now >> a.shift >> eraBits }

// at returns the value projected to now, and the share of it that is left of
// the last record's. It is pure. era must have been read before word: a word is
// then not older than era says.
func (a *average) at(era int64, word uint64, now int64) (value, left float64) {
	if a.eraOf(now) > era+1 {
		return 0, 0
	}
	value = float64(math.Float32frombits(uint32(word >> 32)))
	age := a.stamp(now) - uint32(word)
	if age == 0 || age > math.MaxInt32 { // now is before the last record: a race of two callers
		return value, 1
	}
	steps := uint64(age) * uint64(a.scale) >> scaleBits
	if steps >= decayTable*uint64(len(wholeDecays)) {
		return 0, 0
	}
	left = wholeDecays[steps/decayTable] * partDecays[steps%decayTable]
	return value * left, left
}

// load returns the value at now; ok is false if nothing was recorded yet.
func (a *average) load(now int64) (value float64, ok bool) {
	era := a.era.Load()
	word := a.word.Load()
	if word == 0 {
		return 0, false
	}
	value, _ = a.at(era, word, now)
	return value, true
}

// record takes a sample in. If peak is true, one above the present value
// replaces it; else it is averaged in with the weight that has decayed.
// at least 1 ns is recorded: a zero would be no record.
func (a *average) record(now int64, sample float64, peak bool) {
	sample = max(sample, 1)
	for {
		era := a.era.Load()
		old := a.word.Load()
		value, left := a.at(era, old, now)
		switch {
		case old == 0 || peak && sample > value:
			value = sample
		default:
			value += sample * (1 - left)
		}
		word := uint64(math.Float32bits(float32(value)))<<32 | uint64(a.stamp(now))
		if left == 1 { // the same tick: keep the older stamp, so that no weight is lost
			word = word&^math.MaxUint32 | old&math.MaxUint32
		}
		if a.word.CompareAndSwap(old, word) {
			a.enter(a.eraOf(now))
			return
		}
	}
}

// enter makes era the last one, unless a later one is.
func (a *average) enter(era int64) {
	for {
		last := a.era.Load()
		if era <= last || a.era.CompareAndSwap(last, era) {
			return
		}
	}
}

// last returns the value at the last record; infinite if there was none.
func (a *average) last() float64 {
	word := a.word.Load()
	if word == 0 {
		return math.Inf(1)
	}
	return float64(math.Float32frombits(uint32(word >> 32)))
}
