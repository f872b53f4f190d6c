package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/sim"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

// An experiment is a scenario, what is measured in it, and what must hold.
type experiment struct {
	id       string
	scenario func(seed uint64) *sim.Scenario
	measure  func(sc *sim.Scenario, r *sim.Result, m cells.Measures)
	peers    peers    // the policies that are measured beside ours
	alarm    bool     // our own policy with servers that have an alarm is measured too
	variants bool     // our own policy without some of its parts is measured too
	control  string   // the experiment that this one is compared with
	short    bool     // part of the short form
	checks   []check  // what must hold of our own policy
	columns  []string // of the table; latencies come first by themselves
}

// peers says which peers an experiment measures.
type peers uint8

const (
	none    peers = iota // ours alone
	nearest              // least_request and kratos
	all                  // all of them
)

// A check requires that one of our figures is at most, or at least, a bound, which
// may depend on other policies' figures.
type check struct {
	of      string
	atLeast bool
	bound   float64
	policy  string // if not empty, bound is a multiple of its figure
}

func most(of string, bound float64) check { return check{of: of, bound: bound} }

func least(of string, bound float64) check { return check{of: of, bound: bound, atLeast: true} }

func mostOf(of string, factor float64, policy string) check {
	return check{of: of, bound: factor, policy: policy}
}

func (c check) String() string {
	sign := "<="
	if c.atLeast {
		sign = ">="
	}
	if c.policy != "" {
		return fmt.Sprintf("%s %s %.3gx %s", c.of, sign, c.bound, c.policy)
	}
	return fmt.Sprintf("%s %s %v", c.of, sign, c.bound)
}

// figures returns the median over the seeds of a figure of a policy, and false
// if it was not measured.
type figures func(policy, figure string) (float64, bool)

// judge returns the bound of a check and whether our figure is within it; ok is
// false if something that it needs was not measured.
func (c check) judge(f figures) (bound float64, met, ok bool) {
	got, ok := f(ours().Name, c.of)
	bound = c.bound
	if ok && c.policy != "" {
		var other float64
		other, ok = f(c.policy, c.of)
		bound *= other
	}
	if c.atLeast {
		return bound, got >= bound, ok
	}
	return bound, got <= bound, ok
}

const (
	leastRequest = "least_request_experimental"
	roundRobin   = "round_robin"
	kratos       = "kratos p2c"
)

func latencies(sc *sim.Scenario, r *sim.Result, m cells.Measures) {
	calls := r.Judged(sc)
	for i, q := range sim.Quantiles(calls, .5, .9, .99, .999) {
		m[[]string{"p50", "p90", "p99", "p99.9"}[i]] = float64(q) / float64(ms)
	}
	m["calls"] = float64(len(calls))
	m["failed/client"] = float64(sim.Failed(calls)) / float64(sc.Clients)
}

// slowShare measures the share of the slow backend of E1.
func slowShare(_ *sim.Scenario, r *sim.Result, m cells.Measures) {
	m["share"] = r.Share(0, len(r.Arrivals), 15*s, 45*s)
}

// recovery measures the share of the backend of R1 after it has healed.
func recovery(sc *sim.Scenario, r *sim.Result, m cells.Measures) {
	healed := sc.From + 10*s
	m["share 5-10s"] = r.Share(0, 10, healed+5*s, healed+10*s)
	m["share 15-20s"] = r.Share(0, 10, healed+15*s, healed+20*s)
	for at := healed; at+5*s <= sc.To; at += s / 2 {
		m["most share"] = max(m["most share"], r.Share(0, 10, at, at+5*s))
	}
}

// blip measures the share of the backend of R2.
func blip(sc *sim.Scenario, r *sim.Result, m cells.Measures) {
	m["share"] = r.Share(0, 10, sc.From, sc.From+10*s)
}

// slowHalf measures the share of all calls that the slower half has.
func slowHalf(sc *sim.Scenario, r *sim.Result, m cells.Measures) {
	n := len(r.Arrivals)
	for i := n / 2; i < n; i++ {
		m["slow half"] += r.Share(i, n, sc.From, sc.To) / float64(n)
	}
}

// newcomer measures the share of the backend that joins in E9.
func newcomer(_ *sim.Scenario, r *sim.Result, m cells.Measures) {
	m["share 0-5s"] = r.Share(9, 10, 20*s, 25*s)
	m["share 5-10s"] = r.Share(9, 10, 25*s, 30*s)
	m["share 10-15s"] = r.Share(9, 10, 30*s, 35*s)
}

// evenness measures how far the shares of a healthy fleet are from even, and
// how often it was not taken for healthy.
func evenness(sc *sim.Scenario, r *sim.Result, m cells.Measures) {
	var shares []float64
	for i := range r.Arrivals {
		shares = append(shares, r.Share(i, len(r.Arrivals), sc.From, sc.To))
	}
	m["least share"], m["most share"] = slices.Min(shares), slices.Max(shares)
}

var even = []check{least("least share", 0.95), most("most share", 1.05), most("bans", 0)}

