package shared_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
	"github.com/turret-go/turret/turrettest"
)

// take is an Engine that is a function.
type take func(ctx context.Context, n int) (int, time.Duration, error)

func (f take) Take(ctx context.Context, _ string, n int, _ limit.Rate) (int, time.Duration, error) {
	return f(ctx, n)
}

// TestIsAGateWhileAway runs the suite for gates with an engine that is away: a
// Limit whose engine answers cannot let TryEnter in before the first answer.
func TestIsAGateWhileAway(t *testing.T) {
	for away, room := range map[shared.Away]int{shared.AwayLocal: 3, shared.AwayOpen: -1, shared.AwayClosed: 0} {
		t.Run(away.String(), func(t *testing.T) {
			turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) {
				engine := take(func(context.Context, int) (int, time.Duration, error) { return 0, 0, errDown })
				l := shared.New(engine, shared.Config{
					Key: "k", Rate: limit.PerSecond(10), Away: away, Local: limit.Rate{N: 1, Per: time.Minute, Burst: 3},
				})
				_, err := l.TryEnter(context.Background())
				if err == nil {
					panic("a token that was not leased")
				}
				synctest.Wait()
				return l, room
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		l := shared.New(e, shared.Config{Key: "k", Rate: limit.Rate{N: 1, Per: time.Second, Burst: 1}, Away: shared.AwayClosed})
		enter := func() error {
			_, err := l.Enter(t.Context())
			return err
		}
		if err := enter(); err != nil {
			t.Fatalf("the first call: %v", err)
		}
		r, ok := errors.AsType[*turret.Refusal](enter())
		if !ok || r.Reason != turret.ReasonRateLimited || r.Kind != turret.KindRateLimited || !errors.Is(r, limit.ErrRate) {
			t.Fatalf("the second call: %v, want RATE_LIMITED", r)
		}
		if r.RetryAfter < 900*time.Millisecond || r.RetryAfter > time.Second {
			t.Errorf("RetryAfter is %v, want what the engine said: about a second", r.RetryAfter)
		}
		e.down.Store(true)
		time.Sleep(time.Second)
		_ = enter() // finds out
		r, ok = errors.AsType[*turret.Refusal](enter())
		if !ok || r.Reason != turret.ReasonLimitAway || r.Kind != turret.KindUnavailable || !errors.Is(r, shared.ErrAway) {
			t.Fatalf("with a dead engine: %v, want LIMIT_AWAY", r)
		}
		s := l.Stats()
		if s.Entered != 1 || s.RateLimited != 1 || s.LimitAway != 2 || s.Failed != 1 || !errors.Is(s.Err, errDown) {
			t.Errorf("Stats are %+v", s)
		}
		time.Sleep(time.Second)
	})
}

// TestCancelledWhileItWaits has a call that gives up just before, and in, the
// moment of the answer: its token serves the next call.
func TestCancelledWhileItWaits(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 5 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			l := shared.New(&engine{trip: 5 * time.Millisecond}, shared.Config{Key: "k", Rate: limit.Rate{N: 1, Per: time.Hour, Burst: 1}})
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			_, err := l.Enter(ctx)
			if err != nil && (!errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, turret.ErrNotReady)) {
				t.Errorf("after %v: %v, want an error that matches the context's and ErrNotReady", after, err)
			}
			time.Sleep(10 * time.Millisecond)
			if _, again := l.TryEnter(t.Context()); (again == nil) == (err == nil) {
				t.Errorf("after %v: the call had %v, the next one %v, want one token in all", after, err, again)
			}
			time.Sleep(time.Second)
		})
	}
}

func TestUnusedTokenComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := shared.New(&engine{trip: time.Millisecond}, shared.Config{Key: "k", Rate: limit.Rate{N: 1, Per: time.Hour, Burst: 1}})
		for range 3 {
			ticket, err := l.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			l.Leave(ticket, turret.Unused)
		}
		ticket, err := l.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Leave(ticket, turret.Success)
		if _, err := l.Enter(t.Context()); err == nil {
			t.Error("a token that was used came back")
		}
		if s := l.Stats(); s.Returned != 3 {
			t.Errorf("%d tokens came back, want 3", s.Returned)
		}
	})
}

