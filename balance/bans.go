package balance

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/circuit"
)

// bans are the endpoints of one balancer that are left out: how many there are,
// and when one more is.
type bans struct {
	onChange func(Transition) // is called when an endpoint is banned, when its probe fails, and when it is back
	failing  failureRate
	bansFor  [2]atomic.Uint64 // failures and latency; failed probes included

	// mu is held for a few instructions, and never while a call is sent. Invariant: out is
	// the number of endpoints that are not gone and whose out is true.
	mu    sync.Mutex
	ready int // endpoints in the newest snapshot
	out   int // endpoints with a circuit that is not closed
}

// heed does what the end of a call means to a circuit of e.
func (b *bans) heed(now int64, e *endpoint, c *circuit.Circuit, v circuit.Verdict) {
	switch v {
	case circuit.Unchanged:
		return
	case circuit.Due:
		// The circuit has not opened: ban decides, unless failing is ordinary here.
		if c == &e.failures && b.ordinary(e) || !b.ban(now, e, c) {
			return
		}
	case circuit.Recovered:
		// Both circuits must be closed before the endpoint is in use again.
		if b.mayUse(e) {
			b.changed(e, Transition{Cause: e.causeOf(c), Probe: true})
		}
		return
	case circuit.Reopened:
	}
	b.bansFor[e.causeIndex(c)].Add(1)
	b.changed(e, e.evidence(now, c, v == circuit.Reopened))
}

// changed completes t, which is of e, keeps it and passes it on.
func (b *bans) changed(e *endpoint, t Transition) {
	t.Endpoint, t.Typical, t.When = e.name, e.pool.fleet.Typical(), time.Now()
	e.last.Store(&t)
	b.onChange(t)
}

// ordinary reports whether e, which has failed often enough for a ban, fails no
// more than the others do.
// It is asked of failures only: latency is compared with that of the fleet anyway.
func (b *bans) ordinary(e *endpoint) bool {
	config := e.config.Load()
	share, failures := b.failing.share(), config.Failures.circuit()
	if config.OnBanned == FailOver {
		share = min(share, excused)
	}
	if row := e.failures.Row(); failures.Consecutive > 0 && row >= int64(failures.Consecutive) {
		return explains(share, row)
	}
	return 2*share > failures.Ratio
}

// ban opens a circuit of e, unless too many endpoints are out already.
// MaxBanned bounds endpoints, not circuits: a second circuit of one that is out already
// opens in any case.
func (b *bans) ban(now int64, e *endpoint, c *circuit.Circuit) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.gone || !e.out.Load() && !b.mayBan(e, c) {
		return false
	}
	// Before the circuit opens, so that e.out is true whenever it is open.
	// (A circuit that cannot be tripped is open, and e is out already.)
	if !e.out.Swap(true) {
		b.out++
	}
	return c.Trip(now)
}

// mayBan reports whether so few endpoints are out that circuit c of e, which is in
// use, may ban it. With [FailOver] failures may ban all.
func (b *bans) mayBan(e *endpoint, c *circuit.Circuit) bool {
	config := e.config.Load()
	if config.OnBanned == FailOver && c == &e.failures {
		return true
	}
	return float64(b.out+1) <= config.MaxBanned*float64(b.ready)
}

// count notes how many endpoints there are in the newest snapshot.
func (b *bans) count(ready int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

// outOfUse returns how many endpoints are banned, or on trial.
func (b *bans) outOfUse() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out
}

// forgetLocked takes an endpoint that is no longer there out of the count. Forgetting
// twice does nothing.
// It requires mu.
func (b *bans) forgetLocked(e *endpoint) {
	if !e.gone && e.out.Load() {
		b.out--
	}
	e.gone = true
}

// reviveLocked counts an endpoint that has come back.
// It requires mu.
func (b *bans) reviveLocked(e *endpoint) {
	if e.gone && e.out.Load() {
		b.out++
	}
	e.gone = false
}

// mayUse counts e among those in use again once both of its circuits are closed.
// It reports whether e was out of use before.
func (b *bans) mayUse(e *endpoint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !e.failures.IsClosed() || !e.slowness.IsClosed() || !e.out.Swap(false) || e.gone {
		return false
	}
	b.out--
	return true
}

// A failureRate is the share of the calls to all endpoints that fail. Where one
// call in eight fails everywhere, three failures in a row are chance, and come to
// every endpoint every few hundred calls: a ban for that would take capacity from
// a fleet that has none to spare.
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

// share returns the share of failures, 0 before the first call.
func (r *failureRate) share() float64 { return math.Float64frombits(r.bits.Load()) }

// explains reports whether a row of failures is nothing out of the ordinary where
// this share of all calls fails.
func explains(share float64, row int64) bool {
	return math.Pow(share, float64(row)) > chance
}
