package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/turret-go/turret/test/experiments/cells"
)

// A report is what was measured, and with which seeds.
type report struct {
	results      map[string]cells.Cell
	only         []string // experiments; nil: all
	known, fresh []uint64
}

// chosen returns the experiments of the report that have results.
func (r *report) chosen() (all []experiment) {
	for _, e := range experiments() {
		if len(cells.Gather(r.results, e.id, r.known)) > 0 && (r.only == nil || slices.Contains(r.only, e.id)) {
			all = append(all, e)
		}
	}
	return all
}

// cells returns the cells to measure.
func (r *report) cells(policies []string) (all []cells.Cell) {
	for _, e := range experiments() {
		if r.only != nil && !slices.Contains(r.only, e.id) {
			continue
		}
		for _, p := range e.policies {
			if policies != nil && !slices.Contains(policies, p) {
				continue
			}
			for _, seed := range r.seedsOf(e, p) {
				all = append(all, cells.Cell{Experiment: e.id, Policy: p, Seed: seed})
			}
		}
	}
	return all
}

// seedsOf returns the seeds with which a policy is measured.
func (r *report) seedsOf(e experiment, policy string) []uint64 {
	if e.ours(policy) {
		return slices.Concat(r.known, r.fresh)
	}
	return r.known[:min(len(r.known), peerSeeds)]
}

// targets prints a row for each target.
func (r *report) targets(out io.Writer) {
	fmt.Fprintf(out, "| | target | seeds %s | seeds %s | |\n|---|---|--:|--:|---|\n", cells.List(r.known), cells.List(r.fresh))
	for _, e := range r.chosen() {
		for _, c := range e.checks {
			known := cells.Gather(r.results, e.id, r.known)[c.policy]
			fresh := cells.Gather(r.results, e.id, r.fresh)[c.policy]
			if len(known) == 0 {
				continue
			}
			got, met := c.met(known)
			row := fmt.Sprintf("| `%s` | %s | %s |", e.id, c, value(got, c.percent()))
			if len(fresh) == 0 {
				row += " |"
			} else {
				also, metToo := c.met(fresh)
				row += fmt.Sprintf(" %s |", value(also, c.percent()))
				met = met && metToo
			}
			fmt.Fprintln(out, row, verdict(met), "|")
		}
	}
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// percent reports whether the figure is a share.
func (c check) percent() bool {
	return !slices.Contains(multiples, c.figure)
}

func (c check) String() string {
	sign := "<="
	if c.atLeast {
		sign = ">="
	}
	of := ""
	if c.of == mean || c.of == median {
		of = c.of.String() + " "
	}
	return fmt.Sprintf("%s%s %s %s", of, c.figure, sign, value(c.bound, c.percent()))
}

func value(v float64, percent bool) string {
	switch {
	case percent && v >= 0.9985 && v < 1:
		return fmt.Sprintf("%.2f %%", 100*v)
	case percent && v > 0 && v < 0.01:
		return fmt.Sprintf("%.2f %%", 100*v)
	case percent:
		return fmt.Sprintf("%.1f %%", 100*v)
	default:
		return cells.Number(v)
	}
}

// sections prints a table for each experiment.
func (r *report) sections(out io.Writer) {
	for _, e := range r.chosen() {
		fmt.Fprintf(out, "\n### %s: %s\n\n| |", e.id, e.title)
		for _, c := range e.columns {
			fmt.Fprintf(out, " %s |", c.title)
		}
		fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("--:|", len(e.columns)))
		for _, p := range e.policies {
			name := p
			if e.ours(p) {
				name = "**" + p + "**"
			}
			r.row(out, e, p, name, r.known)
			if e.ours(p) {
				r.row(out, e, p, name+", fresh seeds", r.fresh)
			}
		}
	}
}

// row prints the figures of a policy.
func (r *report) row(out io.Writer, e experiment, policy, name string, seeds []uint64) {
	all := cells.Gather(r.results, e.id, seeds)[policy]
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(out, "| %s |", name)
	for _, c := range e.columns {
		fmt.Fprintf(out, " %s |", strings.TrimSuffix(value(c.of.of(all, c.figure), c.percent), " %"))
	}
	fmt.Fprintln(out)
}

// multiples are the figures that are no shares.
var multiples = []string{"p99", "late", "recovered", "released", "average", "worst", "reaches", "early", "p50", "p99.9", "sent"}
