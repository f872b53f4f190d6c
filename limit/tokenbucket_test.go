package limit_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// drain takes all tokens that are there and returns how many those were.
func drain(t *testing.T, g *limit.TokenBucket) (n int) {
	t.Helper()
	for g.Stats().Tokens > 0 { // a refusal would take the next token's time
		if _, err := g.TryEnter(t.Context()); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestTokenBucketRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := limit.Rate{N: 1, Per: time.Second, Burst: 1}
		g := limit.NewTokenBucket(r, limit.Queue{})
		drain(t, g)
		_, err := g.Enter(t.Context())
		wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED", limit.ErrRate)

		g = limit.NewTokenBucket(r, limit.Queue{Max: 2, Timeout: 1500 * time.Millisecond})
		drain(t, g)
		wait := []*call{enter(t, g), enter(t, g)}
		_, err = g.TryEnter(t.Context())
		after := wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED", limit.ErrRate)
		if after != 3*time.Second {
			t.Errorf("retry after %v, want 3s, behind the two in line", after)
		}
		_, err = g.Enter(t.Context())
		after = wantRefusal(t, err, turret.KindOverloaded, "QUEUE_FULL", limit.ErrFull, limit.ErrQueueFull)
		if after != 4*time.Second {
			t.Errorf("retry after %v, want 4s, behind the call refused before", after)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantIn(t, 1, wait...)
		after = wantRefusal(t, wait[1].err, turret.KindOverloaded, "QUEUE_TIMEOUT", limit.ErrQueueTimeout)
		if wait[1].at != 1500*time.Millisecond || after != 3500*time.Millisecond {
			t.Errorf("refused after %v, retry after %v, want 1.5s and 3.5s, behind both", wait[1].at, after)
		}
		want := limit.TokenBucketStats{Rate: r, Tokens: 1, Entered: 2, RateLimited: 1, QueueFull: 1, QueueTimeout: 1, Waited: 2500 * time.Millisecond}
		if got := g.Stats(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// A caller that comes back when the refusal says gets in, and not before.
func TestTokenBucketRetryAfterIsExact(t *testing.T) {
	for _, r := range []limit.Rate{{N: 3, Per: time.Second, Burst: 1}, {N: 7, Per: 10, Burst: 2}, {N: 1, Per: time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			for i := range 50 {
				g := limit.NewTokenBucket(r, limit.Queue{})
				drain(t, g)
				time.Sleep(time.Duration(i) * r.Per / time.Duration(100*r.N)) // into the next token
				_, err := g.Enter(t.Context())
				after := wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED")
				time.Sleep(after - time.Nanosecond)
				if _, err := g.Enter(t.Context()); err == nil {
					t.Fatalf("%v: a token 1ns before the %v that the refusal said", r, after)
				}
				time.Sleep(time.Nanosecond)
				if _, err := g.Enter(t.Context()); err != nil {
					t.Fatalf("%v: no token after the %v that the refusal said: %v", r, after, err)
				}
			}
		})
	}
}

func TestTokenBucketBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			rate limit.Rate
			want int
		}{
			{limit.PerSecond(10), 10},
			{limit.Rate{N: 10, Per: time.Second, Burst: 3}, 3},
			{limit.Rate{N: 10, Per: time.Second, Burst: 30}, 30},
		} {
			g := limit.NewTokenBucket(tt.rate, limit.Queue{})
			if got := drain(t, g); got != tt.want {
				t.Errorf("%v: %d at once, want %d", tt.rate, got, tt.want)
			}
			time.Sleep(100 * 365 * 24 * time.Hour) // what a century earns is the burst
			if got := drain(t, g); got != tt.want {
				t.Errorf("%v: %d at once after a century, want %d", tt.rate, got, tt.want)
			}
		}
	})
}

// Where a fixed window lets N-1 calls start at its end and N at the start of the
// next one, a bucket spreads them.
func TestTokenBucketHasNoWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		g := limit.NewTokenBucket(limit.PerSecond(n), limit.Queue{})
		got := 0
		for _, pause := range []time.Duration{0, 999 * time.Millisecond, time.Millisecond, time.Millisecond} {
			time.Sleep(pause)
			got += drain(t, g)
		}
		// n at once, then what came in 1,001 ms.
		if want := n + n; got != want {
			t.Errorf("%d calls started within 1,001ms, want %d", got, want)
		}
	})
}

func TestTokenBucketServesTheLineOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewTokenBucket(limit.Rate{N: 3, Per: time.Second, Burst: 1}, limit.Queue{Max: limit.Unbounded})
		drain(t, g)
		var line []*call
		for range 3000 {
			line = append(line, enter(t, g))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for i, c := range line {
			// The i-th token, on the first nanosecond on which all of it is there.
			want := (time.Duration(i+1)*time.Second + 2) / 3
			if !c.in() || c.at != want {
				t.Fatalf("call %d: in %t after %v, want %v", i, c.in(), c.at, want)
			}
		}
	})
}

func TestTokenBucketUnusedTokenGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour, Burst: 2}, limit.Queue{Max: limit.Unbounded})
		drain(t, g)
		line := []*call{enter(t, g), enter(t, g)}
		for o := range turret.Unused {
			g.Leave(turret.Ticket{}, o)
			synctest.Wait()
			wantIn(t, 0, line...) // a token is spent, whatever came of the call
		}
		g.Leave(turret.Ticket{}, turret.Unused)
		synctest.Wait()
		wantIn(t, 1, line...)
		time.Sleep(time.Hour) // the next one comes when it would have come
		synctest.Wait()
		wantIn(t, 2, line...)
		if line[1].at != time.Hour {
			t.Errorf("the second one waited %v, want 1h", line[1].at)
		}
		for range 5 {
			g.Leave(turret.Ticket{}, turret.Unused)
		}
		if got := drain(t, g); got != 2 {
			t.Errorf("%d tokens, want no more than the burst of 2", got)
		}
		if got := g.Stats().Returned; got != 6 {
			t.Errorf("%d returned, want 6", got)
		}
	})
}

func TestTokenBucketCancelledHeadHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{Max: limit.Unbounded})
		drain(t, g)
		line := []*call{enter(t, g), enter(t, g), enter(t, g)}
		time.Sleep(900 * time.Millisecond)
		line[0].cancel()
		time.Sleep(time.Hour)
		synctest.Wait()
		for i, want := range []time.Duration{900 * time.Millisecond, time.Second, 2 * time.Second} {
			if line[i].at != want {
				t.Errorf("call %d came back after %v, want %v", i, line[i].at, want)
			}
		}
		if !errors.Is(line[0].err, context.Canceled) || line[1].err != nil || line[2].err != nil {
			t.Errorf("errors %v, %v, %v, want only the first one to be cancelled", line[0].err, line[1].err, line[2].err)
		}
	})
}

// The token comes, the head gives up, its time in line is over and a newcomer
// tries, all in one nanosecond: the token is the line's, and none is lost.
func TestTokenBucketEverythingInOneInstant(t *testing.T) {
	for range 50 { // timers of one instant fire in any order
		synctest.Test(t, func(t *testing.T) {
			g := limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{Max: limit.Unbounded, Timeout: time.Second})
			drain(t, g)
			first, second := enter(t, g), enter(t, g)
			time.AfterFunc(time.Second, first.cancel)
			newcomer := start(t, func(ctx context.Context) error {
				time.Sleep(time.Second)
				_, err := g.TryEnter(ctx)
				return err
			})
			time.Sleep(time.Second)
			synctest.Wait()
			// The first one has the token; or it gave up, and the second one has it, or
			// that one's time was over before: then the new call has it, or none.
			got := 0
			for _, c := range []*call{first, second, newcomer} {
				if !c.over.Load() {
					t.Fatal("somebody still waits")
				}
				if c.err == nil {
					got++
				}
			}
			if tokens := g.Stats().Tokens; got+tokens != 1 {
				t.Fatalf("%d calls are in and %d tokens left, want one of either", got, tokens)
			}
		})
	}
}

func TestTokenBucketTokenAndTimeoutInOneInstant(t *testing.T) {
	for range 20 { // timers of one instant fire in any order
		synctest.Test(t, func(t *testing.T) {
			g := limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{Max: limit.Unbounded, Timeout: time.Second})
			drain(t, g)
			line := []*call{enter(t, g), enter(t, g)}
			time.Sleep(time.Second)
			synctest.Wait()
			wantIn(t, 1, line...) // a token that comes in the last instant is in time
			if !errors.Is(line[1].err, limit.ErrQueueTimeout) {
				t.Errorf("got %v, want ErrQueueTimeout", line[1].err)
			}
		})
	}
}

