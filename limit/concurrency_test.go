package limit_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// A call is an Enter, or a Ready, on a goroutine of its own.
type call struct {
	over   atomic.Bool // set after the fields below
	err    error
	at     time.Duration // when it came back, after it was started
	cancel context.CancelFunc
}

func (c *call) in() bool { return c.over.Load() && c.err == nil }

// enter starts a call and waits until it is in, refused, or in line.
func enter(t *testing.T, g turret.Gate) *call {
	return start(t, entering(g))
}

func entering(g turret.Gate) func(context.Context) error {
	return func(ctx context.Context) error { _, err := g.Enter(ctx); return err }
}

func start(t *testing.T, f func(ctx context.Context) error) *call {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c := startIn(ctx, f)
	c.cancel = cancel
	return c
}

func startIn(ctx context.Context, f func(ctx context.Context) error) *call {
	c := &call{}
	began := time.Now()
	go func() {
		c.err = f(ctx)
		c.at = time.Since(began)
		c.over.Store(true)
	}()
	synctest.Wait()
	return c
}

// wantIn fails the test unless exactly the first n of the calls are in.
func wantIn(t *testing.T, n int, calls ...*call) {
	t.Helper()
	for i, c := range calls {
		if c.in() != (i < n) {
			t.Fatalf("call %d is in: %t; want the first %d of %d to be", i, c.in(), n, len(calls))
		}
	}
}

// wantRefusal fails the test unless err is a refusal with this reason, and
// stands for these errors. It returns when to come back.
func wantRefusal(t *testing.T, err error, kind turret.Kind, reason string, is ...error) (retryAfter time.Duration) {
	t.Helper()
	refusal, ok := errors.AsType[*turret.Refusal](err)
	if !ok || refusal.Kind != kind || refusal.Layer != "limit" || refusal.Reason != reason {
		t.Fatalf("got %#v, want a refusal %v %s", err, kind, reason)
	}
	for _, target := range append(is, turret.ErrNotReady) {
		if !errors.Is(err, target) {
			t.Errorf("%v does not match %q", err, target)
		}
	}
	return refusal.RetryAfter
}

func TestConcurrencyRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := limit.NewConcurrency(0, limit.Queue{})
		_, err := none.Enter(t.Context())
		wantRefusal(t, err, turret.KindOverloaded, "LIMIT_FULL", limit.ErrFull)
		_, again := none.TryEnter(t.Context())
		if err != again { //nolint:errorlint // the same refusal, so that refusing costs nothing
			t.Errorf("two refusals: %p and %p, want the same one", err, again)
		}

		g := limit.NewConcurrency(0, limit.Queue{Max: 1, Timeout: time.Minute})
		waiting := enter(t, g)
		_, err = g.TryEnter(t.Context())
		wantRefusal(t, err, turret.KindOverloaded, "LIMIT_FULL", limit.ErrFull)
		_, err = g.Enter(t.Context())
		wantRefusal(t, err, turret.KindOverloaded, "QUEUE_FULL", limit.ErrFull, limit.ErrQueueFull)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantRefusal(t, waiting.err, turret.KindOverloaded, "QUEUE_TIMEOUT", limit.ErrQueueTimeout)
		if errors.Is(waiting.err, limit.ErrFull) {
			t.Error("the refusal after a wait matches ErrFull")
		}
		if want := (limit.ConcurrencyStats{Full: 1, QueueFull: 1, QueueTimeout: 1, Waited: time.Minute}); g.Stats() != want {
			t.Errorf("got %+v, want %+v", g.Stats(), want)
		}
	})
}

func TestConcurrencyTimeoutInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded, Timeout: time.Second})
		enter(t, g)
		first := enter(t, g)
		time.Sleep(600 * time.Millisecond)
		second := enter(t, g)
		time.Sleep(399 * time.Millisecond)
		synctest.Wait()
		if first.over.Load() {
			t.Fatal("a call came back after 999ms, want it to wait for a second")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if !errors.Is(first.err, limit.ErrQueueTimeout) || first.at != time.Second {
			t.Errorf("after %v: %v, want ErrQueueTimeout after 1s", first.at, first.err)
		}
		// A later call keeps its place, and its own time.
		g.Leave(turret.Ticket{}, turret.Success)
		synctest.Wait()
		wantIn(t, 1, second)
		time.Sleep(time.Hour)
		if s := g.Stats(); s.InFlight != 1 || s.Waiting != 0 {
			t.Errorf("%v, want one inside and nobody in line", g)
		}
	})
}

func TestConcurrencyDeadlineInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewConcurrency(0, limit.Queue{Max: limit.Unbounded})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := g.Enter(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("got %v, want DeadlineExceeded and ErrNotReady", err)
		}
		if _, refused := errors.AsType[*turret.Refusal](err); refused {
			t.Error("the caller's own deadline is a refusal")
		}
		if got := g.Stats(); got.Cancelled != 1 || got.Waiting != 0 {
			t.Errorf("%+v, want one cancelled and nobody in line", got)
		}
	})
}

