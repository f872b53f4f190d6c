package circuit

import (
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

const second = int64(time.Second)

// exact is a backoff without chance: 1 s, 2 s, 4 s, 8 s.
var exact = retry.Backoff{Base: time.Second, Max: 8 * time.Second, Jitter: -1}

func newCircuit(c Config) *Circuit { return New(c, func() uint64 { return 0 }) }

// call enters, which must work, and leaves with o. It opens what is due.
func call(t *testing.T, c *Circuit, now int64, o turret.Outcome) Verdict {
	t.Helper()
	ticket, _, ok := c.Enter(now)
	if !ok {
		t.Fatalf("at %v the call was refused in state %v", time.Duration(now), c.State(now))
	}
	v := c.Leave(now, ticket, o)
	if v == Due {
		c.Trip(now)
	}
	return v
}

func TestRowOfFailures(t *testing.T) {
	c := newCircuit(Config{Consecutive: 3, Ratio: -1})
	for _, o := range []turret.Outcome{
		turret.Failure, turret.Failure, turret.Success, // a success ends the row
		turret.Failure, turret.Overload, turret.Ignored, turret.Unused, turret.Failure, // these do not
	} {
		if v := call(t, c, 0, o); v != Unchanged {
			t.Fatalf("%v: verdict %v", o, v)
		}
	}
	if v := call(t, c, 0, turret.Failure); v != Due || c.State(0) != Open {
		t.Fatalf("third failure in a row: verdict %v, state %v", v, c.State(0))
	}
}

func TestShareOfFailures(t *testing.T) {
	tests := []struct {
		name    string
		healthy int // successes at 0 s, before the failures
		failing int // failures that must not open
		outcome turret.Outcome
		at      int64 // when the failures come
	}{
		{"half", 5, 4, turret.Failure, 0},
		{"overloads count", 5, 4, turret.Overload, 0},
		{"the minimum", 0, 9, turret.Failure, 0},
		{"bucket of 0s still in", 5, 4, turret.Failure, 9*second + 999_999_999},
		{"bucket of 0s forgotten", 5, 9, turret.Failure, 10 * second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCircuit(Config{Consecutive: -1, Ratio: 0.5, MinCalls: 10})
			for range tt.healthy {
				call(t, c, 0, turret.Success)
			}
			for i := range tt.failing {
				if v := call(t, c, tt.at, tt.outcome); v != Unchanged {
					t.Fatalf("failure %d: verdict %v", i+1, v)
				}
			}
			if v := call(t, c, tt.at, tt.outcome); v != Due {
				t.Fatalf("failure %d: verdict %v, want Due", tt.failing+1, v)
			}
		})
	}
}

func TestOneProbeAtATime(t *testing.T) {
	c := newCircuit(Config{Consecutive: 1, Backoff: exact})
	call(t, c, 0, turret.Failure)
	if _, wait, ok := c.Enter(second - 1); ok || wait != 1 {
		t.Fatalf("1 ns before the end: ok %v, wait %v", ok, wait)
	}
	for _, o := range []turret.Outcome{turret.Ignored, turret.Unused} {
		probe, _, ok := c.Enter(second)
		if !ok {
			t.Fatal("no probe after the period")
		}
		if _, wait, ok := c.Enter(second); ok || wait != 0 {
			t.Fatalf("second probe: ok %v, wait %v", ok, wait)
		}
		if v := c.Leave(second, probe, o); v != Unchanged || c.State(second) != HalfOpen {
			t.Fatalf("%v: verdict %v, state %v", o, v, c.State(second))
		}
	}
	if v := call(t, c, second, turret.Success); v != Recovered || c.State(second) != Closed {
		t.Fatalf("verdict %v, state %v", v, c.State(second))
	}
}

func TestBackoff(t *testing.T) {
	c := newCircuit(Config{Consecutive: 1, Backoff: exact})
	now := int64(0)
	call(t, c, now, turret.Failure)
	for _, seconds := range []int64{1, 2, 4, 8, 8} {
		if _, wait, ok := c.Enter(now); ok || wait != time.Duration(seconds)*time.Second {
			t.Fatalf("at %v: ok %v, wait %v, want %d s", time.Duration(now), ok, wait, seconds)
		}
		now += seconds * second
		o := turret.Failure
		if seconds == 2 {
			o = turret.Overload // fails a probe as well
		}
		if v := call(t, c, now, o); v != Reopened {
			t.Fatalf("verdict %v, want Reopened", v)
		}
	}
}

// A server that passes its probes and fails again is left alone for longer;
// one that was well for as long as it was left alone begins anew.
func TestBackoffOfARelapse(t *testing.T) {
	c := newCircuit(Config{Consecutive: 1, Backoff: exact})
	call(t, c, 0, turret.Failure)
	call(t, c, second, turret.Success)
	call(t, c, 2*second-1, turret.Failure) // well for less than 1 s
	if _, wait, _ := c.Enter(2*second - 1); wait != 2*time.Second {
		t.Fatalf("relapse: open for %v, want 2s", wait)
	}
	call(t, c, 4*second, turret.Success)
	call(t, c, 6*second, turret.Failure) // well for 2 s
	if _, wait, _ := c.Enter(6 * second); wait != time.Second {
		t.Fatalf("after recovery: open for %v, want 1s", wait)
	}
}

