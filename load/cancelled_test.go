package load_test

import (
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/load"
)

// Calls that were cancelled at once say nothing: an endpoint that has answered
// none looks like one that was never used.
func TestCancelledEarly(t *testing.T) {
	for name, tr := range map[string]load.Tracker{
		"PeakEWMA": load.NewPeakEWMA(load.EWMAConfig{}),
		"EWMA":     load.NewEWMA(load.EWMAConfig{}),
	} {
		fresh := tr.Start(0)
		want := tr.Load(0)
		tr.Done(0, fresh, turret.Unused, 0)
		for range 20 {
			tr.Done(ms, tr.Start(0), turret.Ignored, 0)
		}
		tr.Start(ms)
		if got := tr.Load(ms); !near(got, want) {
			t.Errorf("%s: Load = %v, want %v as before the calls", name, got, want)
		}
	}
}
