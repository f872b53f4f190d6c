package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/limiters"
)

// TestExperiments sees that the table names policies that there are, and checks
// policies of Turret's.
func TestExperiments(t *testing.T) {
	known := map[string]bool{}
	for _, l := range limiters.All() {
		known[l.Name] = true
	}
	seen := map[string]bool{}
	for _, e := range experiments() {
		if seen[e.id] {
			t.Errorf("%s is there twice", e.id)
		}
		seen[e.id] = true
		_, surges := surgeChecks[strings.TrimSuffix(e.id, wireSuffix)]
		for _, p := range e.policies {
			if surges && !known[p] {
				t.Errorf("%s: no limit %q", e.id, p)
			}
			if strings.Contains(p, ",") {
				t.Errorf("%s: %q cannot be given to -policies", e.id, p)
			}
		}
		for _, c := range e.checks {
			if !e.ours(c.policy) || !slices.Contains(e.policies, c.policy) {
				t.Errorf("%s: %s is about %q, which is not measured with all seeds", e.id, c, c.policy)
			}
		}
	}
}

// TestDocumentWantsAll writes no page while something was not measured.
func TestDocumentWantsAll(t *testing.T) {
	r := &report{results: map[string]cells.Cell{}, known: []uint64{1, 2}, fresh: []uint64{3}}
	if err := r.document(t.TempDir()); !errors.Is(err, errUnmeasured) {
		t.Errorf("error %v, want that something was not measured", err)
	}
}

func TestBetween(t *testing.T) {
	const begin, end = "<!-- x: begin -->\n", "<!-- x: end -->\n"
	got, err := between([]byte("a\n"+begin+"old\n"+end+"b\n"), "x", []byte("new\n"))
	if want := "a\n" + begin + "new\n" + end + "b\n"; string(got) != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := between([]byte("a\n"+begin+"old\n"), "x", nil); !errors.Is(err, errMarks) {
		t.Errorf("error %v, want that a mark is missing", err)
	}
}

// TestTargets writes rows: a target that the fresh seeds miss is missed.
func TestTargets(t *testing.T) {
	r := &report{results: map[string]cells.Cell{}, only: []string{"slow10"}, known: []uint64{1, 2}, fresh: []uint64{3}}
	for seed, later := range map[uint64]float64{1: 1, 2: 0.995, 3: 0.98} {
		c := cells.Cell{Experiment: "slow10", Policy: limiters.Ours, Seed: seed, Measures: cells.Measures{"goodput": 0.96, "later": later}}
		r.results[c.Key()] = c
	}
	var b bytes.Buffer
	r.targets(&b)
	for _, want := range []string{
		"| `slow10` | goodput >= 95.0 % | 96.0 % | 96.0 % | met |\n",
		"| `slow10` | later >= 99.0 % | 99.5 % | 98.0 % | **missed** |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no row %q in\n%s", want, b.String())
		}
	}
}
