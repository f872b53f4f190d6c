package main

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
)

// TestTable runs the program: each scene has to end as its layer wants it, for
// all four kinds of RPC.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(out.String()) {
		if cells := strings.Split(line, "|"); len(cells) == 8 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[cells[1]] = cells[2:7]
		}
	}
	for scene, want := range map[string][2]string{ // the layer that decides, and the status
		"no token":                 {"auth, theirs", "UNAUTHENTICATED"},
		"bob's token":              {"Filter, ours", "PERMISSION_DENIED"},
		"an invalid request":       {"validator, theirs", "INVALID_ARGUMENT"},
		"a full server":            {"ConcurrencyLimit, ours: LIMIT_FULL", "RESOURCE_EXHAUSTED"},
		"a server that fails once": {"Retry, ours", "OK, attempt 2"},
		"nothing special":          {"the handler", "OK"},
	} {
		row := rows[scene]
		if len(row) != 5 || row[0] != want[0] {
			t.Errorf("%s: %q, want it decided by %s", scene, row, want[0])
			continue
		}
		for _, got := range row[1:] {
			if got != want[1] {
				t.Errorf("%s: ended with %s, want %s", scene, got, want[1])
			}
		}
	}
	// Both sides log every attempt: 6 RPCs, one of them tried twice, and the one
	// that occupies the server.
	for _, side := range []string{"client", "server"} {
		if n := strings.Count(out.String(), "\n  "+side+" BidiStream "); n != 8 {
			t.Errorf("the %s logged %d bidirectional streams, want 8", side, n)
		}
	}
	if t.Failed() {
		t.Log("\n" + out.String())
	}
}

// TestInvalidRequestsEndWithTheValidator makes sure that it is not the server
// itself which finds them out.
func TestInvalidRequestsEndWithTheValidator(t *testing.T) {
	for _, s := range scenes {
		if s.name != "an invalid request" {
			continue
		}
		if err := s.plan.Validate(); err == nil {
			t.Error("the plan is valid")
		}
		return
	}
	t.Error("there is no such scene")
}

func TestFlags(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "usage") {
		t.Errorf("-h: error %v, output %q", err, out.String())
	}
	if err := run(t.Context(), []string{"extra"}, &out); err == nil {
		t.Error("an argument is accepted")
	}
}
