package limiters

import (
	"os"
	"testing"
	"time"

	"github.com/turret-go/turret/test/experiments/surge"
)

func TestMain(m *testing.M) {
	Quiet()
	os.Exit(m.Run())
}

// brief is a surge of twice what a small server can do.
func brief() surge.Scenario {
	const second = time.Second
	return surge.Scenario{
		ID: "brief", Normal: 0.5, During: 2, Capacity: 500, Server: surge.Workers(5), Room: 5,
		Quiet: 3 * second, Event: 4 * second, Rest: second, Deadline: second / 10,
	}.Filled()
}

// TestLimitsWork sees that each limit lets calls in, and that one that should hold
// in a surge of a pool does: a comparison with one that is not set up right is worth
// nothing. How well a peer holds is its own affair.
func TestLimitsWork(t *testing.T) {
	least := map[string]float64{ // goodput
		Ours: 0.85, Keyed: 0.85, Tight: 0.9, "Netflix Gradient2 (windows)": 0.8, "Envoy gradient": 0.7,
		"failsafe-go limiter": 0.7, "go-zero shedder (always on)": 0.6,
	}
	for _, l := range All() {
		t.Run(l.Name, func(t *testing.T) {
			r := surge.Run(t, brief(), l, 1)
			if got := r.Goodput(); got < least[l.Name] {
				t.Errorf("goodput %.2f, want at least %.2f", got, least[l.Name])
			}
			if got := r.Refused(); got > 0.95 {
				t.Errorf("%.2f refused under half the load", got)
			}
			if l.Name == Nothing && r.Goodput() > 0.5 {
				t.Errorf("goodput %.2f with nothing: that is no surge", r.Goodput())
			}
		})
	}
}

// TestOverGRPC plays the same over gRPC: clients see what the limit lets in.
func TestOverGRPC(t *testing.T) {
	for _, l := range All() {
		if l.Name != Ours && l.Name != Tight && l.Name != Nothing {
			continue
		}
		t.Run(l.Name, func(t *testing.T) {
			r := surge.RunWire(t, brief(), l, 1)
			if got := r.Goodput(); (got > 0.9) == (l.Name == Nothing) {
				t.Errorf("goodput %.2f", got)
			}
			if got := r.Reaches(time.Second, 4*time.Second); got < 1.8 || got > 2.2 {
				t.Errorf("the server gets %.2f times what it can do, want 2", got)
			}
		})
	}
}

// TestThrottlesWork sees that clients with a throttle send less.
func TestThrottlesWork(t *testing.T) {
	sc := brief()
	sc.During, sc.Capacity, sc.Server = 8, 200, surge.Workers(2)
	for _, l := range Throttles() {
		t.Run(l.Name, func(t *testing.T) {
			got := surge.RunWire(t, sc, l, 1).Reaches(time.Second, 4*time.Second)
			if most := 6.0; l.Name != Nothing && got > most || got < 0.5 {
				t.Errorf("the server gets %.2f times what it can do, want 0.5 to %v", got, most)
			}
		})
	}
}

// TestTwoServers sees that levels hold over two hops.
func TestTwoServers(t *testing.T) {
	sc := surge.TwoServers()[1]
	sc.Capacity, sc.Server, sc.Quiet, sc.Event = 300, surge.Workers(3), 3*time.Second, 3*time.Second
	for _, l := range Fronts() {
		t.Run(l.Name, func(t *testing.T) {
			f := surge.RunWire(t, sc, l, 1).Front()
			if alone := l.Name != BothFull; f.Goodput < 0.7 || alone && f.Alone < 0.8 {
				t.Errorf("goodput %.2f, and %.2f of the calls that the first server answers alone", f.Goodput, f.Alone)
			}
			if first, last := f.Levels[0], f.Levels[3]; l.Name == NoLevels && first > 0.7 || l.Name != NoLevels && first < last+0.4 {
				t.Errorf("answered by level: %.2f", f.Levels)
			}
		})
	}
}
