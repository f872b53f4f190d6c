package adaptive

import (
	"math"
	"testing"
)

// The mean follows what is inside within a second or so, however rarely anything
// happens.
func TestFilledIsTheRecentMean(t *testing.T) {
	for _, step := range []int64{ms, 70 * ms, sec} {
		f, now := filled{}, int64(0)
		for _, calls := range []int{3, 0, 50} {
			for end := now + 3*sec; now < end; {
				now += step
				f.advance(now, calls)
				f.advance(now, 1000) // takes no time
			}
			if got := f.of(); math.Abs(got-float64(calls)) > 0.01*float64(calls)+0.01 {
				t.Errorf("steps of %d ms: mean %v, want %d", step/ms, got, calls)
			}
		}
	}
}

func TestUtilizationCountsCallsInLine(t *testing.T) {
	g := newGate(Config{Max: 1}.withDefaults())
	g.enter(0, 0)
	w := &waiter{told: make(chan struct{}, 1), deadline: never}
	g.wait(0, w)
	g.tick(900 * ms)
	if got := g.filled.of(); math.Abs(got-2) > 0.01 {
		t.Errorf("mean %v, want 2: one inside and one in line", got)
	}
}