func TestLateCallsHaveNoSay(t *testing.T) {
	c := newCircuit(Config{Consecutive: 1, Backoff: exact})
	early1, _, _ := c.Enter(0)
	early2, _, _ := c.Enter(0)
	call(t, c, 0, turret.Failure)
	if v := c.Leave(0, early1, turret.Success); v != Unchanged || c.State(0) != Open {
		t.Fatalf("a call from before the opening closed it: %v", v)
	}
	call(t, c, second, turret.Success)
	if v := c.Leave(second, early2, turret.Failure); v != Unchanged || c.State(second) != Closed {
		t.Fatalf("a call from before the opening opened it again: %v", v)
	}
}

func TestForgottenProbe(t *testing.T) {
	c := newCircuit(Config{Consecutive: 1, Backoff: exact})
	call(t, c, 0, turret.Failure)
	forgotten, _, _ := c.Enter(second)
	if _, _, ok := c.Enter(9*second - 1); ok {
		t.Fatal("a second probe before the longest period is over")
	}
	second2, _, ok := c.Enter(9 * second)
	if !ok {
		t.Fatal("the forgotten probe keeps others out for ever")
	}
	c.Leave(9*second, forgotten, turret.Ignored)
	if _, _, ok := c.Enter(9 * second); ok {
		t.Fatal("the end of the first probe freed the place of the second")
	}
	if v := c.Leave(9*second, second2, turret.Success); v != Recovered {
		t.Fatalf("verdict %v", v)
	}
}

func TestOwnerMayDecideAgainstOpening(t *testing.T) {
	c := newCircuit(Config{Consecutive: 2, Ratio: -1})
	for i := range 5 {
		ticket, _, _ := c.Enter(0)
		if v := c.Leave(0, ticket, turret.Failure); (v == Due) != (i >= 1) {
			t.Fatalf("failure %d: verdict %v", i+1, v)
		}
	}
	if c.State(0) != Closed {
		t.Fatal("opened without Trip")
	}
}

func TestWindowSaturates(t *testing.T) {
	var w window
	w.setWidth(second)
	for range maxCount + 100 {
		w.add(0, true)
	}
	if calls, failures := w.sum(0); calls != maxCount || failures != maxCount {
		t.Fatalf("%d calls, %d failures, want %d of both", calls, failures, maxCount)
	}
}

// FuzzWindow compares the window with a list of all calls.
func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 1, 255, 3, 40, 41, 9, 8})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var w window
		w.setWidth(16)
		type ended struct {
			at     int64
			failed bool
		}
		var all []ended
		now := int64(0)
		for _, step := range steps {
			now += int64(step >> 1)
			failed := step&1 == 1
			w.add(now, failed)
			all = append(all, ended{now, failed})
			wantCalls, wantFailures := 0, 0
			for _, e := range all {
				if e.at/16 > now/16-buckets {
					wantCalls++
					if e.failed {
						wantFailures++
					}
				}
			}
			if calls, failures := w.sum(now); calls != wantCalls || failures != wantFailures {
				t.Fatalf("at %d: %d of %d, want %d of %d", now, failures, calls, wantFailures, wantCalls)
			}
		}
	})
}

// FuzzCircuit drives a circuit with random calls that overlap and checks what
// must hold at every step.
func FuzzCircuit(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 250, 251, 17, 99, 7})
	f.Add([]byte{0, 0, 0, 65, 65, 65, 200, 200, 0, 1, 66})
	f.Fuzz(func(t *testing.T, steps []byte) {
		c := newCircuit(Config{Consecutive: 2, Ratio: 0.5, MinCalls: 4, Backoff: exact})
		var inside []turret.Ticket
		now, until := int64(0), int64(0)
		for _, step := range steps {
			now += int64(step>>3) * second / 10
			switch step & 7 {
			case 0, 1, 2: // a call comes
				before := c.State(now)
				ticket, wait, ok := c.Enter(now)
				if before == Closed && !ok || before == Open && ok {
					t.Fatalf("state %v: ok %v", before, ok)
				}
				if before == Open && now+int64(wait) != until {
					t.Fatalf("wait %v, but it opens at %v", wait, time.Duration(until))
				}
				if c.Refuses(now) != (c.State(now) != Closed && (c.State(now) == Open || c.probe != noProbe)) {
					t.Fatal("Refuses does not tell what Enter does")
				}
				if ok {
					inside = append(inside, ticket)
				}
			default: // the oldest or the newest call ends
				if len(inside) == 0 {
					continue
				}
				i := 0
				if step&1 == 1 {
					i = len(inside) - 1
				}
				o := turret.Outcome(step&7 - 2)
				v := c.Leave(now, inside[i], o)
				inside = append(inside[:i], inside[i+1:]...)
				if v == Due && !c.Trip(now) {
					t.Fatal("due, but not closed")
				}
				if v == Due || v == Reopened {
					until = c.until
					if d := until - now; d < second || d > 8*second {
						t.Fatalf("open for %v", time.Duration(d))
					}
				}
				if (v == Recovered) && (o != turret.Success || c.State(now) != Closed) {
					t.Fatalf("recovered after %v, state %v", o, c.State(now))
				}
			}
		}
		// Whatever happened, an hour later one good call closes it.
		now += int64(time.Hour)
		call(t, c, now, turret.Success)
		if c.State(now) != Closed {
			t.Fatalf("state %v after a good call", c.State(now))
		}
	})
}
