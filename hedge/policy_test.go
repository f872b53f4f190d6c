package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/retry"
)

// A timed service takes a given time, and each call after the first of
// a race the time of a hedge.
type timed struct {
	turret.Service[string, string]

	takes, hedge time.Duration
	err          error
}

func (s *timed) Call(ctx context.Context, req string) (string, error) {
	d := s.takes
	if req == "hedge" {
		d = s.hedge
	}
	p := part{takes: d}
	if !p.wait(ctx) {
		return "", ctx.Err()
	}
	return req, s.err
}

// server returns a service over a policy for c, and what it is made of.
func server(c hedge.Config) (turret.Service[string, string], *timed, *hedge.Policy) {
	inner, p := new(timed), hedge.NewPolicy(c)
	s := hedge.LayerOf[string, string](p, func(context.Context, string, int) (string, bool) { return "hedge", true })(inner)
	return s, inner, p
}

// The delay is the quantile of the answers, once there are enough.
func TestQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, inner, p := server(hedge.Config{Quantile: 0.9, MinSamples: 50, MaxRise: -1, Budget: retry.Unlimited})
		for i := range 50 {
			inner.takes = time.Duration(i+1) * 10 * ms
			if got := p.Stats(); got.Delay != 0 || got.Samples != i {
				t.Fatalf("after %d calls: %+v", i, got)
			}
			_, _ = s.Call(t.Context(), "call")
		}
		const want = 450560 * time.Microsecond // 450 ms, the 45th, as the histogram has it
		got := p.Stats()
		if got.Delay != want || got.Quantile != want || got.Hedges != 0 {
			t.Errorf("after 50 calls of 10 to 500ms: %+v, want a delay of %v", got, want)
		}
		inner.takes, inner.hedge = time.Hour, 10*ms
		start := time.Now()
		if res, err := s.Call(t.Context(), "call"); res != "hedge" || err != nil || time.Since(start) != want+10*ms {
			t.Errorf("a slow call: %q, %v after %v", res, err, time.Since(start))
		}
	})
}

func TestMinDelay(t *testing.T) {
	for _, tt := range []struct{ min, want time.Duration }{
		{0, ms},
		{7 * ms, 7 * ms},
		{-1, 10 * time.Microsecond},
		{time.Nanosecond, 10 * time.Microsecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, inner, p := server(hedge.Config{MinSamples: 1, MinDelay: tt.min})
			inner.takes = 10 * time.Microsecond
			_, _ = s.Call(t.Context(), "call")
			if got := p.Stats().Delay; got != tt.want {
				t.Errorf("MinDelay %v: delay %v, want %v", tt.min, got, tt.want)
			}
		})
	}
}

// What is measured: the first attempts of calls. Those without an answer count
// if they are slower than the quantile, so that slow errors and the losers of
// races are not invisible, as they are to Tower.
func TestSamples(t *testing.T) {
	for _, tt := range []struct {
		name         string
		takes, hedge time.Duration
		err          error
		cancel       time.Duration
		added        int
		slower       bool // the quantile has risen
	}{
		{"answer", 10 * ms, 0, nil, 0, 1, false},
		{"fast failure", ms, 0, errLost, 0, 0, false},
		{"fast answer that is an error", ms, 0, errMissing, 0, 1, false},
		{"slow failure of both", 10 * time.Second, 10 * time.Second, errLost, 0, 1, true},
		{"lost", time.Hour, 5 * ms, nil, 0, 1, true},
		{"cancelled soon", time.Hour, 0, nil, 5 * ms, 0, false},
		{"cancelled late", time.Hour, time.Hour, nil, time.Second, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := steady()
				c.Delay, c.Quantile, c.MinSamples = 0, 0.999999, 20
				s, inner, p := server(c)
				inner.takes = 10 * ms
				for range 20 {
					_, _ = s.Call(t.Context(), "call")
				}
				before := p.Stats()
				*inner = timed{takes: tt.takes, hedge: tt.hedge, err: tt.err}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				_, _ = s.Call(ctx, "call")
				after := p.Stats()
				if got := after.Samples - before.Samples; got != tt.added {
					t.Errorf("%d latencies added, want %d", got, tt.added)
				}
				if got := after.Quantile > before.Quantile; got != tt.slower {
					t.Errorf("the longest was %v and is %v", before.Quantile, after.Quantile)
				}
			})
		})
	}
}

