package main

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestAllApply checks that each mutant finds its code, so that a rename or a change
// that takes it away is seen at once. Whether the tests notice the mutants is what
// the command shows.
func TestAllApply(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mutants, err := load(".", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := allApply(mutants, root); err != nil {
		t.Errorf("%v\nIn test/mutants, give each of these mutants the new name of its declaration or its new code.", err)
	}
}

func TestFailures(t *testing.T) {
	const out = "--- FAIL: TestB (0.01s)\n    --- FAIL: TestB/sub (0.00s)\n--- FAIL: TestA (1.00s)\n--- FAIL: TestB (0.02s)\npanic: deadlock: all\nFAIL\n"
	if got, want := failures([]byte(out)), "by TestA, TestB, panic: deadlock: all"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Mutants are tried side by side and reported in their order.
func TestAtOnce(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	inside := func(more int) {
		mu.Lock()
		defer mu.Unlock()
		running += more
		most = max(most, running)
	}
	all, first, second := []int{0, 1, 2, 3, 4}, make(chan struct{}), make(chan struct{})
	next := 0
	for i := range atOnce(all, 2, func(i int) {
		inside(1)
		defer inside(-1)
		switch i {
		case 0: // runs until the second one does
			close(first)
			<-second
		case 1:
			<-first
			close(second)
		}
	}) {
		if i != next {
			t.Errorf("%d is reported, want %d", i, next)
		}
		next++
	}
	if next != len(all) || most != 2 {
		t.Errorf("%d of %d are reported, %d ran at a time, want all, and 2", next, len(all), most)
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
