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
		fmt.Fprintf(out, "\n### %s: %s\n\n%d clients, %.0f calls/s together, window %v; median of the seeds (least - most)\n\n",
			e.id, sc.Title, sc.Clients, sc.Rate, sc.To-sc.From)
		table(out, e, rows)
		missed += judge(out, e, rows, gather(results, e.control, seeds))
	}
	return missed
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

func table(out io.Writer, e experiment, rows map[string][]measures) {
	columns := append([]string{"p50", "p90", "p99", "p99.9"}, e.columns...)
	fmt.Fprint(out, "| policy |")
	for _, c := range columns {
		fmt.Fprintf(out, " %s |", c)
	}
	fmt.Fprint(out, "\n|---|")
	for range columns {
		fmt.Fprint(out, "--:|")
	}
	fmt.Fprintln(out)
	for _, policy := range policiesFor(experiment{id: e.id, peers: all}, false) {
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
		fmt.Fprintln(out)
	}
}

// spread writes a figure with its range over the seeds.
func spread(all []measures, figure string) string {
	values := valuesOf(all, figure)
	low, high := values[0], values[len(values)-1]
	middle := values[len(values)/2]
	if number(low) == number(high) {
		return number(middle)
	}
	return fmt.Sprintf("%s (%s-%s)", number(middle), number(low), number(high))
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
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 2:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// judge prints whether the median of our figures is within its bounds.
func judge(out io.Writer, e experiment, rows, control map[string][]measures) (missed int) {
	mine := rows[ours().Name]
	if len(mine) == 0 {
		return 0
	}
	get := func(policy, figure string) float64 {
		all := rows[policy]
		if policy == controlled {
			all = control[ours().Name]
		}
		if len(all) == 0 {
			return 0
		}
		values := valuesOf(all, figure)
		return values[len(values)/2]
	}
	fmt.Fprintln(out)
	for _, c := range e.checks {
		bound := c.bound(get)
		if bound == 0 && c.of != "bans" {
			continue // the other policy was not measured
		}
		values := valuesOf(mine, c.of)
		got := values[len(values)/2]
		met := got <= bound
		if c.atLeast {
			met = got >= bound
		}
		verdict := "met"
		if !met {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(out, "- %s: %s (%s; bound %s)\n", c.text, verdict, spread(mine, c.of), number(bound))
	}
	return missed
}
