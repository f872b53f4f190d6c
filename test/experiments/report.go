package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/turret-go/turret/test/experiments/cells"
)

// report prints a table for each experiment, and returns how many of the
// targets we missed.
func report(out io.Writer, results map[string]cells.Cell, seeds []uint64, only []string) (missed int) {
	for _, e := range experiments {
		rows := cells.Gather(results, e.id, seeds)
		if len(rows) == 0 || only != nil && !slices.Contains(only, e.id) {
			continue
		}
		sc := e.scenario(seeds[0])
		fmt.Fprintf(out, "\n### %s: %s\n\n%s, %.0f calls/s together, judged for %v; latencies in ms\n\n",
			e.id, sc.Title, clients(sc.Clients), sc.Rate, sc.To-sc.From)
		table(out, e, rows)
		missed += verdicts(out, e, medians(results, e, seeds), rows[ours().Name])
	}
	return missed
}

func clients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// medians returns the figures of an experiment and of its control.
func medians(results map[string]cells.Cell, e experiment, seeds []uint64) figures {
	rows, control := cells.Gather(results, e.id, seeds), cells.Gather(results, e.control, seeds)
	return func(policy, figure string) (float64, bool) {
		all := rows[policy]
		if policy == controlled {
			all = control[ours().Name]
		}
		if len(all) == 0 {
			return 0, false
		}
		return cells.Median(all, figure), true
	}
}

func table(out io.Writer, e experiment, rows map[string][]cells.Measures) {
	columns := append([]string{"p50", "p90", "p99", "p99.9"}, e.columns...)
	fmt.Fprint(out, "| policy |")
	for _, c := range columns {
		fmt.Fprintf(out, " %s |", c)
	}
	fmt.Fprint(out, " p99 of ours | p99.9 of ours |\n|---|")
	for range len(columns) + 2 {
		fmt.Fprint(out, "--:|")
	}
	fmt.Fprintln(out)
	for _, policy := range policiesFor(e, false) {
		if len(rows[policy]) == 0 {
			continue
		}
		name := policy
		if policy == ours().Name {
			name = "**" + policy + "**"
		}
		fmt.Fprintf(out, "| %s |", name)
		for _, c := range columns {
			fmt.Fprintf(out, " %s |", cells.Spread(rows[policy], c))
		}
		fmt.Fprintf(out, " %s | %s |\n", ratio(rows, policy, "p99"), ratio(rows, policy, "p99.9"))
	}
}

// verdicts prints whether the median of our figures is within its bounds.
func verdicts(out io.Writer, e experiment, f figures, mine []cells.Measures) (missed int) {
	fmt.Fprintln(out)
	for _, c := range e.checks {
		bound, met, ok := c.judge(f)
		if !ok {
			continue
		}
		verdict := "met"
		if !met {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(out, "- %s: %s (%s; bound %s)\n", c, verdict, cells.Spread(mine, c.of), cells.Number(bound))
	}
	return missed
}

// ratio writes a policy's figure as a multiple of ours.
func ratio(rows map[string][]cells.Measures, policy, figure string) string {
	mine := rows[ours().Name]
	if len(mine) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2fx", cells.Median(rows[policy], figure)/cells.Median(mine, figure))
}