// A caller that gives up in the instant in which it gets room does not keep it: its
// call could only fail.
func TestConcurrencyCancelledAsRoomComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
		for range 20 {
			enter(t, g)
			ctx := &unnoticed{Context: t.Context()}
			first := startIn(ctx, entering(g))
			second := enter(t, g)
			ctx.ended.Store(true)
			g.Leave(turret.Ticket{}, turret.Success)
			synctest.Wait()
			if !errors.Is(first.err, context.Canceled) || !second.in() {
				t.Fatalf("first: %v, second is in: %t; want the room to go on to the second", first.err, second.in())
			}
			g.Leave(turret.Ticket{}, turret.Success)
		}
		if s := g.Stats(); s.InFlight != 0 || s.Entered != 40 || s.Cancelled != 20 {
			t.Errorf("%+v, want 40 entered, 20 cancelled, nobody inside", s)
		}
	})
}

// unnoticed is a context whose end wakes no goroutine: a caller that also waits for
// room always sees the room first.
type unnoticed struct {
	context.Context

	ended atomic.Bool
}

func (*unnoticed) Done() <-chan struct{} { return nil }

func (u *unnoticed) Err() error {
	if u.ended.Load() {
		return context.Canceled
	}
	return nil
}

func TestConcurrencyRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewConcurrency(0, limit.Queue{Max: limit.Unbounded})
		poll := start(t, g.Ready)
		line := []*call{enter(t, g), enter(t, g), enter(t, g), enter(t, g)}
		for _, tt := range []struct{ limit, in int }{{1, 1}, {1, 1}, {3, 3}} {
			g.SetMax(tt.limit)
			synctest.Wait()
			wantIn(t, tt.in, line...)
			if poll.over.Load() {
				t.Errorf("limit %d: Ready came back while somebody is in line", tt.limit)
			}
		}
		g.SetMax(5)
		synctest.Wait()
		wantIn(t, 4, line...)
		wantIn(t, 1, poll)
	})
}

func TestConcurrencyLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewConcurrency(3, limit.Queue{Max: limit.Unbounded})
		wantIn(t, 3, enter(t, g), enter(t, g), enter(t, g))
		g.SetMax(1)
		if s := g.Stats(); s.Max != 1 || s.InFlight != 3 {
			t.Errorf("%v, want 3 of 1 in flight: nobody is thrown out", g)
		}
		line := []*call{enter(t, g), enter(t, g)}
		for _, want := range []int{0, 0, 1, 2} { // leaving 2, 1, 0 of the first ones, then one of the line
			if err := turret.ReadyNow(turret.Gated[int, int](g, nil)(double)); err == nil {
				t.Error("ready, although the limit was lowered")
			}
			g.Leave(turret.Ticket{}, turret.Success)
			synctest.Wait()
			wantIn(t, want, line...)
		}
		g.SetMax(0)
		g.Leave(turret.Ticket{}, turret.Success)
		if _, err := g.TryEnter(t.Context()); !errors.Is(err, limit.ErrFull) {
			t.Errorf("limit 0: %v, want ErrFull", err)
		}
	})
}

var double = turret.ServiceFunc(func(_ context.Context, n int) (int, error) { return 2 * n, nil })

func TestConcurrencyWithoutBound(t *testing.T) {
	g := limit.NewConcurrency(math.MaxInt, limit.Queue{})
	for range 1000 {
		if _, err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.SetMax(1000)
	if _, err := g.Enter(t.Context()); !errors.Is(err, limit.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}

func TestConcurrencyLeaveWithoutEnter(t *testing.T) {
	g := limit.NewConcurrency(1, limit.Queue{})
	wantPanic(t, "limit: Concurrency.Leave: more calls left than entered", func() {
		g.Leave(turret.Ticket{}, turret.Success)
	})
	if s := g.Stats(); s.InFlight != 0 {
		t.Errorf("%v, want nobody inside", g)
	}
	if _, err := g.Enter(t.Context()); err != nil {
		t.Errorf("Enter: %v, want the gate to work on", err)
	}
}

func TestConcurrencyInvalid(t *testing.T) {
	wantPanic(t, "limit: NewConcurrency: limit is -1, must be at least 0", func() { limit.NewConcurrency(-1, limit.Queue{}) })
	wantPanic(t, "limit: NewConcurrency: Queue.Max is -2, must be Unbounded (-1) or at least 0", func() { limit.NewConcurrency(1, limit.Queue{Max: -2}) })
	g := limit.NewConcurrency(1, limit.Queue{})
	wantPanic(t, "limit: Concurrency.SetMax: limit is -1, must be at least 0", func() { g.SetMax(-1) })
	if _, err := g.Enter(t.Context()); err != nil {
		t.Errorf("Enter: %v, want the limit to be as it was", err)
	}
}

// TestConcurrencyRetunedUnderLoad changes the limit while calls come, wait, give
// up and leave. No goroutine sleeps, so a lost wake-up shows as a deadlock.
func TestConcurrencyRetunedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4
		g := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
		var inside atomic.Int64
		var callers, tuner sync.WaitGroup
		var over atomic.Bool
		for i := range 8 {
			callers.Go(func() {
				random := rand.New(rand.NewPCG(3, uint64(i)))
				for range 300 {
					dropIn(t, g, random, &inside, most)
				}
			})
		}
		tuner.Go(func() {
			random := rand.New(rand.NewPCG(4, 4))
			for !over.Load() {
				g.SetMax(1 + random.IntN(most))
				runtime.Gosched()
			}
		})
		callers.Wait()
		over.Store(true)
		tuner.Wait()
		s := g.Stats()
		if s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("%v, want nobody inside or in line", g)
		}
		g.SetMax(most)
		for range most {
			if _, err := g.TryEnter(t.Context()); err != nil {
				t.Errorf("room was lost: %v", err)
			}
		}
	})
}