// Losers count with the time until they lost, which is more than the delay, and
// hedges do not count at all. So hedges that win do not lower the quantile, and if
// they hide that first attempts have become slower, it finds out step by step.
func TestHedgesDoNotLowerTheQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, inner, p := server(hedge.Config{MinSamples: 100, MaxRise: -1, Window: time.Second, Budget: retry.Unlimited})
		inner.hedge = 10 * ms
		const normal = 10240 * time.Microsecond // as the histogram has 10 ms
		for i := range 10_000 {
			inner.takes = 10 * ms
			if i%25 == 0 {
				inner.takes = time.Second
			}
			_, _ = s.Call(t.Context(), "call")
			if got := p.Stats(); i >= 100 && got.Quantile != normal {
				t.Fatalf("after %d calls of which 4 %% take 1s: %+v", i, got)
			}
		}
		if got := p.Stats(); got.Hedges != 396 || got.Wins != 396 {
			t.Errorf("%+v, want a hedge for each slow call but the first four", got)
		}
		inner.takes = 50 * ms
		for range 1000 {
			_, _ = s.Call(t.Context(), "call")
		}
		if got := p.Stats(); got.Quantile < 50*ms || got.Quantile > 52*ms {
			t.Errorf("when all take 50ms: %+v", got)
		}
	})
}

// The default budget is a twentieth of the calls.
func TestDefaultBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hedge.Config{Delay: 10 * ms, MaxRise: -1}
		s, inner, p := server(c)
		inner.takes, inner.hedge = 20*ms, time.Hour
		for i := range uint64(2000) {
			_, _ = s.Call(t.Context(), "call")
			if got := p.Stats().Hedges; got > (i+1)/20 {
				t.Fatalf("%d hedges of %d calls", got, i+1)
			}
		}
		if got := p.Stats(); got.Hedges < 90 || got.Hedges+got.Spent < 2000 || got.Calls != 2000 {
			t.Errorf("%+v, want about 100 hedges, and no room in the budget for the other calls", got)
		}
	})
}

// A call that was denied its hedge asks again when it has taken twice as long.
func TestAsksAgainForBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retry.NewBudget(retry.BudgetConfig{Ratio: 1, MinPerSecond: -1})
		c := steady()
		c.Budget, c.Counted, c.MaxHedges = b, true, 1
		time.AfterFunc(350*ms, b.Deposit)
		inner := plays(part{takes: time.Hour}, part{takes: ms})
		p := hedge.NewPolicy(c)
		_, _ = hedge.LayerOf[string, string](p, nil)(inner).Call(t.Context(), "question")
		// Not at 50, 100, 200 ms, but at 400.
		if got := inner.starts[len(inner.starts)-1]; got != 400*ms || p.Stats().Spent != 3 {
			t.Errorf("hedged after %v, %d times denied; want 400ms, 3", got, p.Stats().Spent)
		}
	})
}

// A budget that retry and hedge share bounds the sum of what they send. To a retry
// inside a hedge each attempt is a call.
func TestBudgetSharedWithRetry(t *testing.T) {
	for _, outside := range []string{"retry", "hedge"} {
		t.Run(outside+" outside", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := retry.NewBudget(retry.BudgetConfig{Ratio: 0.2, MinPerSecond: -1})
				var attempts, calls, hedges atomic.Int64
				bottom := turret.ServiceFunc(func(ctx context.Context, _ string) (string, error) {
					attempts.Add(1)
					part{takes: 30 * ms}.wait(ctx)
					return "", errLost
				})
				r := retry.Layer[string, string](retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: b})
				h := hedge.Layer[string, string](hedge.Config{
					Delay: 10 * ms, MaxRise: -1, Budget: b, Counted: true,
					OnHedge: func(context.Context, int, time.Duration) { hedges.Add(1) },
				})
				s := turret.Stack(r, h)(bottom)
				if outside == "hedge" {
					s = turret.Stack(h, r)(bottom)
				}
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						for range 100 {
							calls.Add(1)
							_, _ = s.Call(t.Context(), "question")
						}
					})
				}
				wg.Wait()
				paying, extra := calls.Load(), attempts.Load()-calls.Load()
				if outside == "hedge" {
					paying += hedges.Load()
				}
				if hedges.Load() == 0 || hedges.Load() == extra {
					t.Errorf("%d hedges of %d more attempts, want both hedges and retries", hedges.Load(), extra)
				}
				if extra > paying/5 || extra < paying/5*9/10 {
					t.Errorf("%d retries and hedges of %d calls, want %d or a little less", extra, paying, paying/5)
				}
			})
		})
	}
}

