// Command experiments compares balancing policies: real gRPC servers, clients
// and policies, in virtual time. It prints the tables and draws the plots of
// doc/balancing.md:
//
//	GOWORK=off go run . -doc ../../doc             # everything: an hour or so
//	GOWORK=off go run . -short                     # a minute: ours and least_request
//	GOWORK=off go run . -only E1,E2 -seeds 4,5,6
//
// Each run of a scenario with a policy and a seed is a process of its own, with
// one processor: a run that panics loses one cell, and memory is given back.
// Results are kept in a file and not measured again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/stats"

	_ "github.com/turret-go/turret/balance" // registers "turret.P2C"
	"github.com/turret-go/turret/test/experiments/cells"
	others "github.com/turret-go/turret/test/experiments/peers"
	"github.com/turret-go/turret/test/experiments/sim"
)

func main() {
	if cells.Forked(measureCell) {
		return
	}
	only := flag.String("only", "", "the experiments to run; all if empty")
	policies := flag.String("policies", "", "the policies to run; those of each experiment if empty")
	seeds := flag.String("seeds", "1,2,3", "the seeds")
	short := flag.Bool("short", false, "the short form: ours and least_request, one seed")
	keep := flag.String("results", "results.jsonl", "the file of the results; they are not measured again")
	fresh := flag.String("fresh", "101,102,103", "seeds that nothing was chosen by: for the policies that the targets name")
	doc := flag.String("doc", "", "the folder with balancing.md, whose figures and plots are written; none if empty")
	parallel := flag.Int("j", runtime.NumCPU(), "how many runs at a time")
	flag.Parse()

	chosen := selection{cells.Split(*only), cells.Split(*policies), *short}
	known, unknown := cells.Numbers(*seeds), cells.Numbers(*fresh)
	if *short {
		known, unknown = known[:1], nil
	}
	results := cells.Load(*keep)
	todo := cells.Missing(append(chosen.cells(known, false), chosen.cells(unknown, true)...), results)
	cells.RunAll(todo, *parallel, *keep, "p99", results)
	missed := report(os.Stdout, results, known, chosen.only)
	if *doc != "" {
		if err := document(*doc, results, known, unknown); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if *short && missed > 0 {
		os.Exit(1)
	}
}

// A selection is what the flags leave of the table.
type selection struct {
	only, policies []string // nil: all
	short          bool
}

// cells returns the cells to measure, with all policies of an experiment or
// with those that its checks need.
func (sel selection) cells(seeds []uint64, needed bool) (all []cells.Cell) {
	for _, e := range experiments {
		if sel.only != nil && !slices.Contains(sel.only, e.id) || sel.short && !e.short {
			continue
		}
		names := policiesFor(e, sel.short)
		if needed {
			names = policiesNeeded(e)
		}
		for _, p := range names {
			if sel.policies != nil && !slices.Contains(sel.policies, p) {
				continue
			}
			for _, seed := range seeds {
				all = append(all, cells.Cell{Experiment: e.id, Policy: p, Seed: seed})
			}
		}
	}
	return all
}

// policiesNeeded returns the policies without which the checks cannot judge.
func policiesNeeded(e experiment) []string {
	names := []string{ours().Name}
	for _, c := range e.checks {
		if c.policy != "" && c.policy != controlled && !slices.Contains(names, c.policy) {
			names = append(names, c.policy)
		}
	}
	return names
}

func policiesFor(e experiment, short bool) []string {
	names := []string{ours().Name}
	if short {
		return append(names, leastRequest)
	}
	if e.alarm {
		names = append(names, sim.Alarmed().Name)
	}
	if e.variants {
		for _, p := range sim.Variants() {
			names = append(names, p.Name)
		}
	}
	switch e.peers {
	case nearest:
		names = append(names, leastRequest, kratos)
	case all:
		for _, p := range others.All() {
			if p.Name != "weighted_round_robin" || e.id == "E4" { // it needs what only E4 has: unequal capacity
				names = append(names, p.Name)
			}
		}
	case none:
	}
	return names
}

func measureCell(t *testing.T, c *cells.Cell) { c.Measures = measure(t, *c) }

// measure runs one cell.
func measure(t *testing.T, c cells.Cell) cells.Measures {
	e := experimentByID(c.Experiment)
	policy := policyByName(c.Policy)
	counted := &counter{}
	policy.Stats = counted
	sc, m := e.scenario(c.Seed), cells.Measures{}
	r := sim.Run(t, sc, policy, c.Seed)
	latencies(sc, r, m)
	if e.measure != nil {
		e.measure(sc, r, m)
	}
	m["bans"] = float64(counted.bans.Load())
	return m
}

func ours() *sim.Policy { return sim.Turret() }

func policyByName(name string) *sim.Policy {
	all := slices.Concat([]*sim.Policy{ours(), sim.Alarmed()}, sim.Variants(), others.All())
	return all[slices.IndexFunc(all, func(p *sim.Policy) bool { return p.Name == name })]
}

func experimentByID(id string) experiment {
	return experiments[slices.IndexFunc(experiments, func(e experiment) bool { return e.id == id })]
}

// counter counts the bans that our policy reports as a metric.
type counter struct {
	stats.Handler // nothing else is recorded

	estats.UnimplementedMetricsRecorder

	bans atomic.Int64
}

func (c *counter) RecordInt64Count(h *estats.Int64CountHandle, n int64, _ ...string) {
	if h.Descriptor().Name == "turret.p2c.bans" {
		c.bans.Add(n)
	}
}

func (*counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*counter) HandleRPC(context.Context, stats.RPCStats)                         {}
func (*counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*counter) HandleConn(context.Context, stats.ConnStats)                       {}
