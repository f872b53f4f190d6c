package latency_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/turret-go/turret/internal/latency"
)

const ms = int64(time.Millisecond)

// What is ordinary depends on how much latencies vary.
func TestFleet(t *testing.T) {
	tests := []struct {
		name              string
		latency           func(r *rand.Rand) float64 // in ms
		typical           float64
		ordinary, outlier float64
	}{
		{"narrow", func(r *rand.Rand) float64 { return 100 + r.Float64() }, 100, 190, 210},
		{"log-normal", func(r *rand.Rand) float64 { return 10 * math.Exp(0.5*r.NormFloat64()) }, 10, 50, 120},
		{"wide", func(r *rand.Rand) float64 { return 10 * math.Exp(r.NormFloat64()) }, 10, 300, 1500},
		{"two methods", func(r *rand.Rand) float64 { return []float64{2, 200}[r.IntN(2)] }, 20, 10_000, 1e7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			f := latency.NewFleet()
			if f.Typical() != 0 || f.Outlier(time.Hour) {
				t.Fatal("a new fleet knows something")
			}
			for i := range int64(2000) {
				f.Observe(i*10*ms, time.Duration(tt.latency(random)*float64(ms)))
			}
			if got := float64(f.Typical()) / float64(ms); got < tt.typical/1.5 || got > tt.typical*1.5 {
				t.Errorf("Typical = %v ms, want about %v", got, tt.typical)
			}
			if f.Outlier(time.Duration(tt.ordinary * float64(ms))) {
				t.Errorf("%v ms is an outlier", tt.ordinary)
			}
			if !f.Outlier(time.Duration(tt.outlier * float64(ms))) {
				t.Errorf("%v ms is no outlier", tt.outlier)
			}
		})
	}
}

// A fleet keeps its samples in order while many goroutines add some.
func TestFleetConcurrent(t *testing.T) {
	f := latency.NewFleet()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range int64(1000) {
				f.Observe(i*10*ms, 5*time.Millisecond)
				f.Outlier(f.Typical())
			}
		})
	}
	all.Wait()
	if got := f.Typical(); got < 4*time.Millisecond || got > 6*time.Millisecond {
		t.Fatalf("Typical = %v, want 5ms", got)
	}
}
