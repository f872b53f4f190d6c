package main

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// All patches still apply. Whether the tests notice is for the command to show.
func TestPatchesApply(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mutants, err := load(root+"/test/mutants", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		if _, err := m.overlay(t.Context(), root, t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

func TestParse(t *testing.T) {
	const patch = "--- a/x.go\n+++ b/x.go\n@@ -1 +1 @@\n-a\n+Tests: ./no\n--- a/y/z.go\n+++ b/y/z.go\n"
	m, err := parse("Promise: it holds: always\nModule: bench\nTests: ./x -run TestX\n\n" + patch)
	if err != nil {
		t.Fatal(err)
	}
	if m.promise != "it holds: always" || m.module != "bench" || strings.Join(m.tests, "|") != "./x|-run|TestX" || strings.Join(m.changes, "|") != "x.go|y/z.go" {
		t.Errorf("parsed as %+v", m)
	}
	for want, text := range map[string]string{
		"Promise":         "Tests: ./x\n" + patch,
		"Tests":           "Promise: it holds\n" + patch,
		"changes nothing": "Promise: it holds\nTests: ./x\n",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one about %q", text, err, want)
		}
	}
}

func TestFailures(t *testing.T) {
	const out = "--- FAIL: TestB (0.01s)\n    --- FAIL: TestB/sub (0.00s)\n--- FAIL: TestA (1.00s)\n--- FAIL: TestB (0.02s)\npanic: deadlock: all\nFAIL\n"
	if got, want := failures([]byte(out)), "by TestA, TestB, panic: deadlock: all"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Mutants are tried side by side, and told of in their order.
func TestAtOnce(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	inside := func(more int) {
		mu.Lock()
		defer mu.Unlock()
		running += more
		most = max(most, running)
	}
	all, meet := []int{0, 1, 2, 3, 4}, make(chan struct{})
	next := 0
	for i := range atOnce(all, 2, func(i int) {
		inside(1)
		defer inside(-1)
		switch i {
		case 0:
			<-meet // until the second one runs
		case 1:
			close(meet)
		}
	}) {
		if i != next {
			t.Errorf("told of %d, want %d", i, next)
		}
		next++
	}
	if next != len(all) || most != 2 {
		t.Errorf("%d of %d were told of, %d ran at a time, want all, and 2", next, len(all), most)
	}
}

// Tests of the same package and flags run in one go.
func TestTogether(t *testing.T) {
	var got []string
	for _, m := range together([]*mutant{
		{tests: strings.Fields("./a -run TestA|TestB")},
		{tests: strings.Fields("./a -run TestC -timeout 20s")},
		{tests: strings.Fields("-race ./a -run TestC")},
		{module: "bench", tests: strings.Fields("./a -run TestC")},
		{tests: strings.Fields("./b ./c -run TestD")},
		{tests: strings.Fields("./b ./c")},
	}) {
		got = append(got, m.module+":"+strings.Join(m.tests, " "))
	}
	want := []string{":-run TestA|TestB|TestC ./a", ":-run TestC -race ./a", "bench:-run TestC ./a", ":-run TestD|. ./b ./c"}
	if !slices.Equal(got, want) {
		t.Errorf("tests are %q, want %q", got, want)
	}
}
