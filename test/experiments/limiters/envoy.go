package limiters

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/test/experiments/surge"
)

// envoy is the gradient controller of Envoy's adaptive concurrency filter, after
// its documentation and controller (source/extensions/filters/http/
// adaptive_concurrency), with the defaults of its API and an update every 100 ms and
// an unloaded latency measured every 60 s, as in the documentation's example. The
// unloaded latency is the median of 50 calls at a limit of 3; the limit follows 1.25
// times that over the present median, between half and twice, plus its own square
// root.
type envoy struct {
	mu       sync.Mutex
	random   *rand.Rand
	size     int
	inside   int
	took     []time.Duration
	unloaded time.Duration
	update   time.Time // when the window ends
	measure  time.Time // when the unloaded latency is measured again
	since    time.Time // when its measurement began
	before   int       // the limit before it; 0: it is not measured now
	lowest   int       // updates in a row at the least limit
}

const (
	envoyLeast   = 3
	envoySamples = 50
	envoyBuffer  = 1.25
	envoyUpdate  = 100 * time.Millisecond
	envoyMeasure = 60 * time.Second
	envoyJitter  = 0.15
)

func newEnvoy() *envoy {
	e := &envoy{random: rand.New(rand.NewPCG(1, 2)), size: envoyLeast}
	e.begin(time.Now())
	return e
}

func (e *envoy) Enter(context.Context, *surge.Call) (func(turret.Outcome), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	start := time.Now()
	e.advance(start)
	if e.inside >= e.size {
		return nil, errFull
	}
	e.inside++
	return func(o turret.Outcome) { e.leave(start, o) }, nil
}

func (e *envoy) leave(start time.Time, o turret.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.advance(now)
	e.inside--
	if o != turret.Success || start.Before(e.since) {
		return
	}
	e.took = append(e.took, now.Sub(start))
	if e.before > 0 && len(e.took) >= envoySamples {
		e.unloaded = e.median()
		e.set(e.before)
		e.before = 0
		e.update = now.Add(envoyUpdate)
		e.measure = now.Add(time.Duration((1 + envoyJitter*e.random.Float64()) * float64(envoyMeasure)))
	}
}

// begin begins a measurement of the unloaded latency.
func (e *envoy) begin(now time.Time) {
	e.before, e.since, e.took = e.size, now, e.took[:0]
	e.size, e.lowest = envoyLeast, 0
}

// median empties the samples.
func (e *envoy) median() time.Duration {
	slices.Sort(e.took)
	m := e.took[len(e.took)/2]
	e.took = e.took[:0]
	return m
}

// advance does what Envoy's timers do.
func (e *envoy) advance(now time.Time) {
	if e.before > 0 {
		return
	}
	if !now.Before(e.measure) {
		e.begin(now)
		return
	}
	if now.Before(e.update) {
		return
	}
	e.update = now.Add(envoyUpdate)
	if len(e.took) == 0 {
		return
	}
	gradient := min(max(envoyBuffer*float64(e.unloaded)/float64(e.median()), 0.5), 2)
	size := float64(e.size) * gradient
	old := e.size
	e.set(int(size + math.Sqrt(size)))
	if e.lowest++; old != envoyLeast || e.size != envoyLeast {
		e.lowest = 0
	}
	if e.lowest >= 5 {
		e.begin(now)
	}
}

func (e *envoy) set(size int) { e.size = min(max(size, envoyLeast), greatest) }
