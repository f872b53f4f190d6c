package load_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/latency"
	"github.com/turret-go/turret/load"
	"github.com/turret-go/turret/turrettest"
)

const ms = int64(time.Millisecond)

func TestContract(t *testing.T) {
	fleet := latency.NewFleet()
	fleet.Observe(0, 10*time.Millisecond)
	trackers := map[string]func() load.Tracker{
		"PeakEWMA":       func() load.Tracker { return load.NewPeakEWMA(load.EWMAConfig{}) },
		"EWMA":           func() load.Tracker { return load.NewEWMA(load.EWMAConfig{}) },
		"EWMA in fleet":  func() load.Tracker { return load.NewEWMA(load.EWMAConfig{Typical: fleet.Typical}) },
		"EWMA 1µs":       func() load.Tracker { return load.NewEWMA(load.EWMAConfig{Decay: time.Microsecond}) },
		"EWMA unlimited": func() load.Tracker { return load.NewEWMA(load.EWMAConfig{Decay: math.MaxInt64}) },
		"Pending":        func() load.Tracker { return load.NewPending() },
		"Constant":       func() load.Tracker { return load.Constant(7) },
	}
	for name, f := range trackers {
		t.Run(name, func(t *testing.T) { turrettest.TestTracker(t, f) })
	}
}

// answer is a call that takes this long and is answered at now.
func answer(tr load.Tracker, now, took int64) {
	tr.Done(now, tr.Start(now-took), turret.Success, 0)
}

// near reports whether two figures are the same to a promille: decay is counted
// in steps of a 1,024th.
func near(a, b float64) bool { return math.Abs(a-b) <= 2e-3*math.Max(math.Abs(a), math.Abs(b)) }

// The values of Tower's definition, by hand.
func TestPeakEWMA(t *testing.T) {
	tr := load.NewPeakEWMA(load.EWMAConfig{Decay: time.Second, DefaultRTT: 10 * time.Millisecond})
	want := func(now int64, l float64) {
		t.Helper()
		if got := tr.Load(now); !near(got, l*float64(ms)) {
			t.Fatalf("at %d ms: Load = %v ms, want %v", now/ms, got/float64(ms), l)
		}
	}
	e := math.Exp(-1)
	want(0, 0) // never measured: to be tried
	first := tr.Start(0)
	want(0, 2*10)
	tr.Done(0, first, turret.Unused, 0)
	answer(tr, 1000*ms, 100*ms) // a peak: taken over at once
	want(1000*ms, 100)
	want(2000*ms, 100*e) // decays while idle
	answer(tr, 2000*ms, 20*ms)
	want(2000*ms, 100*e+20*(1-e)) // below: averaged in
	tr.Start(2000 * ms)
	want(2000*ms, 2*(100*e+20*(1-e)))
	want(5000*ms, 2*3000) // silent for 3 s
}

func TestEWMA(t *testing.T) {
	tr := load.NewEWMA(load.EWMAConfig{Decay: time.Second})
	answer(tr, 1000*ms, 10*ms)
	answer(tr, 2000*ms, 15*ms) // a mean: a peak is averaged in
	e := math.Exp(-1)
	mean := 10*e + 15*(1-e)
	if got := tr.Load(2000 * ms); !near(got, mean*float64(ms)) {
		t.Fatalf("Load = %v ns, want %v ms", got, mean)
	}
	answer(tr, 3000*ms, 1000*ms) // counts as twice the mean
	mean = mean*e + 2*mean*(1-e)
	if got := tr.Load(3000 * ms); !near(got, mean*float64(ms)) {
		t.Fatalf("after an answer of 1 s Load = %v ns, want %v ms", got, mean)
	}
	tr.Start(3000 * ms)
	tr.Start(3000 * ms)
	if got := tr.Load(3000 * ms); !near(got, 3*mean*float64(ms)) {
		t.Fatalf("with two in flight Load = %v ns, want 3 x %v ms", got, mean)
	}
}

func TestPenalty(t *testing.T) {
	tests := []struct {
		name       string
		config     load.EWMAConfig
		o          turret.Outcome
		retryAfter time.Duration
		want       time.Duration
	}{
		{"default of PeakEWMA", load.EWMAConfig{}, turret.Failure, 0, 5 * time.Second},
		{"given", load.EWMAConfig{Penalty: time.Second}, turret.Failure, 0, time.Second},
		{"none", load.EWMAConfig{Penalty: -1}, turret.Failure, 0, 20 * time.Millisecond},
		{"asked for more", load.EWMAConfig{}, turret.Overload, 8 * time.Second, 8 * time.Second},
		{"asked for less", load.EWMAConfig{}, turret.Overload, time.Second, 5 * time.Second},
		{"asked for a year", load.EWMAConfig{}, turret.Overload, 365 * 24 * time.Hour, 5 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := load.NewPeakEWMA(tt.config)
			tr.Done(21*ms, tr.Start(ms), tt.o, tt.retryAfter)
			if got := tr.Load(21 * ms); !near(got, float64(tt.want)) {
				t.Errorf("Load = %v, want %v", time.Duration(got), tt.want)
			}
		})
	}
	t.Run("of EWMA is ten typical calls", func(t *testing.T) {
		fleet := latency.NewFleet()
		for i := range int64(1000) {
			fleet.Observe(i*10*ms, 4*time.Millisecond)
		}
		tr := load.NewEWMA(load.EWMAConfig{Typical: fleet.Typical})
		tr.Done(ms, tr.Start(0), turret.Failure, 0)
		if got, want := tr.Load(ms), 40*float64(ms)/1.2; !near(got, want) {
			t.Errorf("Load = %v, want %v", got, want)
		}
	})
}

