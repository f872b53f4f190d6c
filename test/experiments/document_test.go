package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turret-go/turret/test/experiments/cells"
)

// TestDocumentKeeps writes the documentation without results, which changes nothing,
// and with those of one experiment, which changes the part about that one alone.
func TestDocumentKeeps(t *testing.T) {
	const source = "../../doc"
	folder := t.TempDir()
	for _, page := range []string{"balancing.md", "balancing/results.md"} {
		copyPage(t, filepath.Join(source, page), filepath.Join(folder, page))
	}
	seeds, fresh := []uint64{1, 2, 3}, []uint64{101, 102, 103}
	if err := document(folder, nil, seeds, fresh); err != nil {
		t.Fatal(err)
	}
	targets, results := page(t, folder, "balancing.md"), page(t, folder, "balancing/results.md")
	if targets != page(t, source, "balancing.md") || results != page(t, source, "balancing/results.md") {
		t.Error("without results the pages change")
	}

	c := cells.Cell{Experiment: "E13", Policy: ours().Name, Seed: 1, Measures: cells.Measures{"p99": 77}}
	if err := document(folder, map[string]cells.Cell{c.Key(): c}, seeds, fresh); err != nil {
		t.Fatal(err)
	}
	now := page(t, folder, "balancing/results.md")
	was := sectionOf(results, c.Experiment)
	is := sectionOf(now, c.Experiment)
	if !strings.Contains(is, " 77.0 |") || strings.Replace(now, is, was, 1) != results {
		t.Errorf("the section is now\n%s\nor another one has changed", is)
	}
	now = page(t, folder, "balancing.md")
	was, is = rowsOf(targets, c.Experiment), rowsOf(now, c.Experiment)
	if is == was || strings.Replace(now, is, was, 1) != targets {
		t.Errorf("the rows are now\n%s\nor others have changed", is)
	}
}

func page(t *testing.T, folder, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func copyPage(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(page(t, filepath.Dir(from), filepath.Base(from))), 0o600); err != nil {
		t.Fatal(err)
	}
}
