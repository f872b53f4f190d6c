package main

import (
	"testing"
	"time"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/hops"
	"github.com/turret-go/turret/test/experiments/limiters"
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
			e.mine = []string{limiters.Fed, limiters.AtDoor}
			e.checks = []check{
				atMost("wasted", 0.1).by(limiters.AtDoor), atLeast("goodput", 0.95).by(limiters.AtDoor),
				atLeast("critical-plus", 0.994).by(limiters.AtDoor),
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
			{"released", "held back after it s: most", most, false},
		},
		checks: []check{
			atMost("reaches", 2.1).by(limiters.Throttle), atLeast("goodput", 0.98).by(limiters.Throttle),
			atMost("recovered", 3.5).by(limiters.Throttle), atMost("released", 3.5).by(limiters.Throttle),
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
		m["goodput"], m["recovered"], m["released"] = r.Goodput(), r.Recovered(), r.Released()
		m["early"], m["reaches"] = r.Reaches(0, time.Second), r.Reaches(time.Second, sc.Event)
	}
	return e
}
