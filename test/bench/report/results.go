package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// results is what one run of the benchmarks has measured.
type results struct {
	config      map[string]string // the machine, as in the file
	loads       []string          // of the machine, one for each comparison
	comparisons []*comparison     // in the order in which they were measured
}

// A comparison is rows that were measured in turns.
type comparison struct {
	name string // of the benchmark
	rows []*row
}

// A row is one thing that was measured, once a round.
type row struct {
	name               string
	cpu, allocs, bytes []float64 // nanoseconds, number and bytes of one call
}

// read reads what the benchmarks have written; file is its name in errors.
func read(from io.Reader, file string) (*results, error) {
	r := &results{config: map[string]string{}}
	reader := benchfmt.NewReader(from, file)
	var errs []error
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.Result:
			if err := r.add(rec); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", rec.Name, err))
			}
		case *benchfmt.SyntaxError:
			errs = append(errs, rec)
		}
	}
	if len(r.comparisons) == 0 {
		errs = append(errs, fmt.Errorf("%s: no results", file))
	}
	return r, errors.Join(append(errs, reader.Err())...)
}

// add takes one measurement.
func (r *results) add(rec *benchfmt.Result) error {
	name, rowName, ok := strings.Cut(string(rec.Name.Full()), "/row=")
	if !ok {
		return errors.New("no row in its name")
	}
	c := r.comparison(name)
	if c == nil {
		c = &comparison{name: name}
		r.comparisons = append(r.comparisons, c)
		r.loads = append(r.loads, rec.GetConfig("load"))
		for _, key := range []string{"cpu", "processors", "kernel", "go", "date", "goos", "goarch"} {
			r.config[key] = rec.GetConfig(key)
		}
	}
	rowName = strings.ReplaceAll(rowName, "~", " ")
	row := c.row(rowName)
	if row == nil {
		row = newRow(rowName)
		c.rows = append(c.rows, row)
	}
	for _, v := range rec.Values {
		switch cmp.Or(v.OrigUnit, v.Unit) { // benchfmt makes seconds of what is not zero
		case "cpu-ns/op":
			row.cpu = append(row.cpu, cmp.Or(v.OrigValue, v.Value))
		case "allocs/op":
			row.allocs = append(row.allocs, v.Value)
		case "B/op":
			row.bytes = append(row.bytes, v.Value)
		}
	}
	if n := len(row.cpu); n == 0 || len(row.allocs) != n || len(row.bytes) != n {
		return errors.New("has not all of cpu-ns/op, allocs/op and B/op")
	}
	return nil
}

func newRow(name string) *row { return &row{name: name} }

// comparison returns the one with a name, or nil.
func (r *results) comparison(name string) *comparison {
	i := slices.IndexFunc(r.comparisons, func(c *comparison) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return r.comparisons[i]
}

// row returns the one with a name, or nil.
func (c *comparison) row(name string) *row {
	i := slices.IndexFunc(c.rows, func(r *row) bool { return r.name == name })
	if i < 0 {
		return nil
	}
	return c.rows[i]
}

// A summary is the median of figures, and how far it can be trusted.
type summary struct{ benchmath.Summary }

// summarize returns the median and the interval that the true one lies in, 19
// times of 20.
func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{benchmath.Summary{Center: math.NaN(), Lo: math.Inf(-1), Hi: math.Inf(1)}}
	}
	return summary{benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds), 0.95)}
}

func median(values []float64) float64 { return summarize(values).Center }

// spread returns half the width of the interval, in words.
func (s summary) spread() string {
	if math.IsInf(s.Hi-s.Lo, 0) || s.Center == 0 {
		return ""
	}
	return fmt.Sprintf("±%.0f %%", 100*max(s.Hi-s.Center, s.Center-s.Lo)/s.Center)
}

// interval returns the bounds of the interval, in words.
func (s summary) interval() string {
	if math.IsInf(s.Hi-s.Lo, 0) || s.Hi == s.Lo {
		return ""
	}
	return fmt.Sprintf(" [%s–%s]", digits(s.Lo), digits(s.Hi))
}

func (s summary) divided(n float64) summary {
	s.Center, s.Lo, s.Hi = s.Center/n, s.Lo/n, s.Hi/n
	return s
}

// ratios returns r's CPU time as a multiple of that of other in the same round.
func (r *row) ratios(other *row) []float64 {
	return pairs(r.cpu, other.cpu, func(a, b float64) float64 { return a / b })
}

// differences returns r's CPU time without that of other in the same round.
func (r *row) differences(other *row) []float64 {
	return pairs(r.cpu, other.cpu, func(a, b float64) float64 { return a - b })
}

func pairs(a, b []float64, f func(a, b float64) float64) []float64 {
	result := make([]float64, min(len(a), len(b)))
	for i := range result {
		result[i] = f(a[i], b[i])
	}
	return result
}
