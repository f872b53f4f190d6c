package limiters

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/test/experiments/surge"
)

// An estimator moves a limit by what it learns of calls. Its owner serializes
// access.
type estimator interface {
	// sample is a call that ended: how long it took, how many were inside when it
	// began, itself among them, and whether it missed its deadline.
	sample(now time.Time, took time.Duration, inside int, dropped bool)
	limit() int
}

// estimated is a door that refuses at once what comes beyond the limit of an
// estimator, as SimpleLimiter of Netflix' concurrency-limits does.
func estimated(make func(seed uint64) estimator) func(surge.Scenario, func() time.Duration) surge.Door {
	return func(surge.Scenario, func() time.Duration) surge.Door {
		e := make(1)
		var mu sync.Mutex
		inside := 0
		return door(func(context.Context, *surge.Call) (func(turret.Outcome), error) {
			mu.Lock()
			defer mu.Unlock()
			if inside >= e.limit() {
				return nil, errFull
			}
			inside++
			start, then := time.Now(), inside
			return func(o turret.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				inside--
				now := time.Now()
				e.sample(now, max(1, now.Sub(start)), then, o == turret.Failure)
			}, nil
		})
	}
}

// vegas is VegasLimit of github.com/Netflix/concurrency-limits with its defaults,
// which are those of its gRPC interceptor: a queue is estimated from the latency
// over the least one seen, and the limit is to keep it between three and six times
// the logarithm of the limit. After 15 to 30 limits of calls the least latency is
// measured again.
type vegas struct {
	random *rand.Rand
	size   float64
	least  time.Duration
	count  float64 // of samples since the last probe
	jitter float64
}

const (
	initial      = 20
	greatest     = 1000
	probeEvery   = 30 // limits
	vegasAlpha   = 3  // logarithms
	vegasBeta    = 6
	gradientLong = 600 // samples
)

func newVegas(seed uint64) *vegas {
	v := &vegas{random: rand.New(rand.NewPCG(seed, 1)), size: initial}
	v.probe()
	return v
}

func (v *vegas) limit() int { return int(v.size) }

func (v *vegas) probe() { v.count, v.jitter = 0, 0.5+v.random.Float64()/2 }

func (v *vegas) sample(_ time.Time, took time.Duration, inside int, dropped bool) {
	v.count++
	if v.count >= v.jitter*probeEvery*v.size {
		v.probe()
		v.least = took
		return
	}
	if v.least == 0 || took < v.least {
		v.least = took
		return
	}
	log := max(1, math.Floor(math.Log10(math.Floor(v.size))))
	queue := math.Ceil(v.size * (1 - float64(v.least)/float64(took)))
	next := v.size
	switch {
	case dropped:
		next -= log
	case float64(inside)*2 < v.size:
	case queue <= log:
		next += vegasBeta * log
	case queue < vegasAlpha*log:
		next += log
	case queue > vegasBeta*log:
		next -= log
	}
	v.size = min(max(next, 1), greatest)
}

// gradient2 is Gradient2Limit of github.com/Netflix/concurrency-limits: the limit
// follows the long average of the latency over the present one, plus a queue of 4.
// It differs from the defaults in its bounds, which are 20 and 200 there: there are
// servers here that can do less and more.
type gradient2 struct {
	size    float64
	average float64
	warm    int
	sum     float64
}

func newGradient2() *gradient2 { return &gradient2{size: initial} }

func (g *gradient2) limit() int { return int(g.size) }

func (g *gradient2) sample(_ time.Time, took time.Duration, inside int, _ bool) {
	const warmup, queue, smoothing = 10, 4, 0.2
	if g.warm < warmup {
		g.warm++
		g.sum += float64(took)
		g.average = g.sum / float64(g.warm)
	} else {
		const factor = 2.0 / (gradientLong + 1)
		g.average += factor * (float64(took) - g.average)
	}
	long := g.average
	if long > 2*float64(took) {
		g.average *= 0.9
	}
	if float64(inside) < g.size/2 {
		return
	}
	gradient := min(max(long/float64(took), 0.5), 1)
	next := g.size*(1-smoothing) + (g.size*gradient+queue)*smoothing
	g.size = min(max(next, 1), greatest)
}

// windows gives an estimator the mean of the latencies of a second in place of each
// call's, as WindowedLimit of github.com/Netflix/concurrency-limits does with its
// defaults. (There, the first window ends with the tenth call, and so has only the
// fastest of those that came first. Here it lasts a second too.)
type windows struct {
	inner   estimator
	until   time.Time
	n       int
	sum     time.Duration
	inside  int
	dropped bool
}

func (w *windows) limit() int { return w.inner.limit() }

func (w *windows) sample(now time.Time, took time.Duration, inside int, dropped bool) {
	const long, enough = time.Second, 10
	if w.until.IsZero() {
		w.until = now.Add(long)
	}
	w.n++
	w.sum += took
	w.inside = max(w.inside, inside)
	w.dropped = w.dropped || dropped
	if now.Before(w.until) || w.n < enough {
		return
	}
	w.inner.sample(now, w.sum/time.Duration(w.n), w.inside, w.dropped)
	*w = windows{inner: w.inner, until: now.Add(long)}
}
