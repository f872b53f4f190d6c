package adaptive

import "testing"

// A window of a trial in which only the short ones of calls of two kinds have ended
// is precise, but it is not over: the long ones take as long as before.
func TestTrialWaitsForLongCalls(t *testing.T) {
	first := reading{mean: float64(24 * ms), cost: float64(24 * ms)}
	w := window{opened: sec}
	for range 60 {
		w.add(float64(2 * ms))
	}
	if w.ripeInTrial(sec+30*ms, first) {
		t.Error("closed after 30 ms, although calls took 24 ms in the first reading")
	}
	if !w.ripeInTrial(sec+48*ms, first) {
		t.Error("still open after two latencies of the first reading")
	}
}
