package limit

import (
	"math"
	"math/bits"
	"time"
)

// A bucket is the arithmetic of a token bucket: a function of the time
// that it is given, and of nothing else. Tokens are whole numbers and a part, counted in
// integers, so that N tokens in Per are exactly that after any time, at any
// rate; a product that needs more than 64 bits gets 128.
//
// It is the same as the generic cell rate algorithm (ITU-T I.371), which keeps
// the instant at which the bucket would be full instead of how full it is.
type bucket struct {
	rate   Rate
	last   int64  // the instant that tokens and part are of
	tokens uint64 // at most rate.burst()
	part   uint64 // of the next token, in units of 1/Per; 0 when the bucket is full and no call waits

	// promised is the number of the last token that was promised to a refused
	// call, counted from the next one. spread bounds how far behind the line it is.
	promised, spread int
}

// leastSpread and mostSpread bound bucket.spread, which is else as many tokens as
// come in a second.
const (
	leastSpread = 16
	mostSpread  = 1 << 20
)

func newBucket(r Rate) bucket {
	return bucket{rate: r, tokens: uint64(r.burst()), spread: spreadOf(r)}
}

func spreadOf(r Rate) int {
	hi, lo := bits.Mul64(uint64(r.N), uint64(time.Second))
	if hi >= uint64(r.Per) {
		return mostSpread
	}
	perSecond, _ := bits.Div64(hi, lo, uint64(r.Per))
	return int(min(max(perSecond, leastSpread), mostSpread))
}

// promise returns after how long there is a token for a call that is refused
// while so many wait in line. Each refused call is promised the token after that
// of the one before it, so that they do not all come back at once. Not all come
// back, so at most spread tokens behind the line are promised; then the first of
// them is promised again.
func (b *bucket) promise(waiting int) time.Duration {
	if b.promised < waiting || b.promised-waiting >= b.spread {
		b.promised = waiting
	}
	b.promised++
	return b.after(b.promised)
}

// refill adds the tokens that have come by now. Time that goes backwards adds
// nothing and takes nothing.
//
// What comes while the bucket is full is lost. If a call waits for a token,
// the bucket was not really full, only the clock is too coarse to hand out the
// token when it came; then the fraction of a nanosecond that has passed since is
// kept, or a line would be served a little too slowly. More is not: a wake-up
// that comes late is time lost, and never lets calls start closer together.
func (b *bucket) refill(now int64, waited bool) {
	if now <= b.last {
		return
	}
	elapsed := uint64(now - b.last)
	b.last = now
	lack := uint64(b.rate.burst()) - b.tokens
	if lack == 0 {
		b.part, b.promised = 0, 0
		return
	}
	hi, lo := bits.Mul64(elapsed, uint64(b.rate.N))
	lo, carry := bits.Add64(lo, b.part, 0)
	hi += carry
	per := uint64(b.rate.Per)
	came, part := uint64(math.MaxUint64), bits.Rem64(hi, lo, per)
	if hi < per { // else 2^64 tokens or more
		came, part = bits.Div64(hi, lo, per)
	}
	b.promised -= int(min(came, uint64(b.promised)))
	if came >= lack {
		came = lack
		if waited {
			part = min(part, uint64(b.rate.N)-1) // N come in a nanosecond
		} else {
			part = 0
		}
	}
	b.tokens, b.part = b.tokens+came, part
}

// take takes a token, if there is one.
func (b *bucket) take() bool {
	if b.tokens == 0 {
		return false
	}
	b.tokens--
	return true
}

// put puts a token back. A full bucket stays as it is.
func (b *bucket) put() {
	burst := uint64(b.rate.burst())
	b.tokens = min(b.tokens+1, burst)
	if b.tokens == burst {
		b.part = 0
	}
}

// after returns how long after last it takes until n more tokens have come than
// are there now, if none is taken that is not of the n. It rounds up to the
// nanosecond, and a time beyond the largest Duration to that.
func (b *bucket) after(n int) time.Duration {
	if uint64(n) <= b.tokens {
		return 0
	}
	hi, lo := bits.Mul64(uint64(n)-b.tokens, uint64(b.rate.Per))
	lo, borrow := bits.Sub64(lo, b.part, 0)
	hi -= borrow
	perToken := uint64(b.rate.N)
	lo, carry := bits.Add64(lo, perToken-1, 0)
	hi += carry
	if hi >= perToken {
		return math.MaxInt64
	}
	wait, _ := bits.Div64(hi, lo, perToken)
	return time.Duration(min(wait, math.MaxInt64))
}

// setRate changes the rate from last on. What has come of the next token stays
// the same part of it; tokens beyond the new burst are lost.
func (b *bucket) setRate(r Rate) {
	hi, lo := bits.Mul64(b.part, uint64(r.Per))
	b.part, _ = bits.Div64(hi, lo, uint64(b.rate.Per))
	b.rate, b.spread = r, spreadOf(r)
	if burst := uint64(r.burst()); b.tokens >= burst {
		b.tokens, b.part = burst, 0
	}
}
