package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/turret-go/turret/examples/internal/demo"
)

// report prints two loads side by side.
type report struct {
	bare, stacked *demo.Results
	seen          *events
	stacks        *stacks
}

// introduce says what is about to be compared.
func introduce(out io.Writer) {
	fmt.Fprintf(out, `Three servers: steady answers in %v, slow in %v, flaky in %v but %.0f %% of its calls fail with UNAVAILABLE.
The same load goes to them twice:
  without stacks: gRPC as it comes, with its policy round_robin
  through stacks: a stack on the client, one on each server, and the balancing policy turret.P2C

`, quick, slow, quick, 100*failShare)
}

func (r report) print(out io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.AppendHeader(table.Row{"", "without stacks", "through stacks"})
	both := func(name string, f func(*demo.Results) string) {
		t.AppendRow(table.Row{name, f(r.bare), f(r.stacked)})
	}
	both("calls", func(s *demo.Results) string { return fmt.Sprint(s.Calls()) })
	both("successes", func(s *demo.Results) string {
		return fmt.Sprintf("%d (%s)", s.Succeeded(), percent(float64(s.Succeeded())/float64(max(1, s.Calls()))))
	})
	both("failures", failures)
	t.AppendRow(table.Row{"retries", "-", counts(r.seen.retries)})
	t.AppendRow(table.Row{"refusals", "-", counts(r.seen.refusals)})
	t.AppendSeparator()
	for _, kind := range demo.Kinds {
		both(kind+" p50", func(s *demo.Results) string { return milliseconds(s.Quantile(kind, 0.5)) })
		both(kind+" p99", func(s *demo.Results) string { return milliseconds(s.Quantile(kind, 0.99)) })
	}
	t.AppendSeparator()
	for _, name := range names {
		both("answers from "+name, func(s *demo.Results) string { return percent(s.Share(name)) })
	}
	t.Render()
	fmt.Fprintf(out, "\nThe client's stack, outermost layer first:\n%v\n", indent(r.stacks.client))
	fmt.Fprintf(out, "\nThe stack of the server %s:\n%v\n", names[0], indent(r.stacks.servers[0]))
}

// indent returns what s prints, each line indented.
func indent(s fmt.Stringer) string {
	return "  " + strings.ReplaceAll(s.String(), "\n", "\n  ")
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func failures(s *demo.Results) string {
	order, count := s.Failures()
	parts := make([]string, len(order))
	for i, code := range order {
		parts[i] = fmt.Sprintf("%d %v", count[code], code)
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// counts returns the sum of m and its parts: "7: 4 A, 3 B".
func counts(m map[string]int) string {
	total := 0
	parts := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		total += m[name]
		parts = append(parts, fmt.Sprintf("%d %s", m[name], name))
	}
	if total == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}
