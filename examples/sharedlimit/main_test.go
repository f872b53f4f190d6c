package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// TestReport runs the program on the engine in memory, in virtual time, and reads
// what it prints.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		if err := run(t.Context(), &out, &memory{}); err != nil {
			t.Fatal(err)
		}
		t.Log("\n" + out.String())
		seen := 0
		for line := range strings.Lines(out.String()) {
			var second, a, b, c, all int
			if n, _ := fmt.Sscan(line, &second, &a, &b, &c, &all); n != 5 {
				continue
			}
			seen++
			least, most := 200, 400 // whether the engine is there or not
			if second == killAt+1 || second == restartAt+1 {
				least, most = 100, 500
			}
			if second != seen || a+b+c != all || all < least || all > most {
				t.Errorf("line %d is %q, want %d to %d calls in all", seen, line, least, most)
			}
		}
		if seen != seconds {
			t.Errorf("%d seconds are printed, want %d", seen, seconds)
		}
		for _, what := range []string{"the engine is killed", "the engine is restarted", "the engine is in memory"} {
			if !strings.Contains(out.String(), what) {
				t.Errorf("the report does not say that %s", what)
			}
		}
	})
}