// While the quantile is more than twice what it was a minute before, nothing is
// hedged, with a fixed delay too.
func TestPause(t *testing.T) {
	for _, c := range []hedge.Config{{Quantile: 0.5}, {Delay: 5 * ms}} {
		t.Run(fmt.Sprintf("delay %v, quantile %v", c.Delay, c.Quantile), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c.Budget, c.Window = retry.Unlimited, time.Second
				s, inner, p := server(c)
				inner.hedge = time.Hour
				// call makes calls for a while, slow ones among them, and returns
				// how many were hedged, and how many were not because of the pause.
				call := func(takes, length time.Duration) (hedges, paused uint64) {
					before := p.Stats()
					for end := time.Since(start) + length; time.Since(start) < end; {
						inner.takes = takes
						_, _ = s.Call(t.Context(), "call")
						inner.takes = takes * 11 / 10 // longer than the histogram's error
						_, _ = s.Call(t.Context(), "call")
					}
					after := p.Stats()
					return after.Hedges - before.Hedges, after.Paused - before.Paused
				}
				if hedges, paused := call(10*ms, 90*time.Second); hedges == 0 || paused > 0 {
					t.Errorf("at first: %d hedges, %d paused", hedges, paused)
				}
				if hedges, paused := call(19*ms, 30*time.Second); hedges == 0 || paused > 0 {
					t.Errorf("at 1.9 times the latency: %d hedges, %d paused", hedges, paused)
				}
				call(25*ms, 2*time.Second) // until the window knows
				if hedges, paused := call(25*ms, 25*time.Second); hedges > 0 || paused == 0 {
					t.Errorf("at 2.5 times the latency of a minute ago: %d hedges, %d paused", hedges, paused)
				}
				call(25*ms, 5*time.Second)
				if hedges, paused := call(25*ms, 30*time.Second); hedges == 0 || paused > 0 {
					t.Errorf("a minute later: %d hedges, %d paused", hedges, paused)
				}
				call(11*ms, 2*time.Second)
				if hedges, paused := call(11*ms, 30*time.Second); hedges == 0 || paused > 0 {
					t.Errorf("when it has fallen: %d hedges, %d paused", hedges, paused)
				}
			})
		})
	}
}

// A layer's state is that of the constructor call.
func TestStateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := hedge.Layer[string, string](hedge.Config{})
		a, b := l(&timed{takes: ms}), l(&timed{takes: ms})
		other := hedge.Layer[string, string](hedge.Config{})(&timed{takes: ms})
		_, _ = a.Call(t.Context(), "call")
		_, _ = b.Call(t.Context(), "call")
		if got := fmt.Sprint(a); got != fmt.Sprint(b) || got == fmt.Sprint(other) {
			t.Errorf("services of one layer print as\n%s\n%s\nanother as\n%s", a, b, other)
		}
	})
}

// A policy says when it hedges now, and why not.
func TestString(t *testing.T) {
	const counts = ": 0 calls, 0 hedges, 0 won; not sent: 0 while latency had risen, 0 over budget; budget "
	const budget = "0.05 of calls + 0/s over 10s: calls 0, retries 0, left 0, refused 0"
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			c    hedge.Config
			want string
		}{
			{hedge.Config{Budget: retry.Unlimited}, "hedge up to 1 per call, none until p95 is known (0 of 100 latencies)" + counts + "unlimited"},
			{
				hedge.Config{Delay: 50 * ms, Quantile: 0.999, MaxHedges: 3, Budget: retry.Unlimited},
				"hedge up to 3 per call, after 50ms until p99.9 is known (0 of 100 latencies)" + counts + "unlimited",
			},
			{hedge.Config{Delay: 50 * ms}, "hedge up to 1 per call, after 50ms" + counts + budget},
		} {
			if got := fmt.Sprint(hedge.NewPolicy(tt.c)); got != tt.want {
				t.Errorf("prints as %q, want %q", got, tt.want)
			}
		}
	})
}

