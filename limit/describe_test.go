package limit_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// figures returns the figures of what x says of itself, by name and reason.
func figures(x any) map[string]float64 {
	m := map[string]float64{}
	for _, f := range turret.Describe(x, 0).Figures {
		name := f.Name
		if f.Reason != "" {
			name += " " + f.Reason
		}
		m[name] = f.Value
	}
	return m
}

func wantFigures(t *testing.T, x any, want map[string]float64) {
	t.Helper()
	got := figures(x)
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %v, want %v", name, got[name], v)
		}
	}
}

// Time in line counts for calls that get in, that give up and that are refused.
func TestLimitsCountTimeInLine(t *testing.T) {
	for name, newGate := range map[string]func() turret.Gate{
		"concurrency": func() turret.Gate {
			return limit.NewConcurrency(1, limit.Queue{Max: 5, Timeout: 10 * time.Second})
		},
		"tokens": func() turret.Gate {
			return limit.NewTokenBucket(limit.Rate{N: 1, Per: 3 * time.Second, Burst: 1}, limit.Queue{Max: 5, Timeout: 10 * time.Second})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				first, err := g.Enter(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				go func() { time.Sleep(3 * time.Second); g.Leave(first, turret.Success) }()
				second, err := g.Enter(t.Context()) // waits 3 s
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := g.Enter(ctx); err == nil { // waits 1 s
					t.Error("entered a full limit")
				}
				g.Leave(second, turret.Success)
				wantFigures(t, g, map[string]float64{"entered": 2, "cancelled": 1, "wait": 4, "waiting": 0})
			})
		})
	}
}

func TestLimitsDescribeWhatTheyRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limit.NewConcurrency(0, limit.Queue{Max: 1, Timeout: time.Second})
		go func() { _, _ = c.Enter(t.Context()) }()
		synctest.Wait()
		_, _ = c.Enter(t.Context())    // the line is full
		_, _ = c.TryEnter(t.Context()) // never waits
		time.Sleep(2 * time.Second)
		wantFigures(t, c, map[string]float64{
			"max": 0, "queue_max": 1, "queue_timeout": 1, "in_flight": 0, "wait": 1,
			"refused LIMIT_FULL": 1, "refused QUEUE_FULL": 1, "refused QUEUE_TIMEOUT": 1,
		})
		b := limit.NewTokenBucket(limit.Rate{N: 3, Per: 2 * time.Second, Burst: 1}, limit.Queue{})
		ticket, _ := b.Enter(t.Context())
		_, _ = b.Enter(t.Context())
		b.Leave(ticket, turret.Unused)
		wantFigures(t, b, map[string]float64{"rate": 1.5, "burst": 1, "tokens": 1, "entered": 1, "returned": 1, "refused RATE_LIMITED": 1})
	})
}

func TestUtilizationCountsCallsInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limit.NewConcurrency(2, limit.Queue{Max: limit.Unbounded})
		ctx, cancel := context.WithCancel(t.Context())
		for want := range 5 {
			if got := c.Utilization(); got != float64(want)/2 {
				t.Errorf("%d calls inside and in line: %v", want, got)
			}
			go func() { _, _ = c.Enter(ctx) }()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		if got := limit.NewConcurrency(0, limit.Queue{}).Utilization(); got != 1 {
			t.Errorf("without any room: %v, want 1", got)
		}
	})
}