// A cancelled call is a lower bound: it took at least this long.
func TestCancelledLate(t *testing.T) {
	tr := load.NewPeakEWMA(load.EWMAConfig{})
	answer(tr, 10*ms, 10*ms)
	tr.Done(510*ms, tr.Start(10*ms), turret.Ignored, 0)
	if got := tr.Load(510 * ms); !near(got, 500*float64(ms)) {
		t.Errorf("Load = %v, want 500 ms", time.Duration(got))
	}
}

// An answer is a sign of life; a failure is none: it may be our own deadline.
func TestSilence(t *testing.T) {
	tr := load.NewPeakEWMA(load.EWMAConfig{Penalty: -1})
	first, second := tr.Start(0), tr.Start(0)
	tr.Start(0)
	tr.Done(500*ms, first, turret.Failure, 0)
	if got := tr.Load(900 * ms); !near(got, 900*3*float64(ms)) {
		t.Errorf("after a failure: Load = %v, want 3 x 900 ms", time.Duration(got))
	}
	tr.Done(900*ms, second, turret.Success, 0)
	answered := tr.Load(900 * ms)
	if got := tr.Load(1000 * ms); got > answered {
		t.Errorf("100 ms after an answer: Load grew from %v to %v", answered, got)
	}
}

// An endpoint that was never measured is tried at once, and is taken for a
// typical one while its first calls are in flight: neither avoided nor flooded.
func TestNewcomer(t *testing.T) {
	fleet := latency.NewFleet()
	old := load.NewEWMA(load.EWMAConfig{Typical: fleet.Typical})
	for i := range int64(1000) {
		answer(old, i*10*ms+2*ms, 2*ms)
		fleet.Observe(i*10*ms+2*ms, 2*time.Millisecond)
	}
	now := 9992 * ms
	newcomer := load.NewEWMA(load.EWMAConfig{Typical: fleet.Typical})
	if n, idle := newcomer.Load(now), old.Load(now+int64(time.Hour)); n > idle {
		t.Errorf("newcomer %v, an old one that was idle for an hour %v", n, idle)
	}
	newcomer.Start(now)
	if n, o := newcomer.Load(now), old.Load(now); !near(n, 2*o) {
		t.Errorf("with a call in flight the newcomer's load is %v, the old one's without %v", n, o)
	}
}

// Streams and calls are counted apart and together.
func TestInFlight(t *testing.T) {
	p := load.NewPending()
	stream, call := p.StartStream(0), p.Start(0)
	if p.Load(0) != 2 || p.InFlight() != 2 {
		t.Fatalf("Load = %v, InFlight = %d, want 2", p.Load(0), p.InFlight())
	}
	p.Done(0, call, turret.Success, 0)
	if p.InFlight() != 1 {
		t.Fatalf("InFlight = %d, want 1", p.InFlight())
	}
	p.Done(0, stream, turret.Success, 0)
	if p.InFlight() != 0 {
		t.Fatalf("InFlight = %d, want 0", p.InFlight())
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		config load.EWMAConfig
		want   string
	}{
		{load.EWMAConfig{Decay: 1}, "Decay is 1ns, must be at least 1µs"},
		{load.EWMAConfig{Decay: -1}, "Decay is -1ns"},
		{load.EWMAConfig{DefaultRTT: -1}, "DefaultRTT is -1ns, must be at least 0"},
	} {
		err := tt.config.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "load: "+tt.want) {
			t.Errorf("%+v: %v, want %q", tt.config, err, tt.want)
			continue
		}
		func() {
			defer func() {
				if p, ok := recover().(error); !ok || p.Error() != "load: NewPeakEWMA: "+strings.TrimPrefix(err.Error(), "load: ") {
					t.Errorf("panic %v, want %v", p, err)
				}
			}()
			load.NewPeakEWMA(tt.config)
		}()
	}
}

func TestAllocations(t *testing.T) {
	tr := load.NewEWMA(load.EWMAConfig{Typical: latency.NewFleet().Typical})
	now := int64(0)
	if n := testing.AllocsPerRun(100, func() {
		answer(tr, now, ms)
		now += ms
	}); n != 0 {
		t.Errorf("a call allocates %v times", n)
	}
}