// dropIn enters, stays for a moment and leaves; half of the visitors give up if
// they wait for long.
func dropIn(t *testing.T, g turret.Gate, random *rand.Rand, inside *atomic.Int64, most int64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	if n := random.IntN(20); n < 10 {
		wg.Go(func() {
			for range n {
				runtime.Gosched()
			}
			cancel()
		})
	}
	ticket, err := g.Enter(ctx)
	if err != nil {
		return
	}
	if n := inside.Add(1); n > most {
		t.Errorf("%d inside, want at most %d", n, most)
	}
	for range random.IntN(5) {
		runtime.Gosched()
	}
	inside.Add(-1)
	g.Leave(ticket, turret.Success)
}

func TestConcurrencyDoesNotAllocate(t *testing.T) {
	ctx := t.Context()
	g := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
	service := turret.Gated[int, int](g, nil)(double)
	full := limit.NewConcurrency(0, limit.Queue{})
	refusing := turret.Gated[int, int](full, nil)(double)
	for name, f := range map[string]func(){
		"Enter and Leave":    func() { ticket, _ := g.Enter(ctx); g.Leave(ticket, turret.Success) },
		"TryEnter and Leave": func() { ticket, _ := g.TryEnter(ctx); g.Leave(ticket, turret.Success) },
		"Ready":              func() { _ = g.Ready(ctx) },
		"a call":             func() { _, _ = service.Call(ctx, 1) },
		"a refusal":          func() { _, _ = full.Enter(ctx) },
		"TryEnter, refused":  func() { _, _ = full.TryEnter(ctx) },
		"a refused call":     func() { _, _ = refusing.Call(ctx, 1) },
		"not ready":          func() { _ = turret.ReadyNow(refusing) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}

// A line can be opened, shortened and closed while calls wait in it.
func TestSetQueue(t *testing.T) {
	for name, g := range map[string]interface {
		turret.Gate
		SetQueue(q limit.Queue)
	}{
		"Concurrency": limit.NewConcurrency(1, limit.Queue{}),
		"TokenBucket": limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour}, limit.Queue{}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				enter(t, g)
				if late := enter(t, g); !errors.Is(late.err, turret.ErrNotReady) {
					t.Errorf("without a line: %v, want a refusal", late.err)
				}
				g.SetQueue(limit.Queue{Max: limit.Unbounded})
				patient := startIn(ctx, entering(g))
				g.SetQueue(limit.Queue{Max: 2, Timeout: time.Second})
				impatient := enter(t, g)
				if late := enter(t, g); !errors.Is(late.err, limit.ErrQueueFull) {
					t.Errorf("in a line of two: %v, want ErrQueueFull", late.err)
				}
				g.SetQueue(limit.Queue{})
				if late := enter(t, g); !errors.Is(late.err, turret.ErrNotReady) {
					t.Errorf("without a line again: %v, want a refusal", late.err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if !errors.Is(impatient.err, limit.ErrQueueTimeout) || impatient.at != time.Second {
					t.Errorf("after %v: %v, want ErrQueueTimeout after the second that the queue said then", impatient.at, impatient.err)
				}
				if patient.over.Load() {
					t.Errorf("who came to a line without a Timeout got %v", patient.err)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestSetQueueInvalid(t *testing.T) {
	bad := limit.Queue{Max: -2}
	wantPanic(t, "limit: Concurrency.SetQueue: Queue.Max is -2, must be Unbounded (-1) or at least 0", func() {
		limit.NewConcurrency(1, limit.Queue{}).SetQueue(bad)
	})
	wantPanic(t, "limit: TokenBucket.SetQueue: Queue.Max is -2, must be Unbounded (-1) or at least 0", func() {
		limit.NewTokenBucket(limit.PerSecond(1), limit.Queue{}).SetQueue(bad)
	})
}
