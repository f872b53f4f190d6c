package main

import (
	"slices"
	"testing"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/limiters"
	"github.com/turret-go/turret/test/experiments/surge"
)

// An experiment is something that happens, the policies that meet it, and what must
// hold of ours.
type experiment struct {
	id, title string
	policies  []string // in the order of the tables
	mine      []string // those of them that are Turret's and measured with all seeds
	columns   []column
	checks    []check
	measure   func(t *testing.T, c *cells.Cell)
	drawn     bool // over time
}

func (e experiment) ours(policy string) bool { return slices.Contains(e.mine, policy) }

// A column is a figure in a table.
type column struct {
	figure, title string
	of            summary
	percent       bool
}

// A summary is one figure of all seeds.
type summary uint8

const (
	least summary = iota
	most
	mean
	median
)

func (s summary) String() string { return [...]string{"least", "most", "mean", "median"}[s] }

func (s summary) of(all []cells.Measures, figure string) float64 {
	values := cells.Values(all, figure)
	switch s {
	case least:
		return values[0]
	case most:
		return values[len(values)-1]
	case mean:
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		return sum / float64(len(values))
	default:
		return values[len(values)/2]
	}
}

// A check requires that a figure of a policy is at least, or at most, a bound with
// every seed, or in the mean or median.
type check struct {
	policy, figure string
	of             summary
	atLeast        bool
	bound          float64
}

func (c check) met(all []cells.Measures) (float64, bool) {
	got := c.of.of(all, c.figure)
	if c.atLeast {
		return got, got >= c.bound
	}
	return got, got <= c.bound
}

func atLeast(figure string, bound float64) check {
	return check{policy: limiters.Ours, figure: figure, of: least, atLeast: true, bound: bound}
}

func atMost(figure string, bound float64) check {
	return check{policy: limiters.Ours, figure: figure, of: most, bound: bound}
}

// as judges the mean or the median in place of each seed.
func (c check) as(s summary) check {
	c.of = s
	return c
}

// by judges another policy.
func (c check) by(policy string) check {
	c.policy = policy
	return c
}

// surges are the targets of surges at a pool.
func surges() []check {
	return []check{
		atLeast("goodput", 0.98), atLeast("first", 0.94), atMost("p99", 1.4), atMost("late", 0),
		atMost("recovered", 0.2), atMost("refused", 0.001),
	}
}

// surgeChecks are the targets by scenario.
var surgeChecks = map[string][]check{
	"e5-2x":     surges(),
	"e5-10x":    surges(),
	"e5-5x-30s": surges(),
	"e5x-2x":    {atLeast("goodput", 0.96), atLeast("goodput", 0.975).as(mean), atMost("p99", 1.4)},
	"e5b-cpu":   {atLeast("goodput", 0.975), atMost("p99", 2), atMost("p99", 1.6).as(median)},
	"e5b-cpu10": {atLeast("goodput", 0.975), atMost("p99", 2), atMost("p99", 1.6).as(median)},
	"e5b-usl":   {atLeast("goodput", 0.96)},
	"half":      {atLeast("goodput", 0.97), atMost("p99", 1.9)},
	"half2x":    {atLeast("goodput", 0.97), atMost("p99", 1.9)},
	"halfcpu":   {atLeast("goodput", 0.96), atMost("p99", 2)},
	"slow10":    {atLeast("goodput", 0.95), atLeast("later", 0.99)},
	"hang":      {atLeast("goodput", 0.8), atLeast("goodput", 0.97)},
	"n90":       {atMost("refused", 0.001)},
	"mix-n":     {atMost("refused", 0.005)},
	"streams-n": {atMost("refused", 0)},
	"small-3x":  {atLeast("goodput", 0.9)},
	"tenants":   {atLeast("fairness", 0.97).by(limiters.Keyed)},
	"levels":    {atLeast("critical-plus", 0.999).as(mean), atLeast("goodput", 0.98)},
}

var surgeColumns = []column{
	{"goodput", "goodput %: least", least, true},
	{"goodput", "mean", mean, true},
	{"first", "first second %: least", least, true},
	{"p99", "p99: median", median, false},
	{"p99", "most", most, false},
	{"refused", "refused before %: most", most, true},
	{"recovered", "recovered s: most", most, false},
	{"late", "late: most", most, false},
}

var levelNames = [4]string{"critical-plus", "critical", "sheddable-plus", "sheddable"}

