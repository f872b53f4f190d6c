package balance

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/latency"
)

// A pool is what the endpoints of one balancer share: the clock, what their
// calls have in common, and which of them are banned.
type pool struct {
	bans

	// All times of the pool are nanoseconds since base. It is taken in init and not in a
	// package variable, so that tests have virtual time.
	base    time.Time
	fleet   *latency.Fleet
	onPanic func()        // is called when a call is sent to a banned endpoint
	panics  atomic.Uint64 // such calls

	vacancies vacancies
}

// init must be called before everything else. onChange is called with no lock of the
// pool held.
func (p *pool) init(onChange func(Transition), onPanic func()) {
	p.base, p.fleet, p.onChange, p.onPanic = time.Now(), latency.NewFleet(), onChange, onPanic
}

func (p *pool) now() int64 { return int64(time.Since(p.base)) }

// settings are a configuration at work. They are immutable.
type settings struct {
	Config

	random   func() uint64 // may be called concurrently
	classify Classifier
}

// The classifier was registered when c was validated.
func newSettings(c Config) *settings {
	return &settings{c, randomness(c.Seed), classifierOf(c.Classifier)}
}

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

// vacancies wake waiting calls when an endpoint with a limit has room again. They
// cost nothing while no call waits.
type vacancies struct {
	waiting atomic.Int64

	mu    sync.Mutex
	freed chan struct{} // closed and replaced at each vacancy; nil if no call waits for it
}

// watch returns a channel that is closed at the next vacancy. stop is to be called
// when it is no longer of interest.
// waiting is counted before the channel is made, and announce reads it after the room
// is there: either announce sees the waiting call, or the call sees the room.
func (v *vacancies) watch() (freed <-chan struct{}, stop func()) {
	v.waiting.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.freed == nil {
		v.freed = make(chan struct{})
	}
	return v.freed, func() { v.waiting.Add(-1) }
}

// announce tells of a vacancy.
func (v *vacancies) announce() {
	if v.waiting.Load() == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.freed != nil {
		close(v.freed)
		v.freed = nil
	}
}

// describe says what the configuration holds for all endpoints.
func (s *settings) describe(d *turret.Description) {
	d.Setting("choices", "{endpoint}", s.Choices)
	d.Setting("limit", "{call}", s.Limit)
	d.Setting("max_banned", "1", s.MaxBanned)
}