// Once the quantile is known, a policy shows it, and what has been done with it.
func TestStringOfWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, inner, p := server(hedge.Config{MinSamples: 2, Budget: retry.Unlimited})
		inner.takes = 10 * ms
		for range 2 {
			_, _ = s.Call(t.Context(), "call")
		}
		inner.takes, inner.hedge = 50*ms, ms
		_, _ = s.Call(t.Context(), "call")
		const want = "hedge up to 1 per call, after 11.264ms (p95): 3 calls, 1 hedges, 1 won; " +
			"not sent: 0 while latency had risen, 0 over budget; budget unlimited"
		if got := p.String(); got != want {
			t.Errorf("prints as %q, want %q", got, want)
		}
		s, inner, p = server(hedge.Config{MinSamples: 1, MinDelay: time.Second, Budget: retry.Unlimited})
		inner.takes = 10 * ms
		_, _ = s.Call(t.Context(), "call")
		if got, want := p.String(), "hedge up to 1 per call, after 1s (the least; p95 is 10.24ms): 1 calls, "; !strings.HasPrefix(got, want) {
			t.Errorf("prints as %q, want it to begin with %q", got, want)
		}
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := steady()
		c.MaxHedges = 2
		p := hedge.NewPolicy(c)
		s := hedge.LayerOf[string, string](p, nil)(plays(part{takes: time.Hour}, part{takes: time.Hour}, part{takes: ms}, part{takes: ms}))
		_, _ = s.Call(t.Context(), "hedged")
		_, _ = s.Call(t.Context(), "fast")
		want := hedge.Stats{Calls: 2, Hedges: 2, Wins: 1, Losses: 1, Samples: 1, Delay: 50 * ms}
		if got := p.Stats(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		c    hedge.Config
		want string // "" for valid
	}{
		{hedge.Config{}, ""},
		{hedge.Config{Delay: 1, Quantile: 0.000001, MinSamples: 1, Window: 100 * ms, MinDelay: -1, MaxHedges: 4, MaxRise: 1}, ""},
		{hedge.Config{Quantile: 0.999999, MinSamples: 1_000_000, Window: time.Hour, MaxRise: -1}, ""},
		{hedge.Config{MaxRise: math.Inf(1), Counted: true, Budget: retry.Unlimited}, ""},
		{hedge.Config{Delay: -1}, "hedge: Delay is -1ns, must be at least 0 (0 means the Quantile)"},
		{hedge.Config{Quantile: 1}, "hedge: Quantile is 1, must be at least 0.000001 and below 1 (0 means 0.95)"},
		{hedge.Config{Quantile: -0.5}, "hedge: Quantile is -0.5, must be at least 0.000001 and below 1 (0 means 0.95)"},
		{hedge.Config{Quantile: 1e-9}, "hedge: Quantile is 1e-09, must be at least 0.000001 and below 1 (0 means 0.95)"},
		{hedge.Config{Quantile: math.NaN()}, "hedge: Quantile is NaN, must be at least 0.000001 and below 1 (0 means 0.95)"},
		{hedge.Config{MinSamples: -1}, "hedge: MinSamples is -1, must be between 1 and 1000000 (0 means 100)"},
		{hedge.Config{MinSamples: 1_000_001}, "hedge: MinSamples is 1000001, must be between 1 and 1000000 (0 means 100)"},
		{hedge.Config{Window: 99 * ms}, "hedge: Window is 99ms, must be between 100ms and 1h0m0s (0 means 30s)"},
		{hedge.Config{Window: -1}, "hedge: Window is -1ns, must be between 100ms and 1h0m0s (0 means 30s)"},
		{hedge.Config{Window: 2 * time.Hour}, "hedge: Window is 2h0m0s, must be between 100ms and 1h0m0s (0 means 30s)"},
		{hedge.Config{MaxHedges: -1}, "hedge: MaxHedges is -1, must be between 1 and 4 (0 means 1)"},
		{hedge.Config{MaxHedges: 5}, "hedge: MaxHedges is 5, must be between 1 and 4 (0 means 1)"},
		{hedge.Config{MaxRise: 0.5}, "hedge: MaxRise is 0.5, must be at least 1 (0 means 2, negative no pause)"},
		{hedge.Config{MaxRise: math.NaN()}, "hedge: MaxRise is NaN, must be at least 1 (0 means 2, negative no pause)"},
		{hedge.Config{Counted: true}, "hedge: Counted is true, must be false without a Budget, which nothing else counts in"},
	} {
		got := ""
		if err := tt.c.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.c, got, tt.want)
		}
		func() {
			defer func() {
				if err, _ := recover().(error); (err == nil) != (tt.want == "") || err != nil && err.Error() != strings.Replace(tt.want, "hedge: ", "hedge: Layer: ", 1) {
					t.Errorf("%+v: Layer panics with %v, want %q", tt.c, err, tt.want)
				}
			}()
			hedge.Layer[string, string](tt.c)
		}()
	}
}

