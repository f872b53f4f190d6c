package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// A Scenario is a fleet, its clients, their load, and what goes wrong. All
// times count from the moment at which the load begins.
type Scenario struct {
	ID    string
	Title string

	Clients  int
	Rate     float64       // calls per second of all clients together, Poisson
	Duration time.Duration // of the load
	From, To time.Duration // calls that begin in [From, To) are judged
	Timeout  time.Duration // of a call; a failed call is charged this

	// Backends makes the fleet; the random source is the seed's.
	Backends func(r *rand.Rand) []*Backend
	// Work draws one call: its method, its service time at a
	// healthy backend, and after how long its caller cancels it (0: never).
	Work func(r *rand.Rand) Work
	// Named is which backends the resolver names at a time; nil: all, always.
	Named func(at time.Duration) []int
	// Locality is the child of a priority policy that a backend belongs to; nil:
	// there are no localities.
	Locality func(backend int) string
	// Updates is how often the resolver calls Named; 0: never.
	Updates time.Duration
}

// Work is one call.
type Work struct {
	Method   string        // "A" or "B"
	Service  time.Duration // service time at a healthy backend
	Cancel   time.Duration // the caller gives up after this
	NotFound bool          // the answer is NOT_FOUND
}

// A Backend is one server: workers that serve a line, and what is wrong with
// it at a time.
type Backend struct {
	Workers int // 0: no limit
	// Slow is the factor of the service time of a call that begins service at
	// this time; nil: 1.
	Slow func(at time.Duration) float64
	// Pauses are the times at which nothing moves.
	Pauses []Span
	// Fails are the times at which every call fails with UNAVAILABLE after 1 ms.
	Fails []Span
	// Holes are the times at which no call is answered.
	Holes []Span
}

// A Span is a span of time.
type Span struct{ From, To time.Duration }

func within(spans []Span, at time.Duration) bool {
	for _, s := range spans {
		if at >= s.From && at < s.To {
			return true
		}
	}
	return false
}

// spread is the sigma of the log-normal service times: with it the 99th
// percentile is 2.8 times the mean.
const spread = 0.5

// logNormal draws from the log-normal distribution with this mean.
func logNormal(r *rand.Rand, mean time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(mean) * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2))
}

// work returns a draw of log-normal service times with this mean.
func work(mean time.Duration) func(r *rand.Rand) Work {
	return func(r *rand.Rand) Work { return Work{Method: "A", Service: logNormal(r, mean, spread)} }
}

// alike returns n backends with this many workers, changed by each f.
func alike(n, workers int, f ...func(i int, b *Backend)) []*Backend {
	all := make([]*Backend, n)
	for i := range all {
		all[i] = &Backend{Workers: workers}
		for _, change := range f {
			change(i, all[i])
		}
	}
	return all
}
