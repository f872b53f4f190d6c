package hedge_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret/hedge"
)

// logged makes slog's default logger write to the returned buffer while t runs.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	old := slog.Default()
	t.Cleanup(func() { slog.SetDefault(old) })
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	return &b
}

// A panic or Goexit in an attempt reaches the caller, on its own goroutine, when
// all attempts have ended. Of several the first is raised; what would be lost is
// logged.
func TestCrash(t *testing.T) {
	const long = time.Hour
	crash := func(takes time.Duration, then func()) part { return part{takes: takes, then: then} }
	deaf := func(p part) part { p.deaf = true; return p }
	tests := []struct {
		name  string
		parts []part
		want  outcome
		after time.Duration
		logs  []string // texts of the messages, in order
	}{
		{
			"panic, no hedge",
			[]part{crash(10*ms, panics("A"))},
			outcome{panic: "A"},
			10 * ms, nil,
		},
		{
			"Goexit, no hedge",
			[]part{crash(10*ms, exits)},
			outcome{exited: true},
			10 * ms, nil,
		},
		{
			"panic while a hedge is in flight",
			[]part{crash(60*ms, panics("A")), {takes: long}},
			outcome{panic: "A"},
			60 * ms, nil,
		},
		{
			"Goexit while a hedge is in flight that does not heed its context",
			[]part{crash(60*ms, exits), {takes: 100 * ms, deaf: true}},
			outcome{exited: true},
			150 * ms, nil,
		},
		{
			"panic in a hedge",
			[]part{{takes: long}, crash(10*ms, panics("B"))},
			outcome{panic: "B"},
			60 * ms,
			[]string{"raised in the caller: B"},
		},
		{
			"panic in a hedge, and the first attempt answers all the same",
			[]part{{takes: 100 * ms, deaf: true}, crash(10*ms, panics("B"))},
			outcome{panic: "B"},
			100 * ms,
			[]string{"raised in the caller: B"},
		},
		{
			"panic in a hedge that has lost",
			[]part{{takes: 60 * ms}, deaf(crash(30*ms, panics("B")))},
			outcome{panic: "B"},
			80 * ms,
			[]string{"raised in the caller: B"},
		},
		{
			"Goexit in a hedge",
			[]part{{takes: long}, crash(10*ms, exits)},
			outcome{exited: true},
			60 * ms, nil,
		},
		{
			"panic in a hedge, then in the first attempt",
			[]part{deaf(crash(90*ms, panics("A"))), crash(10*ms, panics("B"))},
			outcome{panic: "B"},
			90 * ms,
			[]string{"after that of another attempt: A", "raised in the caller: B"},
		},
		{
			"panic in the first attempt, then in a hedge",
			[]part{crash(60*ms, panics("A")), deaf(crash(40*ms, panics("B")))},
			outcome{panic: "A"},
			90 * ms,
			[]string{"after that of another attempt: B"},
		},
		{
			"panics in two hedges",
			[]part{{takes: long}, deaf(crash(70*ms, panics("B"))), crash(10*ms, panics("C"))},
			outcome{panic: "C"},
			120 * ms,
			[]string{"after that of another attempt: B", "raised in the caller: C"},
		},
		{
			"Goexit in a hedge, then panic in the first attempt",
			[]part{deaf(crash(90*ms, panics("A"))), crash(10*ms, exits)},
			outcome{exited: true},
			90 * ms,
			[]string{"after that of another attempt: A"},
		},
		{
			"panic in a hedge, then Goexit in the first attempt",
			[]part{deaf(crash(90*ms, exits)), crash(10*ms, panics("B"))},
			outcome{panic: "B"},
			90 * ms,
			[]string{"raised in the caller: B"},
		},
		{
			"Goexit in both",
			[]part{deaf(crash(90*ms, exits)), crash(10*ms, exits)},
			outcome{exited: true},
			90 * ms, nil,
		},
		{
			"panic(nil)",
			[]part{{takes: long}, crash(10*ms, func() { panic(nil) })}, //nolint:govet // just this
			outcome{panic: "panic called with nil argument"},
			60 * ms,
			[]string{`raised in the caller: "panic called with nil argument`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logs := logged(t)
			synctest.Test(t, func(t *testing.T) {
				inner := plays(tt.parts...)
				c := steady()
				c.MaxHedges = 2
				if len(tt.parts) < 3 {
					c.MaxHedges = 1
				}
				got := call(t.Context(), layer(c, inner))
				inner.check(t)
				if got.panic != nil {
					got.panic, _, _ = strings.Cut(fmt.Sprint(got.panic), " (use GODEBUG") // of panic(nil)
				}
				if got != tt.want || time.Since(inner.begun) != tt.after {
					t.Errorf("ended with %+v after %v, want %+v after %v", got, time.Since(inner.begun), tt.want, tt.after)
				}
			})
			lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
			if logs.Len() == 0 {
				lines = nil
			}
			if len(lines) != len(tt.logs) {
				t.Fatalf("%d messages logged, want %d:\n%s", len(lines), len(tt.logs), logs)
			}
			for i, want := range tt.logs {
				text, value, _ := strings.Cut(want, ": ")
				if !strings.Contains(lines[i], text) || !strings.Contains(lines[i], "panic="+value) || !strings.Contains(lines[i], "script_test.go") {
					t.Errorf("message %d is %s\nwant %q, and the stack", i, lines[i], want)
				}
			}
		})
	}
}

// A crash in what a user has given to the layer is one of the attempt.
func TestCrashInHooks(t *testing.T) {
	boom := panics("hook")
	for _, tt := range []struct {
		name   string
		change func(*hedge.Config)
		again  func(context.Context, string, int) (string, bool)
	}{
		{"Success", func(c *hedge.Config) { c.Success = func(context.Context, error) bool { boom(); return false } }, nil},
		{"RetryAfter", func(c *hedge.Config) {
			c.Success = nil
			c.RetryAfter = func(context.Context, error) (time.Duration, bool) { boom(); return 0, false }
		}, nil},
		{"OnHedge", func(c *hedge.Config) { c.OnHedge = func(context.Context, int, time.Duration) { boom() } }, nil},
		{"again", func(*hedge.Config) {}, func(context.Context, string, int) (string, bool) { boom(); return "", false }},
	} {
		for _, parts := range [][]part{
			{{takes: time.Hour}, {takes: 10 * ms, err: errLost}},             // in the hedge
			{{takes: 60 * ms, err: errLost}, {takes: 10 * ms, err: errLost}}, // and in the first attempt
			{{takes: 70 * ms, deaf: true, err: errLost}, {takes: 10 * ms, err: errLost}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				logged(t)
				synctest.Test(t, func(t *testing.T) {
					c := steady()
					tt.change(&c)
					inner := plays(parts...)
					got := call(t.Context(), hedge.LayerOf[string, string](hedge.NewPolicy(c), tt.again)(inner))
					inner.check(t)
					if got != (outcome{panic: "hook"}) {
						t.Errorf("ended with %+v", got)
					}
				})
			})
		}
	}
}
