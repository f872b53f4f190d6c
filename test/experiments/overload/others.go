package main

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest" // registers "least_request_experimental"

	_ "github.com/turret-go/turret/balance" // registers "turret.P2C"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/hops"
	"github.com/turret-go/turret/test/experiments/limiters"
	"github.com/turret-go/turret/test/experiments/sim"
	"github.com/turret-go/turret/test/experiments/surge"
)

// storms is the experiment with retries over three hops.
func storms() experiment {
	e := experiment{
		id: "E6", title: "three hops that retry, a backend that fails for 10 s",
		mine: []string{hops.Ours, hops.Ours + " (error wrapped)", hops.Ours + " (error replaced)"},
		columns: []column{
			{"average", "backend gets: most", most, false},
			{"worst", "in the worst half second: most", most, false},
			{"recovered", "recovered s: most", most, false},
		},
	}
	for _, policy := range e.mine {
		e.checks = append(e.checks,
			atMost("average", 1.25).by(policy), atMost("worst", 1.5).by(policy), atMost("recovered", 0.1).by(policy))
	}
	byName := map[string]hops.Retrier{}
	for _, r := range hops.All() {
		byName[r.Name] = r
		e.policies = append(e.policies, r.Name)
	}
	e.measure = func(t *testing.T, c *cells.Cell) {
		s := hops.Run(t, byName[c.Policy], c.Seed)
		c.Measures["average"], c.Measures["worst"], c.Measures["recovered"] = s.Average, s.Worst, s.Recovered
	}
	return e
}

// pauses is the experiment with hedges.
func pauses() experiment {
	const hedged = " (Hedge)"
	e := experiment{
		id: "E7", title: "20 backends that pause for 200 ms every 5 to 10 s, 10 clients",
		columns: []column{
			{"p50", "p50 ms: median", median, false},
			{"p99", "p99 ms: median", median, false},
			{"p99.9", "p99.9 ms: median", median, false},
			{"load", "backends get: most", most, false},
		},
	}
	byName := map[string]*sim.Policy{}
	for _, balanced := range []*sim.Policy{sim.Turret(), sim.Standard("least_request_experimental"), sim.Standard("round_robin")} {
		again := *balanced
		again.Name += hedged
		again.Dial = func() []grpc.DialOption {
			return interceptors.New(interceptors.Hedge(hedge.Config{})).DialOptions()
		}
		for _, p := range []*sim.Policy{&again, balanced} {
			byName[p.Name] = p
			e.policies = append(e.policies, p.Name)
		}
	}
	e.mine = e.policies[:1]
	e.checks = []check{atMost("p99", 16.4).by(e.mine[0]), atMost("p99.9", 25).by(e.mine[0]), atMost("load", 1.05).by(e.mine[0])}
	e.measure = func(t *testing.T, c *cells.Cell) {
		sc := sim.E7(e.id, 4, 9600)
		sc.Clients, sc.Duration, sc.To = 10, 6*time.Second, 6*time.Second
		r := sim.Run(t, sc, byName[c.Policy], c.Seed)
		for i, q := range sim.Quantiles(r.Judged(sc), .5, .99, .999) {
			c.Measures[[]string{"p50", "p99", "p99.9"}[i]] = q.Seconds() * 1000
		}
		got := 0.0
		for _, bins := range r.Arrivals {
			for _, n := range bins {
				got += float64(n)
			}
		}
		c.Measures["load"] = got / float64(len(r.Calls))
	}
	return e
}

// twoServers are the experiments with levels over two hops.
func twoServers() (all []experiment) {
	for _, sc := range surge.TwoServers() {
		e := experiment{
			id: sc.ID, title: sc.Title,
			columns: []column{
				{"goodput", "goodput behind %: least", least, true},
				{"reaches", "server behind gets: most", most, false},
				{"wasted", "work wasted in front %: most", most, true},
				{"alone", "calls for the first alone %: least", least, true},
			},
		}
		for i := range levelNames {
			e.columns = append(e.columns, column{levelNames[i], levelNames[i] + " %: mean", mean, true})
		}
		byName := map[string]*surge.Limit{}
		for _, l := range limiters.Fronts() {
			byName[l.Name] = l
			e.policies = append(e.policies, l.Name)
		}
		if sc.Alone > 0 {
			e.mine = []string{limiters.Fed}
			e.checks = []check{
				atMost("wasted", 0.1).by(limiters.Fed), atLeast("goodput", 0.95).by(limiters.Fed),
				atLeast("critical-plus", 0.994).by(limiters.Fed),
			}
		} else {
			e.mine = []string{limiters.BothFull}
			e.checks = []check{atLeast("critical-plus", 0.999).by(limiters.BothFull).as(mean), atLeast("goodput", 0.98).by(limiters.BothFull)}
		}
		e.measure = func(t *testing.T, c *cells.Cell) {
			f := surge.RunWire(t, sc, byName[c.Policy], c.Seed).Front()
			m := c.Measures
			m["goodput"], m["reaches"], m["wasted"], m["alone"] = f.Goodput, f.Reaches, f.Wasted, f.Alone
			for i, share := range f.Levels {
				m[levelNames[i]] = share
			}
		}
		all = append(all, e)
	}
	return all
}

// throttles is the experiment with clients that hold back.
func throttles() experiment {
	sc := surge.Throttled()
	e := experiment{
		id: sc.ID, title: sc.Title, mine: []string{limiters.Throttle},
		columns: []column{
			{"reaches", "server gets: most", most, false},
			{"early", "in the first second: most", most, false},
			{"goodput", "goodput %: least", least, true},
			{"recovered", "recovered s: most", most, false},
		},
		checks: []check{
			atMost("reaches", 2.1).by(limiters.Throttle), atLeast("goodput", 0.98).by(limiters.Throttle),
			atMost("recovered", 3.5).by(limiters.Throttle),
		},
	}
	byName := map[string]*surge.Limit{}
	for _, l := range limiters.Throttles() {
		byName[l.Name] = l
		e.policies = append(e.policies, l.Name)
	}
	e.measure = func(t *testing.T, c *cells.Cell) {
		r := surge.RunWire(t, sc, byName[c.Policy], c.Seed)
		m := c.Measures
		m["goodput"], m["recovered"] = r.Goodput(), r.Recovered()
		m["early"], m["reaches"] = r.Reaches(0, time.Second), r.Reaches(time.Second, sc.Event)
	}
	return e
}
