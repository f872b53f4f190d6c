package breaker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/turrettest"
)

var exact = retry.Backoff{Base: time.Second, Max: 8 * time.Second, Jitter: -1}

func fail(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	end(t, b, turret.Failure)
}

func end(t *testing.T, b *breaker.Breaker, o turret.Outcome) {
	t.Helper()
	ticket, err := b.Enter(t.Context())
	if err != nil {
		t.Fatalf("Enter: %v", err)
	}
	b.Leave(ticket, o)
}

// A closed breaker has no bound; a half-open one has room for a probe.
func TestGateContract(t *testing.T) {
	t.Run("Closed", func(t *testing.T) {
		turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return breaker.New(breaker.Config{}), -1 })
	})
	t.Run("HalfOpen", func(t *testing.T) {
		turrettest.TestGate(t, func(t *testing.T) (turret.Gate, int) {
			b := breaker.New(breaker.Config{Backoff: exact})
			b.Trip()
			time.Sleep(time.Second)
			return b, 1
		})
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Consecutive: 1, Backoff: exact})
		fail(t, b)
		time.Sleep(400 * time.Millisecond)
		_, err := b.Enter(t.Context())
		r, ok := errors.AsType[*turret.Refusal](err)
		if !ok || r.Kind != turret.KindUnavailable || r.Reason != turret.ReasonCircuitOpen ||
			r.RetryAfter != 600*time.Millisecond || !errors.Is(err, breaker.ErrOpen) || !errors.Is(err, turret.ErrNotReady) {
			t.Fatalf("refusal %#v", err)
		}
		if want := "breaker: circuit breaker is open, retry after 600ms"; err.Error() != want {
			t.Errorf("text %q, want %q", err, want)
		}
		time.Sleep(600 * time.Millisecond)
		probe, err := b.TryEnter(t.Context())
		if err != nil {
			t.Fatalf("no probe: %v", err)
		}
		_, err = b.TryEnter(t.Context())
		if r, ok := errors.AsType[*turret.Refusal](err); !ok || r.RetryAfter != 0 {
			t.Fatalf("while a probe runs: %#v", err)
		}
		b.Leave(probe, turret.Success)
		want := breaker.Stats{State: breaker.Closed, Entered: 2, Refused: 2, Opened: 1}
		if got := b.Stats(); got != want {
			t.Errorf("Stats %+v, want %+v", got, want)
		}
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Consecutive: 1, Backoff: exact})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Ready(ended); err != nil {
			t.Fatalf("closed: %v", err)
		}
		fail(t, b)
		if err := b.Ready(ended); !errors.Is(err, turret.ErrNotReady) {
			t.Fatalf("open: %v", err)
		}
		start := time.Now()
		if err := b.Ready(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Fatalf("ready after %v: %v", time.Since(start), err)
		}
		// While a probe runs, Ready waits for its verdict.
		probe, _ := b.TryEnter(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := b.Ready(t.Context()); err != nil || time.Since(start) != 4*time.Second {
					t.Errorf("ready after %v: %v", time.Since(start), err)
				}
			})
		}
		time.Sleep(time.Second)
		b.Leave(probe, turret.Failure) // open for 2 s more
		all.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		b.Trip()
		_, _ = b.TryEnter(t.Context())
		if err := b.Ready(short); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, turret.ErrNotReady) {
			t.Fatalf("ctx ends first: %v", err)
		}
	})
}

// Ready does not wait for the end of a probe that no longer keeps calls out.
func TestReadyOutlastsAnEndlessProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Backoff: retry.Backoff{Base: time.Second, Max: time.Minute, Jitter: -1}})
		b.Trip()
		time.Sleep(time.Second)
		if _, err := b.TryEnter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if err := b.Ready(ctx); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Ready returned %v after %v, want nil after a minute", err, time.Since(start))
		}
	})
}

// OnChange is called for every change in order, and may call the breaker.
func TestOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var heard []string
		b = breaker.New(breaker.Config{Consecutive: 1, Backoff: exact, OnChange: func(from, to breaker.State) {
			heard = append(heard, fmt.Sprintf("%v-%v", from, to))
			_ = b.String()
			if to == breaker.Open {
				b.Reset() // queued behind this change, not inside it
			}
		}})
		fail(t, b)
		b.Trip()
		want := []string{"Closed-Open", "Open-Closed", "Closed-Open", "Open-Closed"}
		if !slices.Equal(heard, want) {
			t.Fatalf("heard %v, want %v", heard, want)
		}
	})
}

func TestOnChangePanics(t *testing.T) {
	panics := true
	heard := 0
	b := breaker.New(breaker.Config{Consecutive: 1, OnChange: func(_, _ breaker.State) {
		heard++
		if panics {
			panic("callback")
		}
	}})
	func() {
		defer func() { _ = recover() }()
		b.Trip()
	}()
	panics = false
	b.Reset()
	if heard != 2 || b.State() != breaker.Closed {
		t.Fatalf("heard %d changes, state %v: the breaker is stuck after a panic", heard, b.State())
	}
}

// As a layer, a breaker gets every way out.
func TestGated(t *testing.T) {
	b := breaker.New(breaker.Config{Consecutive: 2, Backoff: retry.Backoff{Base: time.Hour, Max: time.Hour}})
	service := turret.Gated[string, string](b, nil)(turret.ServiceFunc(func(context.Context, string) (string, error) {
		panic("down")
	}))
	for range 2 {
		func() {
			defer func() { _ = recover() }()
			_, _ = service.Call(t.Context(), "")
		}()
	}
	if _, err := service.Call(t.Context(), ""); !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("after two panics: %v", err)
	}
	if err := turret.ReadyNow(service); !errors.Is(err, turret.ErrNotReady) {
		t.Fatalf("ReadyNow: %v", err)
	}
}

