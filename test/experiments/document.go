package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/turret-go/turret/test/experiments/cells"
)

// document writes what was measured into the documentation: the table of the
// targets between the marks in balancing.md, and into the folder balancing
// results.md with the tables of all policies, and the plots. What the pages say of
// experiments without results stays.
func document(folder string, results map[string]cells.Cell, seeds, fresh []uint64) error {
	page := filepath.Join(folder, "balancing.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	var targets bytes.Buffer
	summary(&targets, string(old), results, seeds, fresh)
	text, err := between(string(old), targets.String())
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		return err
	}
	plots := filepath.Join(folder, "balancing")
	if err := drawAll(plots, results, seeds); err != nil {
		return err
	}
	page = filepath.Join(plots, "results.md")
	if old, err = os.ReadFile(page); err != nil {
		return err
	}
	return os.WriteFile(page, resultPage(string(old), results, seeds, fresh), 0o644)
}

// The marks in balancing.md.
const (
	beginMark = "<!-- targets: begin -->\n"
	endMark   = "<!-- targets: end -->\n"
)

var errMarks = errors.New("the marks around the table are missing")

// between puts text between the marks in page.
func between(page, text string) (string, error) {
	head, rest, ok := strings.Cut(page, beginMark)
	_, tail, found := strings.Cut(rest, endMark)
	if !ok || !found {
		return "", errMarks
	}
	return head + beginMark + text + endMark + tail, nil
}

// compared are the peers that the table of the targets has a column for.
var compared = []struct{ policy, title string }{
	{roundRobin, "round_robin"}, {leastRequest, "least_request"}, {"go-zero p2c_ewma", "go-zero"}, {kratos, "kratos"},
}

// summary prints a row for each target: our figure with the seeds and with fresh
// ones, and the peers' figures. The rows of an experiment without results are those
// of the old page.
func summary(out io.Writer, old string, results map[string]cells.Cell, seeds, fresh []uint64) {
	fmt.Fprint(out, "| | target | turret.P2C | fresh seeds | |")
	for _, c := range compared {
		fmt.Fprintf(out, " %s |", c.title)
	}
	fmt.Fprintf(out, "\n|---|---|--:|--:|---|%s\n", strings.Repeat("--:|", len(compared)))
	for _, e := range experiments {
		rows := cells.Gather(results, e.id, seeds)
		if len(rows) == 0 {
			fmt.Fprint(out, rowsOf(old, e.id))
		}
		for _, c := range e.checks {
			bound, met, ok := c.judge(medians(results, e, seeds))
			if !ok {
				continue
			}
			fmt.Fprintf(out, "| %s | %s | %s | %s | %s |", e.id, target(c, bound),
				cells.Spread(rows[ours().Name], c.of), freshFigure(results, e, c, fresh), verdict(met))
			for _, peer := range compared {
				fmt.Fprintf(out, " %s |", figureOf(rows[peer.policy], c.of))
			}
			fmt.Fprintln(out)
		}
	}
}

// target writes a check, with its bound where that depends on another figure.
func target(c check, bound float64) string {
	text := strings.TrimSuffix(c.String(), "_experimental")
	if c.policy == "" {
		return text
	}
	return fmt.Sprintf("%s = %s", text, cells.Number(bound))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// freshFigure writes our figure with the fresh seeds, judged by the bound that
// the others' figures with these seeds make.
func freshFigure(results map[string]cells.Cell, e experiment, c check, fresh []uint64) string {
	mine := cells.Gather(results, e.id, fresh)[ours().Name]
	_, met, ok := c.judge(medians(results, e, fresh))
	switch {
	case !ok:
		return ""
	case met:
		return cells.Spread(mine, c.of)
	default:
		return cells.Spread(mine, c.of) + " **missed**"
	}
}

func figureOf(all []cells.Measures, figure string) string {
	if len(all) == 0 {
		return ""
	}
	return cells.Number(cells.Median(all, figure))
}

// rowsOf returns the rows of an experiment in the table of the targets.
func rowsOf(page, id string) string {
	_, page, _ = strings.Cut(page, beginMark)
	page, _, _ = strings.Cut(page, endMark)
	var rows strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| "+id+" | ") {
			rows.WriteString(line)
		}
	}
	return rows.String()
}

const freshHeading = "\n# With fresh seeds\n"

// resultPage is the page with the figures of all policies. The sections of
// experiments without results are those of the old page.
func resultPage(old string, results map[string]cells.Cell, seeds, fresh []uint64) []byte {
	oldKnown, oldFresh, _ := strings.Cut(old, freshHeading)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Results of the balancing experiments\n\n"+
		"`cd test/experiments && GOWORK=off go run . -doc ../../doc` wrote this page; [balancing.md](../balancing.md) says what it means.\n"+
		"Each figure is the median of the seeds %s, with the range where they differ.\n", cells.List(seeds))
	sections(&b, oldKnown, results, seeds)
	fmt.Fprintf(&b, freshHeading+"\nNothing was chosen by the seeds %s.\n", cells.List(fresh))
	sections(&b, oldFresh, results, fresh)
	return b.Bytes()
}

// sections writes a section for each experiment, the old one if nothing was
// measured.
func sections(out *bytes.Buffer, old string, results map[string]cells.Cell, seeds []uint64) {
	for _, e := range experiments {
		before := out.Len()
		if report(out, results, seeds, []string{e.id}); out.Len() == before {
			out.WriteString(sectionOf(old, e.id))
		}
	}
}

// sectionOf returns the section of an experiment in a part of the page.
func sectionOf(part, id string) string {
	const mark = "\n### "
	heading := mark + id + ": "
	_, rest, found := strings.Cut(part, heading)
	if !found {
		return ""
	}
	rest, _, _ = strings.Cut(rest, mark)
	return heading + rest
}
