package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// report prints a table for each experiment, and returns how many of the
// targets we missed.
func report(out io.Writer, results map[string]cell, seeds []uint64, only []string) (missed int) {
	for _, e := range experiments {
		rows := gather(results, e.id, seeds)
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

// gather returns the measures of an experiment by policy, one for each seed.
func gather(results map[string]cell, id string, seeds []uint64) map[string][]measures {
	rows := map[string][]measures{}
	for _, key := range slices.Sorted(maps.Keys(results)) {
		if c := results[key]; c.Experiment == id && slices.Contains(seeds, c.Seed) {
			rows[c.Policy] = append(rows[c.Policy], c.Measures)
		}
	}
	return rows
}

// medians returns the figures of an experiment and of its control.
func medians(results map[string]cell, e experiment, seeds []uint64) figures {
	rows, control := gather(results, e.id, seeds), gather(results, e.control, seeds)
	return func(policy, figure string) (float64, bool) {
		all := rows[policy]
		if policy == controlled {
			all = control[ours().Name]
		}
		if len(all) == 0 {
			return 0, false
		}
		return median(all, figure), true
	}
}

func table(out io.Writer, e experiment, rows map[string][]measures) {
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
			fmt.Fprintf(out, " %s |", spread(rows[policy], c))
		}
		fmt.Fprintf(out, " %s | %s |\n", ratio(rows, policy, "p99"), ratio(rows, policy, "p99.9"))
	}
}

// verdicts prints whether the median of our figures is within its bounds.
func verdicts(out io.Writer, e experiment, f figures, mine []measures) (missed int) {
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
		fmt.Fprintf(out, "- %s: %s (%s; bound %s)\n", c, verdict, spread(mine, c.of), number(bound))
	}
	return missed
}

// spread writes a figure's median with its range over the seeds.
func spread(all []measures, figure string) string {
	values := valuesOf(all, figure)
	low, high := number(values[0]), number(values[len(values)-1])
	if low == high {
		return low
	}
	return fmt.Sprintf("%s (%s to %s)", number(median(all, figure)), low, high)
}

// ratio writes a policy's figure as a multiple of ours.
func ratio(rows map[string][]measures, policy, figure string) string {
	mine := rows[ours().Name]
	if len(mine) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2fx", median(rows[policy], figure)/median(mine, figure))
}

func median(all []measures, figure string) float64 {
	values := valuesOf(all, figure)
	return values[len(values)/2]
}

func valuesOf(all []measures, figure string) []float64 {
	var values []float64
	for _, m := range all {
		values = append(values, m[figure])
	}
	slices.Sort(values)
	return values
}

func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 2:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