// drawnOverTime are the scenarios that are plotted over time.
var drawnOverTime = []string{"e5-2x", "half2x", "slow10", "hang"}

// few are the policies of scenarios that not all of them meet: those that time, keys
// or levels change something for, and Turret's alone where others have been seen in
// a scenario of the kind.
var few = map[string][]string{
	"e5-5x-30s": {limiters.Ours, limiters.Tight, limiters.Loose, "failsafe-go limiter", "kratos bbr", "go-zero shedder"},
	"tenants":   {limiters.Ours, limiters.Keyed, limiters.Tight, "Envoy gradient", "failsafe-go limiter"},
	"levels":    {limiters.Ours, limiters.Tight, "failsafe-go limiter", "failsafe-go limiter (priorities)"},
	"e5x-2x":    {limiters.Ours},
	"e5b-cpu10": {limiters.Ours},
	"half":      {limiters.Ours},
	"mix-n":     {limiters.Ours, limiters.Tight},
	"streams-n": {limiters.Ours, limiters.Tight, limiters.Loose, "Envoy gradient"},
	"cold-2x":   {limiters.Ours},
}

// overGRPC are the scenarios that are played over gRPC too. The first is played with
// all of allOverGRPC and all seeds, and has the targets; the others with the first two
// and the first seed.
var overGRPC = []string{"e5-2x", "e5-10x", "half2x", "slow10", "hang"}

var allOverGRPC = []string{limiters.Ours, limiters.Tight, limiters.Loose}

const wireSuffix = " over gRPC"

// experiments is the table.
func experiments() (all []experiment) {
	for _, sc := range surge.All() {
		all = append(all, surgeExperiment(sc, surge.Run))
	}
	for _, sc := range surge.All() {
		if i := slices.Index(overGRPC, sc.ID); i >= 0 {
			e := surgeExperiment(sc, surge.RunWire)
			e.id += wireSuffix
			e.policies, e.drawn = allOverGRPC, false
			if i > 0 {
				e.policies, e.mine, e.checks = allOverGRPC[:2], nil, nil
			}
			all = append(all, e)
		}
	}
	return slices.Concat(all, []experiment{storms(), throttles(), hedges()}, twoServers())
}

func experimentByID(id string) experiment {
	all := experiments()
	return all[slices.IndexFunc(all, func(e experiment) bool { return e.id == id })]
}

type player func(t *testing.T, sc surge.Scenario, l *surge.Limit, seed uint64) *surge.Result

// surgeExperiment is a surge at one server.
func surgeExperiment(sc surge.Scenario, play player) experiment {
	e := experiment{
		id: sc.ID, title: sc.Title, columns: surgeColumns, checks: surgeChecks[sc.ID],
		mine: []string{limiters.Ours, limiters.Keyed}, drawn: slices.Contains(drawnOverTime, sc.ID),
	}
	for _, l := range limiters.All() {
		if l.Name != limiters.Keyed || sc.Tenants > 1 {
			e.policies = append(e.policies, l.Name)
		}
	}
	if sc.Tenants > 1 {
		e.columns = append([]column{{"fairness", "worst-served tenant %: least", least, true}}, e.columns...)
	}
	if sc.Levels {
		for i := range levelNames {
			e.columns = append(e.columns, column{levelNames[i], levelNames[i] + " %: mean", mean, true})
		}
	}
	if policies, ok := few[sc.ID]; ok {
		e.policies = policies
	}
	e.measure = func(t *testing.T, c *cells.Cell) {
		measureSurge(play(t, sc, limitByName(c.Policy), c.Seed), e.drawn, c)
	}
	return e
}

func limitByName(name string) *surge.Limit {
	all := limiters.All()
	return all[slices.IndexFunc(all, func(l *surge.Limit) bool { return l.Name == name })]
}

func measureSurge(r *surge.Result, drawn bool, c *cells.Cell) {
	m := c.Measures
	m["goodput"], m["first"], m["later"] = r.Goodput(), r.First(), r.Later()
	m["p99"], m["refused"], m["recovered"] = r.Slowness(), r.Refused(), r.Recovered()
	m["late"], m["calls"] = float64(r.Late()), float64(len(r.Calls))
	if r.Tenants > 1 {
		m["fairness"] = r.Fairness()
	}
	if r.Levels {
		for i, share := range r.LevelShares() {
			m[levelNames[i]] = share
		}
	}
	if drawn {
		c.Series = map[string][]float64{"answered": r.Series()}
	}
}