func TestTokenBucketTryDoesNotOvertakeATokenThatIsDue(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			g := limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{Max: limit.Unbounded})
			drain(t, g)
			tried := start(t, func(ctx context.Context) error {
				time.Sleep(time.Second)
				_, err := g.TryEnter(ctx)
				return err
			})
			head := enter(t, g)
			time.Sleep(time.Second)
			synctest.Wait()
			wantIn(t, 1, head)
			wantRefusal(t, tried.err, turret.KindRateLimited, "RATE_LIMITED", limit.ErrRate)
		})
	}
}

func TestTokenBucketReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Second, Burst: 1}, limit.Queue{Max: limit.Unbounded})
		drain(t, g)
		polls := []*call{start(t, g.Ready), start(t, g.Ready)}
		head := enter(t, g)
		time.Sleep(time.Hour)
		synctest.Wait()
		wantIn(t, 2, polls...)
		if head.at != time.Second || polls[0].at != 2*time.Second || polls[1].at != 2*time.Second {
			t.Errorf("Enter came back after %v, Ready after %v and %v; want 1s, and 2s twice", head.at, polls[0].at, polls[1].at)
		}
		if got := drain(t, g); got != 1 {
			t.Errorf("%d tokens, want the one that Ready saw", got)
		}
	})
}

func TestTokenBucketRetuned(t *testing.T) {
	tests := map[string]struct {
		rate limit.Rate
		want []time.Duration // when the line gets in; the rate changes after 500ms
	}{
		"faster": {limit.PerSecond(10), []time.Duration{550 * time.Millisecond, 650 * time.Millisecond, 750 * time.Millisecond}},
		"slower": {limit.Rate{N: 1, Per: 4 * time.Second}, []time.Duration{2500 * time.Millisecond, 6500 * time.Millisecond, 10500 * time.Millisecond}},
		"burst":  {limit.Rate{N: 1, Per: time.Second, Burst: 10}, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{Max: limit.Unbounded})
				drain(t, g)
				line := []*call{enter(t, g), enter(t, g), enter(t, g)}
				time.Sleep(500 * time.Millisecond) // half a token is there, and stays
				g.SetRate(tt.rate)
				time.Sleep(time.Hour)
				synctest.Wait()
				for i, want := range tt.want {
					if !line[i].in() || line[i].at != want {
						t.Errorf("call %d: in %t after %v, want %v", i, line[i].in(), line[i].at, want)
					}
				}
				if got := g.Stats().Rate; got != tt.rate {
					t.Errorf("rate %v, want %v", got, tt.rate)
				}
			})
		})
	}
}

func TestTokenBucketRetunedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewTokenBucket(limit.PerSecond(10), limit.Queue{})
		g.SetRate(limit.PerSecond(3))
		if got := drain(t, g); got != 3 {
			t.Errorf("%d tokens after the burst went from 10 to 3, want 3", got)
		}
		g.SetRate(limit.PerSecond(100))
		if got := drain(t, g); got != 0 {
			t.Errorf("%d tokens at once after the burst was raised, want them to come with time", got)
		}
	})
}

func TestTokenBucketAtTheEdgesOfNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rare := limit.NewTokenBucket(limit.Rate{N: 1, Per: math.MaxInt64, Burst: 1}, limit.Queue{Max: limit.Unbounded})
		drain(t, rare)
		waiting := []*call{enter(t, rare), enter(t, rare)}
		_, err := rare.TryEnter(t.Context())
		if got := wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED"); got != math.MaxInt64 {
			t.Errorf("retry after %v, want the longest duration there is", got)
		}
		time.Sleep(200 * 365 * 24 * time.Hour)
		synctest.Wait()
		wantIn(t, 0, waiting...)

		often := limit.NewTokenBucket(limit.Rate{N: math.MaxInt, Per: 1, Burst: math.MaxInt}, limit.Queue{})
		for range 100 {
			if _, err := often.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if got := often.Stats().Tokens; got != math.MaxInt {
			t.Errorf("%d tokens, want all of them", got)
		}
	})
}

func TestTokenBucketInvalid(t *testing.T) {
	wantPanic(t, "limit: NewTokenBucket: Rate.N is 0, must be at least 1", func() { limit.NewTokenBucket(limit.Rate{}, limit.Queue{}) })
	wantPanic(t, "limit: NewTokenBucket: Queue.Timeout is -1s, must be at least 0 (0 means no bound)", func() {
		limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{Timeout: -time.Second})
	})
	g := limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{})
	wantPanic(t, "limit: TokenBucket.SetRate: Rate.N is -1, must be at least 1", func() { g.SetRate(limit.PerSecond(-1)) })
	if got := g.Stats().Rate; got != limit.PerSecond(1) {
		t.Errorf("rate %v, want it to be as it was", got)
	}
}

