package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/limiters"
)

// document writes what was measured into the documentation: the tables between the
// marks in overload.md, and into the folder overload results.md with all figures,
// and the plots. It must have results of all experiments.
func (r *report) document(folder string) error {
	for _, e := range experiments() {
		for _, p := range e.policies {
			want := len(r.seedsOf(e, p))
			if got := len(cells.Gather(r.results, e.id, slices.Concat(r.known, r.fresh))[p]); got < want {
				return fmt.Errorf("%s of %s: %w", p, e.id, errUnmeasured)
			}
		}
	}
	page := filepath.Join(folder, "overload.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		mark  string
		write func(io.Writer)
	}{{"targets", r.targets}, {"surges", r.surges}, {"wire", r.wire}} {
		var b bytes.Buffer
		part.write(&b)
		if text, err = between(text, part.mark, b.Bytes()); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	if err := os.WriteFile(page, text, 0o644); err != nil {
		return err
	}
	plots := filepath.Join(folder, "overload")
	if err := draw(r, plots); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(plots, "results.md"), r.page(), 0o644)
}

var (
	errUnmeasured = errors.New("not measured with all seeds")
	errMarks      = errors.New("the marks around a table are missing")
)

// between puts text between the marks of that name in page.
func between(page []byte, mark string, text []byte) ([]byte, error) {
	begin, end := []byte("<!-- "+mark+": begin -->\n"), []byte("<!-- "+mark+": end -->\n")
	head, rest, ok := bytes.Cut(page, begin)
	_, tail, found := bytes.Cut(rest, end)
	if !ok || !found {
		return nil, fmt.Errorf("%s: %w", mark, errMarks)
	}
	return slices.Concat(head, begin, text, end, tail), nil
}

// page is the page with all figures.
func (r *report) page() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Results of the overload experiments\n\n"+
		"`cd test/experiments && GOWORK=off go run ./overload -doc ../../doc` wrote this page; [overload.md](../overload.md) says what it means.\n"+
		"Turret's rows are over the seeds %s and, below, over %s; the others' over the seeds %s.\n",
		cells.List(r.known), cells.List(r.fresh), cells.List(r.known[:min(len(r.known), peerSeeds)]))
	r.sections(&b)
	return b.Bytes()
}

// inSummary are the scenarios of the table of surges, and the figure shown for each.
var inSummary = []struct {
	scenario, figure string
	of               summary
}{
	{"e5-2x", "goodput", least},
	{"e5-10x", "goodput", least},
	{"e5-5x-30s", "goodput", least},
	{"e5b-cpu", "goodput", least},
	{"e5b-usl", "goodput", least},
	{"half2x", "goodput", least},
	{"halfcpu", "goodput", least},
	{"slow10", "goodput", least},
	{"hang", "goodput", least},
	{"mix-2x", "goodput", least},
	{"small-3x", "goodput", least},
	{"n90", "refused", most},
}

// surges prints the goodput of all limits in all scenarios.
func (r *report) surges(out io.Writer) {
	fmt.Fprint(out, "| |")
	for _, s := range inSummary {
		fmt.Fprintf(out, " `%s` |", s.scenario)
	}
	fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("--:|", len(inSummary)))
	for _, l := range limiters.All() {
		if l.Name == limiters.Keyed {
			continue
		}
		name := l.Name
		if name == limiters.Ours {
			name = "**" + name + "**"
		}
		fmt.Fprintf(out, "| %s |", name)
		for _, s := range inSummary {
			r.summaryCell(out, s.scenario, l.Name, s.figure, s.of)
		}
		fmt.Fprintln(out)
	}
}

// wire prints what the limits do over gRPC with the first seed, beside what they do
// when they are called directly.
func (r *report) wire(out io.Writer) {
	fmt.Fprint(out, "| |")
	for _, id := range overGRPC[1:] {
		fmt.Fprintf(out, " `%s` | over gRPC |", id)
	}
	fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("--:|", 2*len(overGRPC[1:])))
	first := &report{results: r.results, known: r.known[:min(len(r.known), peerSeeds)]}
	for _, policy := range allOverGRPC[:2] {
		fmt.Fprintf(out, "| %s |", policy)
		for _, id := range overGRPC[1:] {
			first.summaryCell(out, id, policy, "goodput", least)
			first.summaryCell(out, id+wireSuffix, policy, "goodput", least)
		}
		fmt.Fprintln(out)
	}
}

func (r *report) summaryCell(out io.Writer, scenario, policy, figure string, of summary) {
	all := cells.Gather(r.results, scenario, slices.Concat(r.known, r.fresh))[policy]
	if len(all) == 0 {
		fmt.Fprint(out, " |")
		return
	}
	got := 100 * of.of(all, figure)
	text := fmt.Sprintf("%.0f", got)
	if figure == "refused" {
		text = fmt.Sprintf("%.1f", got)
	}
	if figure == "goodput" {
		if slow := most.of(all, "p99"); slow >= 2 {
			text += fmt.Sprintf(" x%.1f", slow)
		}
	}
	fmt.Fprintf(out, " %s |", text)
}
