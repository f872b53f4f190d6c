package main

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	_ "github.com/turret-go/turret/balance" // registers "turret.P2C"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/sim"
)

// hedgers are what the clients of a fleet have, in the order of the table.
func hedgers() []*sim.Policy {
	with := func(name string, c hedge.Config) *sim.Policy {
		p := sim.Turret()
		p.Name += " and " + name
		p.Dial = func() []grpc.DialOption { return interceptors.New(interceptors.Hedge(c)).DialOptions() }
		return p
	}
	return []*sim.Policy{
		sim.Turret(),
		with("Hedge", hedge.Config{}),
		with("Hedge (quantile 0.97)", hedge.Config{Quantile: 0.97}),
		with("Hedge (no budget)", hedge.Config{Budget: retry.Unlimited}),
		with("Hedge (after 10 ms without budget)", hedge.Config{Delay: 10 * time.Millisecond, Budget: retry.Unlimited}),
	}
}

// hedges is the experiment with hedges in a fleet whose servers stand still now and
// then. It takes long, and is played with the first seed only.
func hedges() experiment {
	sc := sim.E7("E7", 4, 9600)
	e := experiment{
		id: sc.ID, title: sc.Title + ", clients that hedge",
		columns: []column{
			{"p50", "p50 ms", median, false},
			{"p99", "p99 ms", median, false},
			{"p99.9", "p99.9 ms", median, false},
			{"sent", "servers get", median, false},
		},
	}
	for _, p := range hedgers() {
		e.policies = append(e.policies, p.Name)
	}
	e.measure = func(t *testing.T, c *cells.Cell) {
		all := hedgers()
		p := all[slices.IndexFunc(all, func(p *sim.Policy) bool { return p.Name == c.Policy })]
		measureHedges(sc, sim.Run(t, sc, p, c.Seed), c.Measures)
	}
	return e
}

func measureHedges(sc *sim.Scenario, r *sim.Result, m cells.Measures) {
	calls := r.Judged(sc)
	for i, q := range sim.Quantiles(calls, 0.5, 0.99, 0.999) {
		m[[]string{"p50", "p99", "p99.9"}[i]] = q.Seconds() * 1000
	}
	m["goodput"] = 1 - float64(sim.Failed(calls))/float64(len(calls))
	m["sent"] = r.Sent()
}
