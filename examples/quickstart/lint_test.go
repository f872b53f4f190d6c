package main

import (
	"slices"
	"testing"

	"github.com/turret-go/turret/interceptors"
)

// TestLint holds the stacks to what Lint says. Their timeouts end streams on purpose:
// the streams here are short.
func TestLint(t *testing.T) {
	made := newStacks(newEvents(), nil)
	found := made.client.Lint(interceptors.SideClient)
	for _, s := range made.servers {
		found = append(found, s.Lint(interceptors.SideServer)...)
	}
	found = slices.DeleteFunc(found, func(f interceptors.Finding) bool { return f.Check == "timeout-of-streams" })
	if len(found) > 0 {
		t.Errorf("the stacks have findings %v", found)
	}
}