func TestSetters(t *testing.T) {
	b := breaker.New(breaker.Config{})
	b.SetRatio(-1, 0)
	b.SetConsecutive(2)
	b.SetBackoff(retry.Backoff{Base: time.Hour, Max: time.Hour, Jitter: -1})
	fail(t, b)
	fail(t, b)
	if s := b.Stats(); s.State != breaker.Open || s.OpenFor > time.Hour || s.OpenFor < time.Hour-time.Minute {
		t.Fatalf("Stats %+v", s)
	}
	b.Reset()
	b.SetConsecutive(-1)
	b.SetRatio(1, 3)
	fail(t, b)
	fail(t, b)
	if b.State() != breaker.Closed {
		t.Fatal("opened with 2 of 3 calls")
	}
	fail(t, b)
	if b.State() != breaker.Open {
		t.Fatal("did not open with 3 of 3 calls")
	}
}

func TestSetWindowKeepsTheState(t *testing.T) {
	b := breaker.New(breaker.Config{Consecutive: -1, Ratio: 1, MinCalls: 2})
	fail(t, b)
	b.SetWindow(time.Minute) // what the old window has counted is gone
	fail(t, b)
	if s := b.Stats(); s.State != breaker.Closed || s.Calls != 1 {
		t.Fatalf("Stats %+v, want one call in the new window", s)
	}
	fail(t, b)
	if b.State() != breaker.Open {
		t.Fatal("did not open with 2 of 2 calls")
	}
	b.SetWindow(time.Hour)
	if b.State() != breaker.Open {
		t.Error("a new window has closed the breaker")
	}
	misuse := func() (err any) {
		defer func() { err = recover() }()
		b.SetWindow(9)
		return nil
	}
	if misuse() == nil {
		t.Error("a window of 9ns did not panic")
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		config breaker.Config
		want   string
	}{
		{breaker.Config{}, ""},
		{breaker.Config{Consecutive: -1, Ratio: -1}, ""},
		{breaker.Config{Backoff: retry.Backoff{Max: time.Millisecond}}, ""},
		{breaker.Config{Backoff: retry.Backoff{Max: -1}}, ""},
		{breaker.Config{Ratio: 1.5}, "Ratio is 1.5, must be at most 1"},
		{breaker.Config{MinCalls: -1}, "MinCalls is -1, must be between 0"},
		{breaker.Config{Window: -1}, "Window is -1ns, must be at least"},
		{breaker.Config{Window: 9}, "Window is 9ns, must be at least 10ns"},
		{breaker.Config{Backoff: retry.Backoff{Base: -1}}, "Backoff.Base is -1ns, must be at least 0"},
		{breaker.Config{Backoff: retry.Backoff{Base: 2, Max: 1}}, "Backoff.Max is 1ns"},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if tt.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.config, err)
			}
			breaker.New(tt.config).Trip()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "breaker: ") {
			t.Errorf("%+v: %v, want %q", tt.config, err, tt.want)
		}
		func() {
			defer func() {
				if p, ok := recover().(error); !ok || p.Error() != "breaker: New: "+strings.TrimPrefix(err.Error(), "breaker: ") {
					t.Errorf("New panicked with %v, want %v", p, err)
				}
			}()
			breaker.New(tt.config)
		}()
	}
}

func TestConcurrentCalls(t *testing.T) {
	b := breaker.New(breaker.Config{Consecutive: 3, Backoff: retry.Backoff{Base: 1, Max: 1}})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 1000 {
				if ticket, err := b.Enter(t.Context()); err == nil {
					b.Leave(ticket, turret.Outcome(1+(i*n)%5))
				}
				_ = b.Stats()
			}
		})
	}
	all.Wait()
	if s := b.Stats(); s.InFlight != 0 {
		t.Fatalf("Stats %+v: calls are left inside", s)
	}
}

func TestAllocations(t *testing.T) {
	b := breaker.New(breaker.Config{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		ticket, _ := b.Enter(ctx)
		b.Leave(ticket, turret.Success)
	}); n != 0 {
		t.Errorf("a call allocates %v times, want 0", n)
	}
	b.SetBackoff(retry.Backoff{Base: time.Hour, Max: time.Hour})
	b.Trip()
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Enter(ctx) }); n > 1 {
		t.Errorf("a refusal allocates %v times, want 1", n)
	}
}

func BenchmarkBreaker(bb *testing.B) {
	b := breaker.New(breaker.Config{})
	ctx := bb.Context()
	for bb.Loop() {
		ticket, _ := b.Enter(ctx)
		b.Leave(ticket, turret.Success)
	}
}

func ExampleBreaker() {
	b := breaker.New(breaker.Config{Consecutive: 2, Ratio: -1, Backoff: retry.Backoff{Base: 10 * time.Second}})
	down := turret.ServiceFunc(func(context.Context, string) (string, error) {
		return "", errors.New("connection refused")
	})
	guarded := turret.Gated[string, string](b, nil)(down)
	for range 3 {
		_, err := guarded.Call(context.Background(), "hello")
		fmt.Printf("%v: not sent %v, state %v\n", errors.Is(err, breaker.ErrOpen), errors.Is(err, turret.ErrNotReady), b.State())
	}
	// Output:
	// false: not sent false, state Closed
	// false: not sent false, state Open
	// true: not sent true, state Open
}

// Logs and JSON show names, also of what is unknown.
func TestNames(t *testing.T) {
	got, err := json.Marshal([]breaker.State{breaker.Closed, breaker.Open, breaker.HalfOpen, 9})
	const want = `["Closed","Open","HalfOpen","State(9)"]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}
