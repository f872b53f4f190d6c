package main

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
)

// TestRun runs the program in virtual time: the change of the file is loaded, and
// afterwards more RPCs succeed.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(demo.InMemory(t.Context()), []string{"-for", "4s"}, &out); err != nil {
			t.Fatal(err)
		}
		t.Log("\n" + out.String())
		lines := regexp.MustCompile(`(with|without) retries: (\d+) of (\d+) RPCs succeeded`).FindAllStringSubmatch(out.String(), -1)
		if len(lines) != 2 {
			t.Fatalf("%d lines of results, want 2", len(lines))
		}
		without, with := number(t, lines[0][2]), number(t, lines[1][2])
		if all := number(t, lines[0][3]); without >= all || with <= without {
			t.Errorf("%d of %d RPCs succeeded without retries, %d with them", without, all, with)
		}
		if !bytes.Contains(out.Bytes(), []byte("made echo client.retry: {max_attempts: 3")) {
			t.Error("the change is not there")
		}
	})
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLint holds the stacks, whose layers are in the file, to what Lint says, before
// and after the change.
func TestLint(t *testing.T) {
	for _, text := range []string{before, after} {
		document, err := policyfile.Parse("policy.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.New(document, policy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		made := newStacks(p, nil)
		if found := made.client.Lint(interceptors.SideClient); len(found) > 0 {
			t.Errorf("the client has findings %v", found)
		}
		for _, s := range made.servers {
			if found := s.Lint(interceptors.SideServer); len(found) > 0 {
				t.Errorf("a server has findings %v", found)
			}
		}
	}
}
