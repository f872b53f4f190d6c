package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a run of which the machine was twice as slow in the second half.
const sample = `goos: linux
goarch: amd64
cpu: Abacus
processors: 2
kernel: 6.1
go: go1.26.8
date: 2026-11-22
load: 0.50
BenchmarkTimeout/no_deadline_yet/row=Turret 100 100 cpu-ns/op 4.002 allocs/op 272.4 B/op
BenchmarkTimeout/no_deadline_yet/row=context.WithTimeout 100 50 cpu-ns/op 4 allocs/op 272 B/op
BenchmarkTimeout/no_deadline_yet/row=a~layer~that~does~nothing 100 0 cpu-ns/op 0 allocs/op 0 B/op
BenchmarkTimeout/no_deadline_yet/row=Turret 100 210 cpu-ns/op 4 allocs/op 272 B/op
BenchmarkTimeout/no_deadline_yet/row=context.WithTimeout 100 100 cpu-ns/op 4 allocs/op 272 B/op
BenchmarkTimeout/no_deadline_yet/row=a~layer~that~does~nothing 100 0 cpu-ns/op 0 allocs/op 0 B/op
BenchmarkTimeout/no_deadline_yet/row=Turret 100 200 cpu-ns/op 4 allocs/op 272 B/op
BenchmarkTimeout/no_deadline_yet/row=context.WithTimeout 100 100 cpu-ns/op 4 allocs/op 272 B/op
BenchmarkTimeout/no_deadline_yet/row=a~layer~that~does~nothing 100 0 cpu-ns/op 0 allocs/op 0 B/op
load: 1.50
BenchmarkPick/n=10/row=Turret:~P2C 100 140 cpu-ns/op 1 allocs/op 48 B/op
BenchmarkPick/n=10/row=kratos:~p2c 100 420 cpu-ns/op 2 allocs/op 64 B/op
BenchmarkPick/n=10000/row=Turret:~P2C 100 141 cpu-ns/op 1 allocs/op 48 B/op
`

func parsed(t *testing.T, text string) *results {
	t.Helper()
	r, err := read(strings.NewReader(text), "sample")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A multiple is the median of those within a round: of figures that were taken
// together. The medians themselves would say 2, too, but 100 and 210 are not of
// the same round.
func TestRatiosWithinARound(t *testing.T) {
	c := parsed(t, sample).comparison("Timeout/no_deadline_yet")
	ours, theirs := c.row("Turret"), c.row("context.WithTimeout")
	if got := fmt.Sprint(ours.ratios(theirs), ours.differences(theirs)); got != "[2 2.1 2] [50 110 100]" {
		t.Errorf("got %s", got)
	}
	if got := c.row("a layer that does nothing").cpu; fmt.Sprint(got) != "[0 0 0]" {
		t.Errorf("calls that cost nothing: %v", got)
	}
}

func TestTables(t *testing.T) {
	var b bytes.Buffer
	write(&b, parsed(t, sample), "performance")
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"| machine | Abacus, 2 processors, linux/amd64, kernel 6.1 |",
		"| load while it ran | 0.50 to 1.50, median 1.50 processes",
		"failsafe-go/failsafe-go v",
		"| no deadline yet | Turret | 200 ns | | 4 | 272 | 1.00 |",
		"| | context.WithTimeout | 100 ns | | 4 | 272 | 0.50 |",
		"| timeout with a timer | missed, within the spread | **of context.WithTimeout 2.00× (≤ 1.00)**; 0 allocs (≤ 0) |",
		"![How cost grows: endpoints](performance/endpoints.svg)",
		"| 10 | 140 ns | 420 ns (3.00 ×) |",
		"| 10,000 | 141 ns | – |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if unwanted := "hedge that never fires"; strings.Contains(text, unwanted) {
		t.Errorf("a verdict on %q, which was not measured", unwanted)
	}
}

// A document is only written when nothing is missing, and only between the
// comments.
func TestDocument(t *testing.T) {
	results, doc := filepath.Join(t.TempDir(), "results.txt"), filepath.Join(t.TempDir(), "doc.md")
	const before = "above\n" + begin + "old\n" + end + "below\n"
	for file, text := range map[string]string{results: sample, doc: before} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := report(results, doc, false)
	if err == nil || !strings.Contains(err.Error(), `Five/with_a_timer, row "Turret: five layers"`) {
		t.Errorf("a run of which most is missing: %v", err)
	}
	if err := report(results, "", true); err == nil {
		t.Error("-check finds nothing missing")
	}
	if err := replace(doc, "\nnew\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(doc)
	if want := "above\n" + begin + "\nnew\n\n" + end + "below\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := replace(results, "new"); err == nil {
		t.Error("a document without the comments was written to")
	}
}

func TestPlots(t *testing.T) {
	dir := t.TempDir()
	if err := draw(parsed(t, sample), dir); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "endpoints.svg"))
	if err != nil || !bytes.Contains(svg, []byte("kratos: p2c")) || !bytes.Contains(svg, []byte("10,000")) {
		t.Errorf("the plot has no legend or no numbers: %v, %d bytes", err, len(svg))
	}
}

func TestBadResults(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":     "goos: linux\n",
		"no row":      "BenchmarkX 1 1 cpu-ns/op 1 allocs/op 1 B/op\n",
		"no CPU time": "BenchmarkX/row=a 1 1 allocs/op 1 B/op\n",
		"cut off":     "BenchmarkX/row=a 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := read(strings.NewReader(text), name); err == nil {
				t.Errorf("no error, but %v", r.comparisons)
			}
		})
	}
}

func TestUnits(t *testing.T) {
	for ns, want := range map[float64]string{0.4: "0.40 ns", 2.345: "2.35 ns", 41.26: "41.3 ns", 999.2: "999 ns", 999.8: "1.00 µs", 12_340: "12.3 µs", 250e6: "250 ms", -30: "-30.0 ns"} {
		if got := duration(ns); got != want {
			t.Errorf("%v ns is %q, want %q", ns, got, want)
		}
	}
	for n, want := range map[int]string{1: "1", 1000: "1,000", 10_000: "10,000", 1_234_567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