// Many calls at once, over layers that share a policy, while others look at it.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hedge.Config{MinSamples: 20, MaxHedges: 3, Budget: retry.NewBudget(retry.BudgetConfig{Ratio: 0.5})}
		p := hedge.NewPolicy(c)
		var running atomic.Int64
		var serial atomic.Uint64
		inner := turret.ServiceFunc(func(ctx context.Context, req string) (string, error) {
			running.Add(1)
			defer running.Add(-1)
			n := serial.Add(1)
			if !(part{takes: time.Duration(n*n%97) * ms}).wait(ctx) {
				return "", ctx.Err()
			}
			if n%7 == 0 {
				return "", errLost
			}
			return "re: " + req, nil
		})
		var failed atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			s := hedge.LayerOf[string, string](p, nil)(inner)
			wg.Go(func() {
				for j := range 100 {
					req := fmt.Sprint(i, j)
					res, err := s.Call(t.Context(), req)
					switch {
					case err != nil && !errors.Is(err, errLost), err == nil && res != "re: "+req:
						t.Errorf("%s: %q, %v", req, res, err)
					case err != nil:
						failed.Add(1)
					}
					if j%10 == i%10 {
						p.Set(c)
					}
					_ = p.Stats()
				}
			})
		}
		wg.Wait()
		got := p.Stats()
		if got.Calls != 5000 || got.Hedges == 0 || got.Wins == 0 || got.Wins > got.Hedges || running.Load() != 0 {
			t.Errorf("%+v, %d running", got, running.Load())
		}
		if n := failed.Load(); n == 0 || n > 5000/7 {
			t.Errorf("%d calls failed, want some, and fewer than without hedges", n)
		}
	})
}

// A policy that is retuned keeps what it has measured and counted, and the
// functions and the budget that it has.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		s, inner, p := server(hedge.Config{
			MinSamples: 10, Budget: retry.Unlimited,
			OnHedge: func(context.Context, int, time.Duration) { told++ },
		})
		for i := range 10 {
			inner.takes = time.Duration(i+1) * 10 * ms
			_, _ = s.Call(t.Context(), "call")
		}
		if got := p.Stats(); got.Samples != 10 || got.Delay < 100*ms || got.Delay > 104*ms {
			t.Fatalf("before: %+v, want a delay of 100ms", got)
		}
		p.Set(hedge.Config{MinSamples: 10, Quantile: 0.5})
		if got := p.Stats(); got.Samples != 10 || got.Delay < 50*ms || got.Delay > 52*ms {
			t.Errorf("with a lower quantile: %+v, want a delay of 50ms", got)
		}
		p.Set(hedge.Config{MinSamples: 11, Quantile: 0.5, Delay: 7 * ms})
		if got := p.Stats(); got.Samples != 10 || got.Delay != 7*ms || got.Quantile != 0 {
			t.Errorf("with too few samples: %+v, want a delay of 7ms", got)
		}
		inner.takes, inner.hedge = 50*ms, ms
		_, _ = s.Call(t.Context(), "call")
		if got := p.Stats(); told != 1 || got.Hedges != 1 || got.Calls != 11 {
			t.Errorf("OnHedge ran %d times, and %+v", told, got)
		}
		p.Set(hedge.Config{Delay: time.Hour})
		if got := p.Stats(); got.Delay != time.Hour {
			t.Errorf("with a fixed delay: %+v", got)
		}
	})
}

func TestSetIsValidated(t *testing.T) {
	p := hedge.NewPolicy(hedge.Config{Delay: ms})
	defer func() {
		if err, _ := recover().(error); err == nil || !strings.HasPrefix(err.Error(), "hedge: Policy.Set: Delay is -1ns, ") || p.Stats().Delay != ms {
			t.Errorf("Set panics with %v", err)
		}
	}()
	p.Set(hedge.Config{Delay: -1})
}