// experiments is the table.
var experiments = []experiment{
	{
		id: "E1", scenario: func(uint64) *sim.Scenario { return sim.E1("E1", 1, 10) },
		measure: slowShare, peers: all, variants: true, short: true, columns: []string{"share"},
		checks: []check{most("p99.9", 215), mostOf("p99.9", 1.0/8, leastRequest), mostOf("p99", 1/8.5, roundRobin)},
	},
	{
		id: "E1b", scenario: func(uint64) *sim.Scenario { return sim.E1("E1b", 20, 10) },
		measure: slowShare, peers: all, alarm: true, columns: []string{"share"},
		checks: []check{mostOf("p99", 1.0/8, leastRequest)},
	},
	{
		id: "E1-3x", scenario: func(uint64) *sim.Scenario { return sim.E1("E1-3x", 1, 3) },
		measure: slowShare, peers: nearest, columns: []string{"share"},
	},
	{
		id: "E2", scenario: sim.E2, peers: all, variants: true, columns: []string{"failed/client"},
		checks: []check{most("failed/client", 8), most("p99.9", 60)},
	},
	{
		id: "E3", scenario: sim.E3, peers: all, columns: []string{"failed/client"},
		checks: []check{most("failed/client", 7)},
	},
	{
		id: "R1", scenario: sim.R1, measure: recovery, peers: none,
		columns: []string{"share 5-10s", "share 15-20s", "most share"},
		checks:  []check{least("share 5-10s", 0.5), least("share 15-20s", 0.9), most("most share", 1.3)},
	},
	{
		id: "R2", scenario: sim.R2, measure: blip, peers: none, variants: true, columns: []string{"share"},
		checks: []check{least("share", 0.85)},
	},
	{
		id: "E4", scenario: func(uint64) *sim.Scenario { return sim.E4("E4", 10, 20, 4800, 20*s, 5*s) },
		measure: slowHalf, peers: all, alarm: true, short: true, columns: []string{"slow half"},
		checks: []check{mostOf("p99", 0.6, leastRequest), mostOf("p99", 1.05, kratos)},
	},
	{
		id: "E4-95", scenario: func(uint64) *sim.Scenario { return sim.E4("E4-95", 10, 20, 5700, 20*s, 5*s) },
		measure: slowHalf, peers: nearest, columns: []string{"slow half"},
		checks: []check{mostOf("p99", 0.5, leastRequest), mostOf("p99", 1.05, kratos)},
	},
	{
		id: "E4-100", scenario: func(uint64) *sim.Scenario { return sim.E4("E4-100", 100, 100, 48000, 4*s, 2*s) },
		measure: slowHalf, peers: nearest, columns: []string{"slow half"},
		checks: []check{mostOf("p99", 0.3, leastRequest), mostOf("p99", 1.05, kratos)},
	},
	{
		id: "E7a", scenario: func(uint64) *sim.Scenario { return sim.E7("E7a", 8, 19200) }, peers: nearest, alarm: true,
		checks: []check{mostOf("p99", 1, leastRequest), mostOf("p99", 1.05, kratos)},
	},
	{
		id: "E7h", scenario: func(uint64) *sim.Scenario { return sim.E7("E7h", 4, 9600) }, peers: nearest, alarm: true, variants: true, short: true,
		checks: []check{mostOf("p99", 1, leastRequest), mostOf("p99", 1.05, kratos)},
	},
	{
		id: "E9", scenario: func(uint64) *sim.Scenario { return sim.E9(true) }, measure: newcomer, peers: nearest, control: "E9-nine",
		columns: []string{"share 0-5s", "share 5-10s", "share 10-15s"},
		checks:  []check{mostOf("p99", 1.1, controlled), least("share 0-5s", 0.25), least("share 10-15s", 0.9)},
	},
	{id: "E9-nine", scenario: func(uint64) *sim.Scenario { return sim.E9(false) }, peers: none},
	{
		id: "E11", scenario: func(uint64) *sim.Scenario { return sim.E11(true, 60*s) }, peers: none, control: "E11-calm",
		checks: []check{mostOf("p99", 1.05, controlled)},
	},
	{id: "E11-calm", scenario: func(uint64) *sim.Scenario { return sim.E11(false, 60*s) }, peers: none},
	{
		id: "E13", scenario: func(uint64) *sim.Scenario { return sim.E13() }, measure: evenness, peers: none,
		columns: []string{"least share", "most share", "bans"}, checks: even,
	},
	{
		id: "E14", scenario: func(uint64) *sim.Scenario { return sim.E14("E14") }, measure: evenness, peers: nearest,
		columns: []string{"least share", "most share", "bans"},
		checks:  append([]check{mostOf("p99", 1.05, leastRequest)}, even...),
	},
	{
		id: "E14-tail", scenario: func(uint64) *sim.Scenario { return sim.E14("E14-tail") }, measure: evenness, peers: nearest,
		columns: []string{"least share", "most share", "bans"},
		checks:  append([]check{mostOf("p99", 1.05, leastRequest)}, even...),
	},
}

// controlled stands for our own policy in the control experiment.
const controlled = "undisturbed"
