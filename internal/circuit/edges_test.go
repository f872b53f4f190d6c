package circuit

import (
	"math"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

// An open period that ends beyond the end of time does not end at once.
func TestLongestOpenPeriod(t *testing.T) {
	c := newCircuit(Config{Backoff: retry.Backoff{Base: math.MaxInt64, Jitter: -1}})
	const now = int64(time.Hour)
	c.Trip(now)
	if got := c.State(now); got != Open {
		t.Errorf("state %v, want Open", got)
	}
	if _, wait, ok := c.Enter(now + 1); ok || int64(wait) != math.MaxInt64-now-1 {
		t.Errorf("a call: %v, wait %v, want a refusal until the end of time", ok, wait)
	}
}

// A probe that never ends gives up its place also where the open periods have no
// longest one.
func TestEndlessProbeWithoutALongestPeriod(t *testing.T) {
	c := newCircuit(Config{Backoff: retry.Backoff{Base: time.Second, Max: -1, Jitter: -1}})
	c.Trip(0)
	if _, _, ok := c.Enter(second); !ok {
		t.Fatal("no probe after the open period")
	}
	if _, _, ok := c.Enter(2*second - 1); ok {
		t.Error("a second probe while the first one may still answer")
	}
	if _, _, ok := c.Enter(2 * second); !ok {
		t.Error("no second probe after as long as the circuit was open")
	}
}

// What was counted long ago does not come back when the numbers of buckets come
// round.
func TestWindowForgetsWhatIsOld(t *testing.T) {
	for _, power := range []int{27, 28, 29, 30, 40, 59} {
		for _, off := range []int64{-11, -9, -1, 0, 1, 9, 11} {
			var w window
			w.setWidth(8)
			w.add(800, true)
			now := 800 + 8*(int64(1)<<power+off)
			w.add(now, false)
			if calls, failures := w.sum(now); calls != 1 || failures != 0 {
				t.Errorf("2^%d%+d buckets later: %d of %d calls failed, want 0 of 1", power, off, failures, calls)
			}
		}
	}
}

// FuzzCircuitEdges drives a circuit over leaps of any length: an open period
// never ends before it began, and a refusal never says to come back in the past.
func FuzzCircuitEdges(f *testing.F) {
	f.Add(int64(0), int64(1), int64(math.MaxInt64), int64(-1), int64(time.Second))
	f.Add(int64(1)<<62, int64(1)<<62, int64(time.Second), int64(0), int64(10))
	f.Fuzz(func(t *testing.T, first, step, base, longest, width int64) {
		config := Config{Window: time.Duration(width), Consecutive: 1, Backoff: retry.Backoff{Base: time.Duration(base), Max: time.Duration(longest)}}
		if first < 0 || step < 0 || config.Validate("circuit") != nil {
			t.Skip()
		}
		c := newCircuit(config)
		now := first
		for range 8 {
			if ticket, wait, ok := c.Enter(now); ok {
				if c.Leave(now, ticket, turret.Failure) == Due {
					c.Trip(now)
				}
				if c.State(now) != Open && now < math.MaxInt64 || c.until < now {
					t.Fatalf("%+v: after a failure at %d: state %v until %d", config, now, c.State(now), c.until)
				}
			} else if wait < 0 {
				t.Fatalf("%+v: refused at %d for %v", config, now, wait)
			}
			if wait, refuses := c.Refusal(now); wait < 0 || refuses != c.Refuses(now) {
				t.Fatalf("%+v: refusal at %d: %v, %v", config, now, wait, refuses)
			}
			now += min(step, math.MaxInt64-now)
		}
	})
}
