package adaptive_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/turrettest"
)

func TestLimitIsAGate(t *testing.T) {
	for name, c := range map[string]adaptive.Config{
		"fixed at one":   {Min: 1, Max: 1},
		"fixed at three": {Min: 3, Max: 3},
		"moving":         {Start: 3},
		"with keys":      {Start: 3, Key: func(context.Context) string { return "key" }},
	} {
		t.Run(name, func(t *testing.T) {
			turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) {
				return adaptive.New(c), max(c.Start, c.Max)
			})
		})
	}
}

func TestConfigNamesTheInvalidField(t *testing.T) {
	for field, c := range map[string]adaptive.Config{
		"Start is -1":     {Start: -1},
		"Min is -1":       {Min: -1},
		"Max is -1":       {Max: -1},
		"Min is 5":        {Min: 5, Max: 4},
		"Start is 30":     {Start: 30, Max: 20},
		"Max is 2000000":  {Max: 2_000_000},
		"Min is 10000000": {Min: 10_000_000},
		"Start is 2, mus": {Start: 2, Min: 3},
	} {
		err := c.Validate()
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || !strings.Contains(err.Error(), field) {
			t.Errorf("Validate(%+v) = %v, want a *turret.FieldError with %q", c, err, field)
		}
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "adaptive: New: ") || !strings.Contains(p, field) {
					t.Errorf("New panics with %q", p)
				}
			}()
			adaptive.New(c)
		}()
	}
	for _, c := range []adaptive.Config{{}, {Max: 5}, {Min: 20_000}, {Min: 50}} {
		if err := c.Validate(); err != nil {
			t.Errorf("Validate(%+v) = %v", c, err)
		}
		adaptive.New(c)
	}
}

// enter calls Enter and reports when, and with what, it came back.
func enter(ctx context.Context, l *adaptive.Limit) func() (turret.Ticket, error, time.Duration) {
	began := time.Now()
	var (
		wg     sync.WaitGroup
		ticket turret.Ticket
		err    error
		took   time.Duration
	)
	wg.Go(func() {
		ticket, err = l.Enter(ctx)
		took = time.Since(began)
	})
	return func() (turret.Ticket, error, time.Duration) { //nolint:staticcheck // the error is one of three things to look at
		wg.Wait()
		return ticket, err, took
	}
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := adaptive.New(adaptive.Config{Max: 1})
		ticket, err := l.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err, took := enter(t.Context(), l)()
		if !errors.Is(err, adaptive.ErrWaited) || took != time.Second {
			t.Errorf("Enter: %v after %v, want ErrWaited after 1s: the unloaded latency is not known", err, took)
		}
		r, ok := errors.AsType[*turret.Refusal](err)
		if !ok || r.Reason != turret.ReasonQueueTimeout || r.Kind != turret.KindOverloaded || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("Enter: %#v, want a refusal", err)
		}
		l.Leave(ticket, turret.Success)
		if s := l.Stats(); s.Waited != 1 || s.InFlight != 0 || s.Refused() != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// A lateContext is cancelled while ended is true, and does not say so on Done.
type lateContext struct {
	context.Context //nolint:containedctx // it is a context

	ended atomic.Bool
}

func (c *lateContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// TestRefusedAndCancelledCountsOnce has a caller give up in the instant in which its
// call is refused: the call was refused, and is counted once.
func TestRefusedAndCancelledCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := adaptive.New(adaptive.Config{Max: 1})
		ticket, err := l.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx := &lateContext{Context: t.Context()}
		result := enter(ctx, l)
		synctest.Wait()
		ctx.ended.Store(true) // it is in line
		if _, err, _ := result(); !errors.Is(err, adaptive.ErrWaited) {
			t.Errorf("Enter: %v, want ErrWaited", err)
		}
		if s := l.Stats(); s.Waited != 1 || s.Cancelled != 0 || s.InFlight != 1 {
			t.Errorf("stats %+v, want one call refused and none cancelled", s)
		}
		l.Leave(ticket, turret.Success)
	})
}

func TestMostCriticalGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := adaptive.New(adaptive.Config{Max: 1})
		ticket, err := l.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var order []criticality.Level
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, level := range []criticality.Level{criticality.Sheddable, criticality.CriticalPlus, criticality.SheddablePlus, criticality.Critical} {
			wg.Go(func() {
				ticket, err := l.Enter(criticality.With(t.Context(), level))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, level)
				mu.Unlock()
				l.Leave(ticket, turret.Unused)
			})
			synctest.Wait()
		}
		if got := l.Stats().Waiting; got != [4]int{1, 1, 1, 1} {
			t.Errorf("waiting %v", got)
		}
		l.Leave(ticket, turret.Unused)
		wg.Wait()
		if got := fmt.Sprint(order); got != "[critical-plus critical sheddable-plus sheddable]" {
			t.Errorf("order %v", got)
		}
	})
}

func TestDescribeAndString(t *testing.T) {
	l := adaptive.New(adaptive.Config{})
	if got := l.String(); !strings.HasPrefix(got, "adaptive limit: 0 of 20 in flight") {
		t.Error(got)
	}
	n := turret.Describe(l, 10)
	if n.Kind != "adaptive" || len(n.Figures) < 15 {
		t.Errorf("description %+v", n)
	}
}

func TestBoundsChangeWhileCallsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := adaptive.New(adaptive.Config{Max: 1})
		first, _ := l.Enter(t.Context())
		second := enter(t.Context(), l)
		synctest.Wait()
		l.SetBounds(2, 5)
		ticket, err, took := second()
		if err != nil || took != 0 {
			t.Errorf("Enter: %v after %v, want success at once", err, took)
		}
		l.Leave(first, turret.Success)
		l.Leave(ticket, turret.Success)
		defer func() {
			if recover() == nil {
				t.Error("SetBounds(3, 2) does not panic")
			}
		}()
		l.SetBounds(3, 2)
	})
}

func TestLeaveTooOftenPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Leave without Enter does not panic")
		}
	}()
	adaptive.New(adaptive.Config{}).Leave(turret.Ticket{}, turret.Success)
}

func TestEnterAndLeaveAllocateNothing(t *testing.T) {
	l := adaptive.New(adaptive.Config{})
	full := adaptive.New(adaptive.Config{Max: 1})
	if _, err := full.TryEnter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		ticket, _ := l.Enter(ctx)
		l.Leave(ticket, turret.Success)
	}); n != 0 {
		t.Errorf("Enter and Leave allocate %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = full.TryEnter(ctx) }); n != 0 {
		t.Errorf("a refusal of TryEnter allocates %v times", n)
	}
}
