package main

import (
	"math/rand/v2"
	"testing"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/sim"
)

// TestHedgesStayInTheirBudget plays a small fleet that is full to nine tenths. Hedge must not send more than its budget allows, and
// hedges without a budget show that there is something to bound.
func TestHedgesStayInTheirBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	sc := sim.E7("full", 4, 14400)
	sc.Clients, sc.Rate, sc.Duration, sc.To = 4, sc.Rate/5, sc.Duration/8, sc.To/8
	whole := sc.Backends
	sc.Backends = func(r *rand.Rand) []*sim.Backend { return whole(r)[:4] }
	const none, ours, free = "turret.P2C", "turret.P2C and Hedge", "turret.P2C and Hedge (after 10 ms without budget)"
	figures := map[string]cells.Measures{}
	for _, p := range hedgers() {
		if p.Name != none && p.Name != ours && p.Name != free {
			continue
		}
		m := cells.Measures{}
		measureHedges(sc, sim.Run(t, sc, p, 1), m)
		t.Logf("%s: p99 %.1f ms, p99.9 %.1f ms, the servers get %.3f times the calls", p.Name, m["p99"], m["p99.9"], m["sent"])
		figures[p.Name] = m
	}
	if got := figures[ours]; got["sent"] > 1.06 || got["goodput"] < figures[none]["goodput"]-0.005 {
		t.Errorf("with Hedge the servers get %.3f times the calls, and %.4f are answered; %.4f without", got["sent"], got["goodput"], figures[none]["goodput"])
	}
	if got := figures[free]["sent"]; got < 1.1 {
		t.Errorf("without a budget the servers get %.3f times the calls, so that this test shows nothing", got)
	}
}