// TestEnginesThatMisbehave has engines that break their contract: nothing of it
// reaches a caller but a refusal.
func TestEnginesThatMisbehave(t *testing.T) {
	for name, e := range map[string]take{
		"panics":      func(context.Context, int) (int, time.Duration, error) { panic("a bug") },
		"owes":        func(context.Context, int) (int, time.Duration, error) { return -5, -time.Hour, nil },
		"gives more":  func(_ context.Context, n int) (int, time.Duration, error) { return 1000 * n, 0, nil },
		"never again": func(context.Context, int) (int, time.Duration, error) { return 0, 1 << 62, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := shared.New(e, shared.Config{Key: "k", Rate: limit.PerSecond(100), Away: shared.AwayClosed})
				for range 100 {
					_, err := l.Enter(t.Context())
					if r, ok := errors.AsType[*turret.Refusal](err); err != nil && (!ok || r.RetryAfter > time.Hour || r.RetryAfter < 0) {
						t.Fatalf("Enter: %v", err)
					}
					time.Sleep(time.Millisecond)
				}
				s := l.Stats()
				if s.Tokens > 200 || s.Granted > 100*s.Asked {
					t.Errorf("Stats are %+v, want no more than was asked for", s)
				}
				if name == "panics" && (s.Err == nil || !strings.Contains(s.Err.Error(), "a bug")) {
					t.Errorf("the error is %v, want the text of the panic", s.Err)
				}
			})
		})
	}
}

// TestEngineThatExits has an engine that ends the goroutine that asks it, once: it is
// away, and is asked again.
func TestEngineThatExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		e := take(func(_ context.Context, n int) (int, time.Duration, error) {
			if asked++; asked == 1 {
				runtime.Goexit()
			}
			return n, 0, nil
		})
		l := shared.New(e, shared.Config{Key: "k", Rate: limit.PerSecond(100), Away: shared.AwayClosed})
		if _, err := l.Enter(t.Context()); !errors.Is(err, shared.ErrAway) {
			t.Errorf("Enter: %v, want ErrAway", err)
		}
		if s := l.Stats(); s.Failed != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "exited") {
			t.Errorf("Stats are %+v, want that the engine has exited", s)
		}
		time.Sleep(time.Second)
		_, _ = l.Enter(t.Context()) // asks again
		synctest.Wait()
		if s := l.Stats(); s.Away {
			t.Errorf("Stats are %+v, want that the engine is back", s)
		}
	})
}

// TestTokensThatNeverExpire has the longest Expire that there is, as a caller may
// mean by "never": tokens do not expire at once.
func TestTokensThatNeverExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		l := shared.New(e, shared.Config{Key: "k", Rate: limit.Rate{N: 1, Per: time.Second, Burst: 1}, Expire: math.MaxInt64})
		time.Sleep(time.Second)
		if _, err := l.Enter(t.Context()); err != nil {
			t.Errorf("Enter: %v, want the token that was leased", err)
		}
		if s := l.Stats(); s.Asked != 1 || s.Entered != 1 {
			t.Errorf("Stats are %+v, want one question and one call", s)
		}
	})
}

func TestReadyWaitsForTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		l := shared.New(e, shared.Config{Key: "k", Rate: limit.Rate{N: 1, Per: time.Second, Burst: 1}, Away: shared.AwayClosed})
		if err := l.Ready(t.Context()); err != nil {
			t.Fatalf("Ready before the first call: %v", err)
		}
		_, _ = l.Enter(t.Context())
		_, _ = l.Enter(t.Context())
		start := time.Now()
		if err := l.Ready(t.Context()); err != nil || time.Since(start) < 900*time.Millisecond {
			t.Errorf("Ready: %v after %v, want nil when the engine has more", err, time.Since(start))
		}
		e.down.Store(true)
		_, _ = l.Enter(t.Context())
		time.AfterFunc(3*time.Second, func() { e.down.Store(false) })
		start = time.Now()
		if err := l.Ready(t.Context()); err != nil || time.Since(start) < 3*time.Second || time.Since(start) > 4*time.Second {
			t.Errorf("Ready: %v after %v, want nil within a Probe of the engine's return", err, time.Since(start))
		}
		time.Sleep(time.Second)
	})
}

// TestReadyAsksAnEngineThatIsAway holds that a slow local rate does not put off
// the question that ends the absence.
func TestReadyAsksAnEngineThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		e.down.Store(true)
		l := shared.New(e, shared.Config{
			Key: "k", Rate: limit.PerSecond(10), Local: limit.Rate{N: 1, Per: time.Hour},
		})
		for range 2 { // the second is one more than the local limit has
			_, _ = l.Enter(t.Context())
		}
		time.AfterFunc(3*time.Second, func() { e.down.Store(false) })
		start := time.Now()
		if err := l.Ready(t.Context()); err != nil || time.Since(start) > 4*time.Second {
			t.Errorf("Ready: %v after %v, want nil within a Probe of the engine's return", err, time.Since(start))
		}
		time.Sleep(time.Second)
	})
}

