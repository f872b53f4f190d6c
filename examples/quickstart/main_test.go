package main

import (
	"bytes"
	"errors"
	"flag"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret/examples/internal/demo"
)

// TestReport runs the program and reads its figures back: they must agree with
// each other, and show what the stack is for. It does so in virtual time, where
// no RPC is late because the machine is busy.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(demo.InMemory(t.Context()), []string{"-for", "4s"}, &out); err != nil {
			t.Fatal(err)
		}
		t.Log("\n" + out.String())
		rows := parseTable(t, out.String())
		checkSums(t, rows)
		checkSpans(t, out.String())
		checkGain(t, rows)
	})
}

// checkSums checks that the figures agree.
func checkSums(t *testing.T, rows tableRows) {
	t.Helper()
	for side := range 2 {
		calls, succeeded := rows.number(t, "calls", side), rows.number(t, "successes", side)
		failed := rows.sum(t, "failures", side)
		if calls != 600 || succeeded+failed != calls {
			t.Errorf("side %d: %v calls, %v successes and %v failures, want 600 calls, and the rest to add up", side, calls, succeeded, failed)
		}
		share := 0.0
		for _, name := range names {
			share += rows.number(t, "answers from "+name, side)
		}
		if share < 99.5 || share > 100.5 {
			t.Errorf("side %d: the servers' shares add up to %v %%", side, share)
		}
		for _, kind := range demo.Kinds {
			p50, p99 := rows.number(t, kind+" p50", side), rows.number(t, kind+" p99", side)
			if p50 < 1 || p99 < p50 {
				t.Errorf("side %d: %s takes %v ms at p50 and %v ms at p99", side, kind, p50, p99)
			}
		}
	}
	for _, row := range []string{"retries", "refusals"} {
		// "7: 4 A, 3 B": the sum, and what it is the sum of.
		if total := rows.number(t, row, 1); rows.sum(t, row, 1) != 2*total && total != 0 {
			t.Errorf("%s do not add up: %q", row, rows[row][1])
		}
	}
}

func checkSpans(t *testing.T, out string) {
	t.Helper()
	for _, line := range []string{"event retry", "turret.attempt=0 rpc.response.status_code=UNAVAILABLE", "turret.attempt=1 rpc.response.status_code=OK"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in the span tree", line)
		}
	}
}

// checkGain checks that more calls succeeded through the stack, and sooner.
func checkGain(t *testing.T, rows tableRows) {
	t.Helper()
	var success, p99 [2]float64
	for side := range 2 {
		success[side] = rows.number(t, "successes", side)
		for _, kind := range demo.Kinds {
			p99[side] += rows.number(t, kind+" p99", side)
		}
	}
	if success[1] <= success[0] || p99[1] >= p99[0] || rows.number(t, "retries", 1) == 0 {
		t.Errorf("%v calls succeeded without the stack and %v through it; the p99 of all kinds add up to %v ms and %v ms", success[0], success[1], p99[0], p99[1])
	}
}

func TestFlags(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-for") {
		t.Errorf("-h: error %v, output %q", err, out.String())
	}
	for _, args := range [][]string{{"-for", "1ms"}, {"-for", "2h"}, {"-rate", "0"}, {"-rate", "x"}, {"extra"}} {
		if err := run(t.Context(), args, &out); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// table holds the two cells of each row by its name.
type tableRows map[string][2]string

func parseTable(t *testing.T, out string) tableRows {
	t.Helper()
	rows := tableRows{}
	for line := range strings.Lines(out) {
		cells := strings.Split(line, "|")
		if len(cells) == 5 {
			rows[strings.TrimSpace(cells[1])] = [2]string{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
		}
	}
	if len(rows) == 0 {
		t.Fatalf("no table in %q", out)
	}
	return rows
}

var number = regexp.MustCompile(`[0-9.]+`)

// number returns the first number of a cell.
func (r tableRows) number(t *testing.T, row string, side int) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(number.FindString(r[row][side]), 64)
	if err != nil {
		t.Fatalf("row %q, side %d: %q: %v", row, side, r[row][side], err)
	}
	return n
}

// sum returns the sum of the numbers in a cell.
func (r tableRows) sum(t *testing.T, row string, side int) float64 {
	t.Helper()
	total := 0.0
	for _, s := range number.FindAllString(r[row][side], -1) {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}
