package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// TestRun runs the program with short parts. The story judges by itself; each part is
// repeated until it is as it should be, for minutes.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, &out, "127.0.0.1:0", 200*time.Millisecond); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"status page: http://127.0.0.1:",
		"balance: Choices is 1, must be between 2 and 10 (0 means 2)",
		"    the page: 127.0.0.1:", // a server that is banned, or on trial
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

// TestAlarmsUnderXDS watches the servers through the policies that xDS puts around
// turret.P2C.
func TestAlarmsUnderXDS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	f := newFleet(new(bytes.Buffer), 100*time.Millisecond)
	defer f.close()
	if err := f.start(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if err := f.accept(ctx, base()); err != nil {
		t.Fatal(err)
	}
	for f.servers[0].alarm.Stats().Watchers == 0 || f.servers[1].alarm.Stats().Watchers == 0 {
		f.call(ctx, "until the alarms are watched")
		if ctx.Err() != nil {
			t.Fatalf("the alarms are not watched: %v, %v", f.servers[0].alarm, f.servers[1].alarm)
		}
	}
}
