package main

import (
	"bytes"
	"errors"
	"flag"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret/examples/internal/demo"
)

// TestTable runs the program and reads its figures back. It does so in virtual
// time, where no RPC is late because the machine is busy.
func TestTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(demo.InMemory(t.Context()), []string{"-for", "15s"}, &out, false); err != nil {
			t.Fatal(err)
		}
		failed := map[string]float64{}
		for line := range strings.Lines(out.String()) {
			cells := strings.Fields(strings.ReplaceAll(line, "|", ""))
			if len(cells) < 3 || cells[1] == "CALLS" {
				continue
			}
			calls, err := strconv.ParseFloat(cells[1], 64)
			if err != nil || calls != 2250 {
				t.Errorf("%s made %q calls, want 2250", cells[0], cells[1])
			}
			if failed[cells[0]], err = strconv.ParseFloat(cells[2], 64); err != nil {
				t.Errorf("%s: %v", cells[0], err)
			}
		}
		if len(failed) != len(policies) {
			t.Fatalf("rows for %v, want %d", failed, len(policies))
		}
		// A fifth of a third of the calls goes to a server that fails half of them:
		// 75 fail, and 20 or less in none of a billion runs.
		if failed["round_robin"] == 0 || failed["turret.P2C"] >= failed["round_robin"] {
			t.Errorf("failed calls: %v; turret.P2C is to leave the flaky server", failed)
		}
		if t.Failed() {
			t.Log("\n" + out.String())
		}
	})
}

func TestLiveTableIsDrawnOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(demo.InMemory(t.Context()), []string{"-for", "600ms", "-rate", "20"}, &out, true); err != nil {
			t.Fatal(err)
		}
		if strings.Count(out.String(), "round_robin") < 2 || !strings.Contains(out.String(), "\x1b[8A") {
			t.Errorf("the table is not drawn over itself:\n%q", out.String())
		}
	})
}

func TestFlags(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out, false); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-for") {
		t.Errorf("-h: error %v, output %q", err, out.String())
	}
	for _, args := range [][]string{{"-for", "1ms"}, {"-for", "2h"}, {"-rate", "0"}, {"-rate", "x"}, {"extra"}} {
		if err := run(t.Context(), args, &out, false); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
