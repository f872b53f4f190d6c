package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
	"golang.org/x/mod/modfile"
)

// table writes a table in Markdown. The first columns are text, as many as left
// says, the others numbers.
func table(w io.Writer, left int, header []string, rows [][]string) {
	align := make(tw.Alignment, len(header))
	for i := range align {
		align[i] = tw.AlignRight
		if i < left {
			align[i] = tw.AlignLeft
		}
	}
	t := tablewriter.NewTable(w, tablewriter.WithRenderer(renderer.NewMarkdown()),
		tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithHeaderAutoWrap(tw.WrapNone), tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithAlignment(align))
	t.Header(header)
	if err := t.Bulk(rows); err != nil {
		panic(err) // strings are all that there is
	}
	if err := t.Render(); err != nil {
		panic(err)
	}
}

// compared writes the rows of comparisons, the first row of each as what the
// others are multiples of.
func compared(w io.Writer, found []*comparison, groups []string, s section) {
	var rows [][]string
	for i, c := range found {
		for j, row := range c.rows {
			group := ""
			if j == 0 {
				group = groups[i]
			}
			cpu := summarize(row.cpu)
			rows = append(rows, []string{
				group, row.name, duration(cpu.Center), cpu.spread(), count(median(row.allocs)), count(median(row.bytes)), multiple(median(row.ratios(c.rows[0]))),
			})
		}
	}
	header := []string{"", "", "CPU", "spread", "allocs", "bytes", "× " + s.base}
	if !slices.ContainsFunc(groups, func(g string) bool { return g != "" }) {
		header = header[1:]
		for i := range rows {
			rows[i] = rows[i][1:]
		}
		table(w, 1, header, rows)
		return
	}
	table(w, 2, header, rows)
}

// grown writes a line for each n and a column for each row.
func grown(w io.Writer, found []*comparison, groups []string, s section) {
	header := []string{s.growth.of}
	for _, row := range found[0].rows {
		header = append(header, row.name)
	}
	var rows [][]string
	for i, c := range found {
		line := []string{thousands(number(groups[i]))}
		for _, column := range found[0].rows {
			row := c.row(column.name)
			if row == nil {
				line = append(line, "–")
				continue
			}
			cpu := summarize(row.cpu)
			cell := duration(cpu.Center / s.growth.divisor(number(groups[i])))
			if spread := cpu.spread(); spread != "" {
				cell += " " + spread
			}
			if row != c.rows[0] {
				cell += " (" + multiple(median(row.ratios(c.rows[0]))) + " ×)"
			}
			line = append(line, cell)
		}
		rows = append(rows, line)
	}
	table(w, 0, header, rows)
	fmt.Fprintf(w, "\nIn parentheses: the multiple of %s.\n", s.base)
}

func (g *growth) divisor(n int) float64 {
	if g.per {
		return float64(n)
	}
	return 1
}

// number returns the n of a comparison "n=10".
func number(group string) int {
	_, n, _ := strings.Cut(group, "n=")
	i, err := strconv.Atoi(n)
	if err != nil {
		panic(fmt.Sprintf("%q has no number", group))
	}
	return i
}

// duration returns ns in the unit that suits it, with three digits.
func duration(ns float64) string {
	for _, u := range []struct {
		unit string
		ns   float64
	}{{"ms", 1e6}, {"µs", 1e3}, {"ns", 1}} {
		if math.Abs(ns) >= 0.9995*u.ns || u.ns == 1 {
			return digits(ns/u.ns) + " " + u.unit
		}
	}
	panic("unreachable")
}

// digits returns x with three digits that count, and at most two behind the
// point.
func digits(x float64) string {
	switch a := math.Abs(x); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func multiple(x float64) string { return digits(x) }

// count returns x without the noise of what else the process allocates.
func count(x float64) string { return strconv.Itoa(int(math.Round(x))) }

// thousands returns n with its digits in groups of three.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// machine writes where and with what r was measured.
func machine(w io.Writer, r *results) {
	loads := slices.Clone(r.loads)
	slices.SortFunc(loads, func(a, b string) int { return int(math.Round(100 * (parse(a) - parse(b)))) })
	fewest, most := math.MaxInt, 0
	for _, c := range r.comparisons {
		fewest, most = min(fewest, len(c.rows[0].cpu)), max(most, len(c.rows[0].cpu))
	}
	fmt.Fprintf(w, "## The run\n\n")
	table(w, 2, []string{"", ""}, [][]string{
		{"date", r.config["date"]},
		{"machine", fmt.Sprintf("%s, %s processors, %s/%s, kernel %s", r.config["cpu"], r.config["processors"], r.config["goos"], r.config["goarch"], r.config["kernel"])},
		{"Go", strings.TrimPrefix(r.config["go"], "go")},
		{"load while it ran", fmt.Sprintf("%s to %s, median %s processes that wanted a processor, the benchmark among them", loads[0], loads[len(loads)-1], loads[len(loads)/2])},
		{"rounds of a comparison", fmt.Sprintf("%d to %d", fewest, most)},
		{"versions", versions()},
	})
}

func parse(load string) float64 {
	f, _ := strconv.ParseFloat(load, 64) // 0 if the system does not say
	return f
}

// versions returns what bench's go.mod compares Turret with.
func versions() string {
	_, source, _, _ := runtime.Caller(0)
	file := filepath.Join(filepath.Dir(source), "..", "go.mod")
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	mod, err := modfile.ParseLax(file, text, nil)
	if err != nil {
		return "unknown"
	}
	var all []string
	for _, m := range mod.Require {
		if path, version := m.Mod.Path, m.Mod.Version; !m.Indirect && measured(path) {
			path, _, _ = strings.Cut(strings.TrimPrefix(path, "github.com/"), "/v2")
			all = append(all, path+" "+version)
		}
	}
	return strings.Join(all, ", ")
}

// measured reports whether a module is one that Turret is compared with, not one
// that helps to do it.
func measured(path string) bool {
	for _, tool := range []string{"github.com/turret-go/", "github.com/olekukonko/", "github.com/cncf/xds", "golang.org/x/mod", "golang.org/x/perf", "gonum.org/"} {
		if strings.HasPrefix(path, tool) {
			return false
		}
	}
	return true
}
