package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestRecorded draws work from the table: it is within the table's range, and its
// quantiles are those of the recording, which has a mean of 169.56 ms.
func TestRecorded(t *testing.T) {
	if !slices.IsSorted(recorded[:]) {
		t.Fatal("the quantiles are not in order")
	}
	const draws = 100_000
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]time.Duration, draws)
	var sum time.Duration
	for i := range all {
		all[i] = traced(r).Service
		sum += all[i]
	}
	slices.Sort(all)
	for _, tt := range []struct{ q, want float64 }{{0, 164.086}, {.5, 167.483}, {.9, 176.702}, {.99, 192.310}, {.999, 198.833}, {1, 199.989}} {
		got := all[min(draws-1, int(tt.q*draws))].Seconds() * 1000
		if got < tt.want-0.5 || got > tt.want+0.5 {
			t.Errorf("quantile %v is %.3f ms, want %v", tt.q, got, tt.want)
		}
	}
	if mean := (sum / draws).Seconds() * 1000; mean < 169.5 || mean > 169.62 {
		t.Errorf("the mean is %.3f ms", mean)
	}
}
