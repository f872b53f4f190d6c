package shared_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// An engine is a token bucket in memory, a round trip away, that can be down.
type engine struct {
	trip time.Duration
	down atomic.Bool
	deaf atomic.Bool // takes no notice of the end of the context

	mu    sync.Mutex
	full  time.Time // when the bucket is full
	asked int
}

var errDown = errors.New("connection refused")

func (e *engine) Take(ctx context.Context, _ string, n int, r limit.Rate) (int, time.Duration, error) {
	if e.deaf.Load() {
		time.Sleep(time.Hour)
	}
	time.Sleep(e.trip / 2)
	defer time.Sleep(e.trip / 2)
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	if e.down.Load() {
		return 0, 0, errDown
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	now := time.Now()
	if e.full.Before(now) {
		e.full = now
	}
	token := r.Per / time.Duration(r.N)
	room := int((time.Duration(r.Burst)*token - e.full.Sub(now)) / token)
	got := min(n, max(room, 0))
	e.full = e.full.Add(time.Duration(got) * token)
	if got == n {
		return got, 0, nil
	}
	return got, e.full.Add(token).Sub(now) - time.Duration(r.Burst)*token, nil
}

// forget makes the engine start anew.
func (e *engine) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.full = time.Time{}
}

// A fleet is clients that ask for calls at steady rates, and what they were let
// in, by millisecond.
type fleet struct {
	limits []*shared.Limit
	each   []time.Duration // time between two calls of a client

	mu       sync.Mutex
	in       []int // by millisecond since the start
	calls    int
	byClient []int
	waits    []time.Duration
}

func newFleet(e shared.Engine, c shared.Config, each ...time.Duration) *fleet {
	f := &fleet{each: each, byClient: make([]int, len(each))}
	for range each {
		f.limits = append(f.limits, shared.New(e, c))
	}
	return f
}

// run lets the clients ask for the time d.
func (f *fleet) run(d time.Duration) {
	start := time.Now()
	f.in = make([]int, d/time.Millisecond+1)
	var wg sync.WaitGroup
	for i, l := range f.limits {
		wg.Go(func() {
			var calls sync.WaitGroup
			time.Sleep(f.each[i] * time.Duration(i) / time.Duration(len(f.limits)))
			for time.Since(start) < d {
				calls.Go(func() { f.call(start, i, l) })
				time.Sleep(f.each[i])
			}
			calls.Wait()
		})
	}
	wg.Wait()
	time.Sleep(100 * time.Millisecond) // until the last questions are answered
}

func (f *fleet) call(start time.Time, client int, l *shared.Limit) {
	began := time.Now()
	ticket, err := l.Enter(context.Background())
	took := time.Since(began)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.waits = append(f.waits, took)
	if err != nil {
		return
	}
	l.Leave(ticket, turret.Success)
	f.byClient[client]++
	if ms := int(time.Since(start) / time.Millisecond); ms < len(f.in) {
		f.in[ms]++
	}
}

// between returns how many calls were let in from one instant to another.
func (f *fleet) between(from, to time.Duration) int {
	sum := 0
	for _, n := range f.in[from/time.Millisecond : to/time.Millisecond] {
		sum += n
	}
	return sum
}

func (f *fleet) asked() (n uint64) {
	for _, l := range f.limits {
		n += l.Stats().Asked
	}
	return n
}

// clients returns the times between calls of ten clients that together ask for
// perSecond calls a second, one of them for half of it.
func clients(perSecond int) []time.Duration {
	each := []time.Duration{2 * time.Second / time.Duration(perSecond)}
	for range 9 {
		each = append(each, 18*time.Second/time.Duration(perSecond))
	}
	return each
}

var thousand = shared.Config{Key: "k", Rate: limit.Rate{N: 1000, Per: time.Second, Burst: 100}}