func TestTokenBucketAllocations(t *testing.T) {
	ctx := t.Context()
	g := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour, Burst: math.MaxInt32}, limit.Queue{Max: limit.Unbounded})
	service := turret.Gated[int, int](g, nil)(double)
	empty := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour, Burst: 1}, limit.Queue{})
	_, _ = empty.Enter(ctx)
	refusing := turret.Gated[int, int](empty, nil)(double)
	for name, tt := range map[string]struct {
		want float64
		f    func()
	}{
		"Enter and Leave": {0, func() { ticket, _ := g.Enter(ctx); g.Leave(ticket, turret.Success) }},
		"Enter, unused":   {0, func() { ticket, _ := g.Enter(ctx); g.Leave(ticket, turret.Unused) }},
		"TryEnter":        {0, func() { _, _ = g.TryEnter(ctx) }},
		"Ready":           {0, func() { _ = g.Ready(ctx) }},
		"a call":          {0, func() { _, _ = service.Call(ctx, 1) }},
		"not ready":       {0, func() { _ = turret.ReadyNow(refusing) }},
		"a refusal":       {1, func() { _, _ = refusing.Call(ctx, 1) }}, // it says when to come back
	} {
		if got := testing.AllocsPerRun(100, tt.f); got != tt.want {
			t.Errorf("%s: %v allocations, want %v", name, got, tt.want)
		}
	}
}

// Calls that are refused at the same time and come back after RetryAfter find a
// token each: there are as many refusals as calls too many.
func TestRefusedCallsDoNotComeBackTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 40
		g := limit.NewTokenBucket(limit.Rate{N: 40, Per: time.Second, Burst: 1}, limit.Queue{})
		var refused atomic.Int64
		var all sync.WaitGroup
		for range calls {
			all.Go(func() {
				for {
					_, err := g.TryEnter(t.Context())
					refusal, ok := errors.AsType[*turret.Refusal](err)
					if !ok {
						return
					}
					refused.Add(1)
					time.Sleep(refusal.RetryAfter)
				}
			})
		}
		all.Wait()
		if got := refused.Load(); got != calls-1 {
			t.Errorf("%d refusals of %d calls, want %d", got, calls, calls-1)
		}
	})
}

// Promises that no call comes back for do not keep later calls away.
func TestPromisesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for rate, longest := range map[limit.Rate]time.Duration{
			{N: 1000, Per: time.Second, Burst: 1}: time.Second,
			{N: 1, Per: time.Minute, Burst: 1}:    16 * time.Minute,
		} {
			g := limit.NewTokenBucket(rate, limit.Queue{})
			_, _ = g.TryEnter(t.Context())
			for range 10_000 {
				_, err := g.TryEnter(t.Context())
				if got := wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED"); got <= 0 || got > longest {
					t.Fatalf("%v: told to come back after %v, want at most %v", rate, got, longest)
				}
			}
			time.Sleep(longest)
			_, _ = g.TryEnter(t.Context())
			_, err := g.TryEnter(t.Context())
			if got, want := wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED"), rate.Per/time.Duration(rate.N); got != want {
				t.Errorf("%v: after a pause told to come back after %v, want %v", rate, got, want)
			}
		}
	})
}

// A call that was promised a token and takes it in time leaves the promises made
// to others as they are.
func TestPromisesOutlastTheFirstTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Second, Burst: 1}, limit.Queue{})
		drain(t, g)
		refused := func() time.Duration {
			_, err := g.TryEnter(t.Context())
			return wantRefusal(t, err, turret.KindRateLimited, "RATE_LIMITED")
		}
		for n := range 4 {
			if got, want := refused(), time.Duration(n+1)*time.Second; got != want {
				t.Errorf("refusal %d: come back after %v, want %v", n, got, want)
			}
		}
		time.Sleep(time.Second)
		if got := drain(t, g); got != 1 {
			t.Fatalf("%d tokens after a second, want 1", got)
		}
		if got := refused(); got != 4*time.Second {
			t.Errorf("come back after %v, want 4s: three tokens are promised", got)
		}
	})
}
