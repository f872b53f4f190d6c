package load_test

import (
	"math"
	"testing"
	"time"

	"github.com/turret-go/turret/load"
)

// However long an endpoint has been idle, its past has then no weight, and what
// it answers next counts.
func TestLatencyIsLearntAfterAnyIdleTime(t *testing.T) {
	const slow, fast = 10 * time.Second, time.Millisecond
	idle := []time.Duration{
		time.Hour, 13 * 24 * time.Hour, 14 * 24 * time.Hour, 27 * 24 * time.Hour, 365 * 24 * time.Hour,
		18 * time.Minute, 19 * time.Minute, 36 * time.Minute, 73 * time.Minute, 200 * 365 * 24 * time.Hour,
	}
	for _, power := range []int{30, 31, 32, 33, 40, 50, 51, 52, 53} {
		for _, off := range []int64{-1, 0, 1, 1 << 20} {
			idle = append(idle, time.Duration(int64(1)<<power+off)) // where ticks come round
		}
	}
	for _, decay := range []time.Duration{0, time.Microsecond, time.Millisecond, time.Minute} {
		for _, d := range idle {
			for name, tr := range map[string]load.Tracker{
				"EWMA":     load.NewEWMA(load.EWMAConfig{Decay: decay}),
				"PeakEWMA": load.NewPeakEWMA(load.EWMAConfig{Decay: decay}),
			} {
				answer(tr, int64(slow), int64(slow))
				now := int64(slow) + int64(d)
				for range 2000 {
					answer(tr, now, int64(fast))
					now += int64(10 * time.Second)
				}
				if got := tr.Load(now); got > 2*float64(fast) {
					t.Errorf("%s with a decay of %v, idle for %v: a load of %v after 2,000 calls of %v", name, decay, d, time.Duration(got), fast)
				}
			}
		}
	}
}

// Whatever the instants are, a load is finite, at least 0, and what is idle for
// 100 decays has none.
func FuzzIdle(f *testing.F) {
	f.Add(int64(0), int64(1), int64(time.Hour), int64(800*time.Millisecond), false)
	f.Add(int64(math.MaxInt64-1), int64(math.MaxInt64), int64(1), int64(time.Microsecond), true)
	f.Add(int64(1)<<62, int64(1)<<61, int64(1)<<61, int64(math.MaxInt64), true)
	f.Fuzz(func(t *testing.T, first, took, idle, decay int64, peak bool) {
		c := load.EWMAConfig{Decay: time.Duration(decay)}
		if first < 0 || took < 0 || idle < 0 || decay <= 0 || c.Validate() != nil {
			t.Skip()
		}
		var tr load.Tracker = load.NewEWMA(c)
		if peak {
			tr = load.NewPeakEWMA(c)
		}
		ended := first + min(took, math.MaxInt64-first)
		later := ended + min(idle, math.MaxInt64-ended)
		for _, now := range []int64{first, ended, later, first} {
			answer(tr, now, min(now, ended-first))
			if got := tr.Load(later); got < 0 || math.IsInf(got, 0) || math.IsNaN(got) {
				t.Fatalf("load is %v", got)
			}
		}
		tr = load.NewPeakEWMA(c)
		answer(tr, ended, ended-first)
		if got := tr.Load(later); later-ended > 100*min(decay, math.MaxInt64/100) && got != 0 {
			t.Errorf("idle for %v, with a decay of %v: load is %v", time.Duration(later-ended), time.Duration(decay), got)
		}
	})
}
