package balance

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/load"
)

// A pool is what the endpoints of one balancer share: the clock, what their
// calls have in common, and how many of them may be banned.
type pool struct {
	base    time.Time
	fleet   *load.Fleet
	onBan   func(cause string) // an endpoint was banned, or its probe has failed
	onPanic func()             // a call is sent to an endpoint that is banned

	failing   failureRate
	vacancies vacancies

	mu    sync.Mutex
	ready int // endpoints in the newest snapshot
	out   int // endpoints with a circuit that is not closed
}

func (p *pool) init(onBan func(cause string), onPanic func()) {
	p.base, p.fleet, p.onBan, p.onPanic = time.Now(), load.NewFleet(), onBan, onPanic
}

func (p *pool) now() int64 { return int64(time.Since(p.base)) }

// heed does what the end of a call means to a circuit of e.
func (p *pool) heed(now int64, e *endpoint, c *breaker.Circuit, v breaker.Verdict) {
	switch v {
	case breaker.Unchanged:
		return
	case breaker.Due:
		if c == &e.failures && p.ordinary(e) || !p.ban(now, e, c) {
			return
		}
	case breaker.Recovered:
		p.mayUse(e)
		return
	case breaker.Reopened:
	}
	cause := "failures"
	if c == &e.slowness {
		cause = "latency"
	}
	p.onBan(cause)
}

// ordinary reports whether e, which has failed often enough for a ban, fails no
// more than the others do.
func (p *pool) ordinary(e *endpoint) bool {
	failures := e.config.Failures.circuit()
	if row := e.failures.Row(); failures.Consecutive > 0 && row >= int64(failures.Consecutive) {
		return p.failing.explains(row)
	}
	return 2*p.failing.share() > failures.Ratio
}

// ban opens a circuit of e, unless too many endpoints are out already.
func (p *pool) ban(now int64, e *endpoint, c *breaker.Circuit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.gone || !e.out.Load() && float64(p.out+1) > e.config.MaxBanned*float64(p.ready) {
		return false
	}
	// Before it opens: whoever finds it open is to know that the endpoint is out.
	// (A circuit that cannot be tripped is open, and e is out already.)
	if !e.out.Swap(true) {
		p.out++
	}
	return c.Trip(now)
}

// count notes how many endpoints there are in the newest snapshot.
func (p *pool) count(ready int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = ready
}

// outOfUse returns how many endpoints are banned, or on trial.
func (p *pool) outOfUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out
}

// forget takes an endpoint that is no longer there out of the count.
func (p *pool) forget(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(e)
}

func (p *pool) forgetLocked(e *endpoint) {
	if !e.gone && e.out.Load() {
		p.out--
	}
	e.gone = true
}

// mayUse counts e among those in use again once both of its circuits are closed.
func (p *pool) mayUse(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.failures.IsClosed() && e.slowness.IsClosed() && e.out.Swap(false) && !e.gone {
		p.out--
	}
}

// settings are a configuration at work. They are immutable.
type settings struct {
	Config

	random func() uint64 // may be called concurrently
}

func newSettings(c Config) *settings { return &settings{c, randomness(c.Seed)} }

// randomness returns a source of random words that may be called concurrently.
func randomness(seed uint64) func() uint64 {
	if seed == 0 {
		return rand.Uint64
	}
	// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
	// generators, 2014), which needs no lock.
	var state atomic.Uint64
	state.Store(seed)
	return func() uint64 {
		z := state.Add(0x9e3779b97f4a7c15)
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
}
