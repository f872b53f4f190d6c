package fault

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

var errMine = errors.New("mine")

// seeded returns an Injector that draws the same each time. Its calls must not run
// concurrently.
func seeded() *Injector {
	i := New()
	i.random = rand.New(rand.NewPCG(1, 2)).Float64
	return i
}

func set(t *testing.T, i *Injector, r Rule, d time.Duration) {
	t.Helper()
	if err := i.Set(r, d); err != nil {
		t.Fatal(err)
	}
}

// The shares are those of the rule, and are drawn independently.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 10_000
		i := seeded()
		set(t, i, Rule{DelayShare: 0.2, Delay: time.Second, ErrShare: 0.3, Err: errMine}, mostDuration)
		var delayed, failed, both int
		for range calls {
			start := time.Now()
			err := i.Inject(t.Context())
			took := time.Since(start)
			if took != 0 && took != time.Second || err != nil && !errors.Is(err, errMine) {
				t.Fatalf("%v after %s", err, took)
			}
			switch {
			case took > 0 && err != nil:
				both++
			case took > 0:
				delayed++
			case err != nil:
				failed++
			}
		}
		for name, c := range map[string]struct{ got, want float64 }{
			"only delayed": {float64(delayed), 0.14 * calls}, "only failed": {float64(failed), 0.24 * calls}, "both": {float64(both), 0.06 * calls},
		} {
			if math.Abs(c.got-c.want) > 0.01*calls {
				t.Errorf("%s: %v of %d, want about %v", name, c.got, calls, c.want)
			}
		}
		i.Clear()
	})
}

// A rule ends by itself, and a later one has its own end.
func TestRuleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := New()
		set(t, i, Rule{ErrShare: 1}, time.Minute)
		time.Sleep(30 * time.Second)
		set(t, i, Rule{ErrShare: 1}, time.Minute)
		time.Sleep(59 * time.Second)
		if err := i.Inject(t.Context()); !errors.Is(err, ErrInjected) {
			t.Errorf("before the end: %v", err)
		}
		if s := i.String(); s != "fault: 0 % delayed by 0s, 100 % failed, for 1s" {
			t.Errorf("String is %q", s)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if err := i.Inject(t.Context()); err != nil || i.String() != "fault: off" {
			t.Errorf("after the end: %v, %s", err, i)
		}
	})
}

// Calls that are delayed go on, and do not fail, when the rule is cleared.
func TestClearEndsDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, start := New(), time.Now()
		set(t, i, Rule{DelayShare: 1, Delay: time.Hour, ErrShare: 1}, mostDuration)
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if err := i.Inject(t.Context()); err != nil || time.Since(start) != time.Second {
					t.Errorf("%v after %s", err, time.Since(start))
				}
			})
		}
		time.Sleep(time.Second)
		i.Clear()
		calls.Wait()
		i.Clear()
	})
}

func TestEndOfContextEndsTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, start := New(), time.Now()
		set(t, i, Rule{DelayShare: 1, Delay: time.Hour, ErrShare: 1}, mostDuration)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := i.Inject(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrInjected) || time.Since(start) != time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		i.Clear()
	})
}

// At most MaxActive calls are in a fault at any time, and the room is given back.
func TestMaxActiveBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, start := New(), time.Now()
		set(t, i, Rule{DelayShare: 1, Delay: time.Second, ErrShare: 1, MaxActive: 3}, mostDuration)
		for round := range 2 {
			var calls sync.WaitGroup
			var failed atomic.Int64
			for range 50 {
				calls.Go(func() {
					if i.Inject(t.Context()) != nil {
						failed.Add(1)
					}
				})
			}
			synctest.Wait()
			if got := i.active.Load(); got != 3 {
				t.Errorf("%d calls are in a fault", got)
			}
			calls.Wait()
			if got, took := failed.Load(), time.Since(start); got != 3 || took != time.Duration(round+1)*time.Second {
				t.Errorf("%d calls failed after %s", got, took)
			}
		}
		i.Clear()
	})
}

// An injected error looks sent, also if the rule's error is a refusal.
func TestInjectedErrorIsNoRefusal(t *testing.T) {
	for _, mine := range []error{nil, errMine, turret.ErrNotReady, &turret.Refusal{Err: errMine}} {
		i := New()
		set(t, i, Rule{ErrShare: 1, Err: mine}, time.Hour)
		err := i.Inject(t.Context())
		if !errors.Is(err, ErrInjected) || errors.Is(err, turret.ErrNotReady) {
			t.Errorf("the rule's error %v is injected as %v", mine, err)
		}
		i.Clear()
	}
}

func TestLayerFailsWithoutCalling(t *testing.T) {
	i := New()
	s := Layer[int, int](i)(turret.ServiceFunc(func(_ context.Context, n int) (int, error) { return n + 1, nil }))
	if n, err := s.Call(t.Context(), 1); n != 2 || err != nil {
		t.Errorf("off: %d, %v", n, err)
	}
	if got := fmt.Sprint(turret.Describe(s, 0)); !strings.Contains(got, "off") {
		t.Errorf("off: described as %s", got)
	}
	set(t, i, Rule{ErrShare: 1}, time.Hour)
	defer i.Clear()
	if n, err := s.Call(t.Context(), 1); n != 0 || !errors.Is(err, ErrInjected) {
		t.Errorf("on: %d, %v", n, err)
	}
	node := turret.Describe(s, 0)
	if got := fmt.Sprint(node); node.Kind != "fault" || !strings.Contains(got, " on") || !strings.Contains(got, ReasonInjected) {
		t.Errorf("on: described as %s", got)
	}
}

func TestOffAllocatesNothing(t *testing.T) {
	i, ctx := New(), t.Context()
	if got := testing.AllocsPerRun(100, func() { _ = i.Inject(ctx) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestRuleNamesTheInvalidField(t *testing.T) {
	for field, r := range map[string]Rule{
		"DelayShare is 1.1,": {DelayShare: 1.1}, "DelayShare is NaN,": {DelayShare: math.NaN()}, "ErrShare is -1,": {ErrShare: -1},
		"Delay is -1ns,": {Delay: -1}, "Delay is 2h0m0s,": {Delay: 2 * time.Hour}, "MaxActive is -1,": {MaxActive: -1},
	} {
		err := New().Set(r, time.Hour)
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || !strings.HasPrefix(err.Error(), "fault: "+field) {
			t.Errorf("%+v: %v, want %s", r, err, field)
		}
	}
	for _, d := range []time.Duration{-1, 0, 25 * time.Hour} {
		if err := New().Set(Rule{}, d); err == nil {
			t.Errorf("a rule may hold for %s", d)
		}
	}
}
