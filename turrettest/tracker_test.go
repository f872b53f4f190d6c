package turrettest_test

import (
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/load"
	"github.com/turret-go/turret/turrettest"
)

// trackerFaults are the ways to write a tracker wrong, and the case that has to
// find each.
var trackerFaults = map[string]string{
	"reading decays":                 "pure",
	"fails to be a number":           "finite",
	"in flight is a bonus":           "in flight",
	"what was not sent is a sample":  "unused",
	"a failure is a sample":          "failures",
	"a failure forgets":              "failures",
	"being asked to wait is a bonus": "retry after",
	"a cancelled call is a sample":   "cancelled",
	"silence is rest":                "silence",
	"a stream is a sample":           "streams",
	"a stream is silent":             "streams",
	"loses calls":                    "concurrent",
	"reading allocates":              "no garbage",
}

// flawed is a tracker with a fault: the latency of the last sample, times the
// calls in flight plus one.
type flawed struct {
	fault string

	mu      sync.Mutex
	latency float64
	pending float64
	begun   int64
	garbage []byte
}

func (f *flawed) Start(now int64) turret.Ticket {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending++
	f.begun = now
	return turret.Ticket{Start: now}
}

func (f *flawed) StartStream(now int64) turret.Ticket {
	t := f.Start(now)
	t.Data = 1
	return t
}

func (f *flawed) Done(now int64, t turret.Ticket, o turret.Outcome, retryAfter time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending--
	if f.fault == "loses calls" && now == t.Start {
		f.pending++
	}
	took := float64(max(0, now-t.Start))
	if t.Data == 1 {
		if f.fault == "a stream is a sample" {
			f.latency = took
		}
		return
	}
	switch o {
	case turret.Success:
		f.latency = took
	case turret.Unused:
		if f.fault == "what was not sent is a sample" {
			f.latency = took
		}
	case turret.Ignored:
		if f.fault == "a cancelled call is a sample" {
			f.latency = took
		}
	default:
		switch {
		case f.fault == "a failure is a sample":
			f.latency = took
		case f.fault == "a failure forgets":
			f.latency = 0
		case f.fault == "being asked to wait is a bonus" && retryAfter > 0:
			f.latency = 0
		default:
			f.latency = max(f.latency, float64(time.Second))
		}
	}
}

func (f *flawed) Load(now int64) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.latency + 1
	switch f.fault {
	case "reading decays":
		f.latency *= 0.9
	case "fails to be a number":
		if f.latency > float64(5*time.Millisecond) && f.pending > 1 {
			return math.NaN()
		}
	case "in flight is a bonus":
		return l / (f.pending + 1)
	case "silence is rest":
		if f.pending > 0 {
			l /= 1 + float64(max(0, now-f.begun))
		}
	case "a stream is silent":
		if f.pending > 0 {
			l += float64(max(0, now-f.begun))
		}
	case "reading allocates":
		f.garbage = make([]byte, 64)
	}
	return l * (f.pending + 1)
}

func TestTrackerOfAFlawlessOne(t *testing.T) {
	turrettest.TestTracker(t, func() load.Tracker { return new(flawed) })
}

// TestFaultyTracker is run by TestTrackerFindsFaults, in a process of its own:
// it is there to fail.
func TestFaultyTracker(t *testing.T) {
	f := os.Getenv(faultVariable)
	if _, ok := trackerFaults[f]; !ok {
		t.Skip("runs in a process of its own")
	}
	turrettest.TestTracker(t, func() load.Tracker { return &flawed{fault: f} })
}

// TestTrackerFindsFaults checks that each fault makes the case fail that is
// about it.
func TestTrackerFindsFaults(t *testing.T) {
	for f, name := range trackerFaults {
		t.Run(f, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFaultyTracker$")
			cmd.Env = append(os.Environ(), faultVariable+"="+f)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the suite found no fault")
			}
			if !strings.Contains(string(out), "--- FAIL: TestFaultyTracker/"+strings.ReplaceAll(name, " ", "_")) || !strings.Contains(string(out), "the rule: ") {
				t.Errorf("the case %q did not find it:\n%s", name, out)
			}
		})
	}
}