func TestEnterAllocatesNothing(t *testing.T) {
	engine := take(func(_ context.Context, n int) (int, time.Duration, error) { return n, 0, nil })
	l := shared.New(engine, shared.Config{
		Key: "k", Rate: limit.PerSecond(1_000_000), Expire: time.Hour, Horizon: time.Minute, MaxLease: 1_000_000,
		Timeout: time.Hour, Wait: time.Hour, // no answer is late, however long the machine stands still
	})
	// One large lease, of which all calls below take.
	for l.Stats().Tokens < 2000 {
		ticket, err := l.Enter(t.Context())
		if err == nil {
			l.Leave(ticket, turret.Success)
		}
	}
	ctx := context.Background()
	allocs := testing.AllocsPerRun(500, func() {
		ticket, err := l.Enter(ctx)
		if err != nil {
			t.Error(err)
		}
		l.Leave(ticket, turret.Success)
	})
	if allocs != 0 {
		t.Errorf("a call with a leased token allocates %v times, want 0", allocs)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := shared.Config{Key: "k", Rate: limit.PerSecond(1)}
	for want, change := range map[string]func(*shared.Config){
		`shared: Key is "", must be not empty`:                                 func(c *shared.Config) { c.Key = "" },
		`shared: Rate.N is 0, must be at least 1`:                              func(c *shared.Config) { c.Rate.N = 0 },
		`shared: Horizon is 1ms, must be 0 (100ms), or between 10ms and 1m`:    func(c *shared.Config) { c.Horizon = time.Millisecond },
		`shared: Horizon is 1h0m0s, must be 0 (100ms), or between 10ms and 1m`: func(c *shared.Config) { c.Horizon = time.Hour },
		`shared: MaxLease is -1, must be 0 (1000), or at least 1`:              func(c *shared.Config) { c.MaxLease = -1 },
		`shared: Expire is 50ms, must be 0 (1s), or at least Horizon (100ms)`:  func(c *shared.Config) { c.Expire = 50 * time.Millisecond },
		`shared: Timeout is 1µs, must be 0 (50ms), or at least 1ms`:            func(c *shared.Config) { c.Timeout = time.Microsecond },
		`shared: Probe is -1s, must be 0 (500ms), or at least 1ms`:             func(c *shared.Config) { c.Probe = -time.Second },
		`shared: Away is Away(9), must be AwayLocal, AwayOpen or AwayClosed`:   func(c *shared.Config) { c.Away = 9 },
		`shared: Local.Per is 0s, must be above 0`:                             func(c *shared.Config) { c.Local.N = 1 },
		`shared: Clients is -1, must be 0 (not known) or more`:                 func(c *shared.Config) { c.Clients = -1 },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || err.Error() != want {
			t.Errorf("Validate of %+v: %v, want %s", c, err, want)
		}
		if got, ok := panicOf(func() { shared.New(&engine{}, c) }).(error); !ok || !errors.As(got, new(*turret.FieldError)) ||
			got.Error() != strings.Replace(want, "shared: ", "shared: New: ", 1) {
			t.Errorf("New panics with %v, want the error of Validate", got)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if p := fmt.Sprint(panicOf(func() { shared.New(nil, good) })); p != "shared: New: engine is nil, must be an Engine" {
		t.Errorf("New without an engine panics with %s", p)
	}
}

func panicOf(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{trip: time.Millisecond}
		l := shared.New(e, thousand)
		_, _ = l.Enter(t.Context())
		e.down.Store(true)
		time.Sleep(2 * time.Second)
		_, _ = l.Enter(t.Context())
		node := turret.Describe(l, 0)
		if node.Kind != "shared_limit" || node.Title != "shared limit 1000 per 1s, burst 100" {
			t.Errorf("described as %q, %q", node.Kind, node.Title)
		}
		for _, f := range node.Figures {
			if f.Name == "engine" && f.Text != "away" {
				t.Errorf("the engine is %q, want away", f.Text)
			}
		}
		const want = `shared limit "k" 1000 per 1s, burst 100: 0 tokens, 2 entered, 0 refused, 2 questions, engine away for 0s (local): connection refused`
		if got := l.String(); got != want {
			t.Errorf("String is\n%s, want\n%s", got, want)
		}
	})
}