// TestFleetStaysAtTheLimit holds the figures of doc/fleet.md about leases.
func TestFleetStaysAtTheLimit(t *testing.T) {
	for _, tt := range []struct {
		name      string
		config    shared.Config
		demand    int     // calls a second
		atLeast   float64 // of what is allowed, or of the demand where that is less
		questions float64 // per call, at most
	}{
		{"twice the limit", thousand, 2000, 0.97, 0.06},
		{"ten times the limit", thousand, 10_000, 0.97, 0.02},
		{"half the limit", thousand, 500, 1, 0.3},
		{"a small limit", shared.Config{Key: "k", Rate: limit.Rate{N: 50, Per: time.Second, Burst: 5}}, 100, 0.95, 0.7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lasts = 30 * time.Second
				f := newFleet(&engine{trip: time.Millisecond}, tt.config, clients(tt.demand)...)
				f.run(lasts)
				in := float64(f.between(0, lasts))
				allowed := float64(tt.config.Rate.N)*lasts.Seconds() + float64(tt.config.Rate.Burst)
				if in > allowed {
					t.Errorf("%v calls were let in, %v are allowed", in, allowed)
				}
				want := min(allowed, float64(f.calls))
				if in < tt.atLeast*want {
					t.Errorf("%v calls were let in, want at least %v of %v", in, tt.atLeast, want)
				}
				perCall := float64(f.asked()) / float64(f.calls)
				if perCall > tt.questions {
					t.Errorf("%.3f questions a call, want at most %v", perCall, tt.questions)
				}
				slices.Sort(f.waits)
				if p99 := f.waits[len(f.waits)*99/100]; p99 > time.Millisecond {
					t.Errorf("a call in a hundred waits for %v, want a round trip at most", p99)
				}
				t.Logf("let in %.4f of what is allowed, %.4f questions a call, p50 %v, p99 %v, the busiest client has %.2f",
					in/allowed, perCall, f.waits[len(f.waits)/2], f.waits[len(f.waits)*99/100], float64(f.byClient[0])/in)
			})
		})
	}
}

func TestMostCallsWaitForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(&engine{trip: time.Millisecond}, thousand, clients(2000)...)
		f.run(10 * time.Second)
		slices.Sort(f.waits)
		if p50 := f.waits[len(f.waits)/2]; p50 != 0 {
			t.Errorf("half of the calls wait for %v, want for nothing", p50)
		}
	})
}

func TestAnEngineThatIsAwayForTenSeconds(t *testing.T) {
	for _, tt := range []struct {
		away  shared.Away
		least float64 // of the limit, while the engine is away
		most  float64
	}{
		{shared.AwayLocal, 0.9, 1.1},
		{shared.AwayOpen, 1.98, 2.02},
		{shared.AwayClosed, 0, 0.11},
	} {
		t.Run(tt.away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := thousand
				config.Away = tt.away
				e := &engine{trip: time.Millisecond}
				f := newFleet(e, config, clients(2000)...)
				time.AfterFunc(10*time.Second, func() { e.down.Store(true) })
				time.AfterFunc(20*time.Second, func() { e.forget(); e.down.Store(false) })
				f.run(30 * time.Second)
				// Leases of before may be used in the first second.
				if got := float64(f.between(11*time.Second, 20*time.Second)) / 9000; got < tt.least || got > tt.most {
					t.Errorf("%.3f of the limit while the engine is away, want %v to %v", got, tt.least, tt.most)
				}
				t.Logf("calls a second with the engine %d, without it %d, in the first second of its return %d and then %d",
					f.between(time.Second, 10*time.Second)/9, f.between(11*time.Second, 20*time.Second)/9,
					f.between(20*time.Second, 21*time.Second), f.between(21*time.Second, 30*time.Second)/9)
				// Over nine seconds, because a tenth of a second of leases more or less is
				// the chance of when they are renewed. A second without tokens is 0.89.
				if got := float64(f.between(21*time.Second, 30*time.Second)) / 9000; got < 0.96 {
					t.Errorf("%.3f of the limit from a second after the engine's return on, want 0.96 at least", got)
				}
				if longest := slices.Max(f.waits); longest > 10*time.Millisecond {
					t.Errorf("a call waited for %v, want 10ms at most", longest)
				}
			})
		})
	}
}

// TestSlowEngineStillBounds has an engine whose answers come later than calls
// wait: what is let in meanwhile is paid for out of them.
func TestSlowEngineStillBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lasts = 30 * time.Second
		f := newFleet(&engine{trip: 40 * time.Millisecond}, thousand, clients(2000)...)
		f.run(lasts)
		allowed := 1000*lasts.Seconds() + 100
		// What is lent and not yet paid for is at most what ten clients ask for in
		// the time of an answer.
		if in := float64(f.between(0, lasts)); in > allowed+2000*0.05 || in < 0.9*allowed {
			t.Errorf("%v calls were let in, want about %v", in, allowed)
		}
	})
}

func TestEngineThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		e.deaf.Store(true)
		config := thousand
		config.Away = shared.AwayOpen
		f := newFleet(e, config, clients(2000)...)
		f.run(5 * time.Second)
		var waited int
		for _, w := range f.waits {
			if w > 10*time.Millisecond {
				t.Fatalf("a call waited for %v, want 10ms at most", w)
			}
			if w > 0 {
				waited++
			}
		}
		if most := int(math.Ceil(2000 * 0.06)); waited > most {
			t.Errorf("%d calls waited, want those of the first 50 ms at most: %d", waited, most)
		}
		if s := f.limits[0].Stats(); !s.Away || s.Err == nil || s.AwayFor < 4*time.Second {
			t.Errorf("Stats are %+v, want an engine that has been away from the start", s)
		}
		time.Sleep(2 * time.Hour) // until the engine comes back
	})
}

// TestProcessThatDiesLosesItsOwnRate kills each of some processes at any moment: what
// it has leased is never more than comes in a Horizon at the rate at which it is
// called.
func TestProcessThatDiesLosesItsOwnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		rates := []int{50, 200, 1000, 4000}
		var each []time.Duration
		for _, r := range rates {
			each = append(each, time.Second/time.Duration(r))
		}
		f := newFleet(e, shared.Config{Key: "k", Rate: limit.Rate{N: 10_000, Per: time.Second, Burst: 1000}}, each...)
		over := make(chan struct{})
		go func() {
			defer close(over)
			f.run(3 * time.Second)
		}()
		most := make([]int, len(rates))
		for range 2900 {
			time.Sleep(time.Millisecond)
			for i, l := range f.limits {
				most[i] = max(most[i], l.Stats().Tokens)
			}
		}
		<-over
		for i, r := range rates {
			if bound := r / 10; most[i] > bound {
				t.Errorf("a process of %d calls a second has leased %d tokens at a moment, want at most %d", r, most[i], bound)
			}
		}
		t.Logf("leased at a moment, at most: %v of %v a second", most, rates)
	})
}

// A client is a process with a random load.
type client struct {
	engine shared.Engine
	limit  *shared.Limit

	mu    sync.Mutex
	calls []time.Time
}

// Take asks the engine. With it what the client holds may grow until the next
// question by n tokens: Take returns an error if that can be more than the calls of
// the Horizon before it. It is called at the instant of the question.
func (c *client) Take(ctx context.Context, key string, n int, r limit.Rate) (int, time.Duration, error) {
	held := c.limit.Stats().Tokens
	c.mu.Lock()
	from := time.Now().Add(-100 * time.Millisecond)
	calls := 0
	for _, at := range c.calls {
		if !at.Before(from) {
			calls++
		}
	}
	c.mu.Unlock()
	if held+n > calls {
		return 0, 0, fmt.Errorf("%d tokens are held and %d asked for after %d calls in a Horizon: %w", held, n, calls, errTooMany)
	}
	return c.engine.Take(ctx, key, n, r)
}

var errTooMany = errors.New("too many")

// load calls the client for 20 s: at a rate that changes at random from 5 to 5,000 a
// second, with bursts and pauses.
func (c *client) load(t *testing.T, random *rand.Rand) {
	var calls sync.WaitGroup
	for start := time.Now(); time.Since(start) < 20*time.Second; {
		mean := time.Second.Seconds() / (5 * math.Pow(1000, random.Float64()))
		for range 1 + random.IntN(200) {
			calls.Go(func() {
				c.mu.Lock()
				c.calls = append(c.calls, time.Now())
				c.mu.Unlock()
				_, _ = c.limit.Enter(t.Context())
				if err := c.limit.Stats().Err; errors.Is(err, errTooMany) {
					t.Error(err)
				}
			})
			if random.IntN(4) > 0 {
				time.Sleep(time.Duration(random.ExpFloat64() * mean * float64(time.Second)))
			}
		}
		time.Sleep(time.Duration(random.IntN(2)) * time.Duration(random.Int64N(int64(time.Second))))
	}
	calls.Wait()
}

// TestHoldsNoMoreThanItsCallersTake has processes with random loads and an engine that
// is near, slow, or away, and grants all, a part or nothing: none ever holds more
// tokens than calls came to it in the Horizon before its last question.
func TestHoldsNoMoreThanItsCallersTake(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			e := &engine{trip: time.Duration(random.Int64N(int64(9 * time.Millisecond)))}
			var loads sync.WaitGroup
			for i := range uint64(4) {
				c := &client{engine: e}
				c.limit = shared.New(c, shared.Config{Key: "k", Rate: limit.Rate{N: 2000, Per: time.Second, Burst: 400}})
				loads.Go(func() { c.load(t, rand.New(rand.NewPCG(seed, i))) })
			}
			for range 6 {
				time.Sleep(3 * time.Second)
				e.down.Store(!e.down.Load() && random.IntN(2) == 0)
			}
			loads.Wait()
			time.Sleep(time.Second)
		})
	}
}
