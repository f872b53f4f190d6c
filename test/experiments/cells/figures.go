package cells

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Gather returns the measures of an experiment by policy, one for each seed.
func Gather(results map[string]Cell, id string, seeds []uint64) map[string][]Measures {
	rows := map[string][]Measures{}
	for _, key := range slices.Sorted(maps.Keys(results)) {
		if c := results[key]; c.Experiment == id && slices.Contains(seeds, c.Seed) {
			rows[c.Policy] = append(rows[c.Policy], c.Measures)
		}
	}
	return rows
}

// Spread writes a figure's median with its range over the seeds.
func Spread(all []Measures, figure string) string {
	values := Values(all, figure)
	low, high := Number(values[0]), Number(values[len(values)-1])
	if low == high {
		return low
	}
	return fmt.Sprintf("%s (%s to %s)", Number(Median(all, figure)), low, high)
}

// Median returns the median of a figure.
func Median(all []Measures, figure string) float64 {
	values := Values(all, figure)
	return values[len(values)/2]
}

// Values returns the values of a figure, in order.
func Values(all []Measures, figure string) []float64 {
	var values []float64
	for _, m := range all {
		values = append(values, m[figure])
	}
	slices.Sort(values)
	return values
}

// Number writes a figure with as many digits as say something.
func Number(v float64) string {
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

// List writes numbers with commas.
func List(seeds []uint64) string {
	return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(seeds), "[]")), ", ")
}
