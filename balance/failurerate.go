package balance

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
)

// A failureRate is the share of the calls to all endpoints that fail. Where one
// call in eight fails everywhere, three failures in a row are chance, and come to
// every endpoint every few hundred calls: whoever bans for that takes capacity
// from a fleet that has none to spare.
//
// It is the mean of about the last 256 calls or the last two seconds, whichever
// is longer. Its methods may be called concurrently.
type failureRate struct {
	next atomic.Int64  // no call before this is looked at
	bits atomic.Uint64 // of the float64
}

const (
	rateMemory = 256
	rateGap    = int64(2*time.Second) / rateMemory
	// chance is how unlikely a row of failures must be to say anything.
	chance = 1e-5
)

// observe takes the outcome of a call in. Of two at the same moment one is left
// out.
func (r *failureRate) observe(now int64, o turret.Outcome) {
	next := r.next.Load()
	if now < next || o == turret.Unused || o == turret.Ignored || !r.next.CompareAndSwap(next, now+rateGap) {
		return
	}
	share, sample := r.share(), 0.0
	if o != turret.Success {
		sample = 1
	}
	r.bits.Store(math.Float64bits(share + (sample-share)/rateMemory))
}

func (r *failureRate) share() float64 { return math.Float64frombits(r.bits.Load()) }

// explains reports whether a row of failures is nothing out of the ordinary.
func (r *failureRate) explains(row int64) bool {
	return math.Pow(r.share(), float64(row)) > chance
}
