package main

import (
	"testing"
	"time"

	"github.com/turret-go/turret/test/experiments/sim"
)

// TestGolden compares runs with what they were when the figures in the
// documentation were measured. A change of the policy on purpose measures
// them again and puts here what the test prints. (Other processors fuse
// multiplication and addition, and so round differently.)
func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		sc   *sim.Scenario
		want string
	}{
		{cut(sim.E1("E1", 3, 10), 18*time.Second), "18244 calls, p50 167.480644ms, p99 193.037801ms, hash e1f8b4c7a5b08d47"},
		{cut(sim.E2(2), sim.Trouble(2)+3*time.Second), "54457 calls, p50 8.834981ms, p99 28.768832ms, hash 8ce8a63d344d5dda"},
	} {
		if got := fingerprint(t, tt.sc); got != tt.want {
			t.Errorf("%s: %s; want %s", tt.sc.ID, got, tt.want)
		}
	}
}
