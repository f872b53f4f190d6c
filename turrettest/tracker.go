package turrettest

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/load"
)

// TestTracker checks that a tracker keeps the contract of [load.Tracker]. It
// runs a table of cases, each as a subtest; a case that fails prints the rule
// that was broken. f makes a new tracker, the same each time.
//
//	func TestQueueLength(t *testing.T) {
//		turrettest.TestTracker(t, func() load.Tracker { return NewQueueLength() })
//	}
//
// A [load.StreamTracker] is tested with streams too.
func TestTracker(t *testing.T, f func() load.Tracker) {
	t.Helper()
	for _, c := range trackerCases {
		t.Run(c.name, func(t *testing.T) {
			defer func() { // also when the case ends early
				if t.Failed() {
					t.Logf("the rule: %s", c.rule)
				}
			}()
			c.check(&trackerSubject{T: t, make: f})
		})
	}
}

type trackerCase struct {
	name, rule string
	check      func(s *trackerSubject)
}

type trackerSubject struct {
	*testing.T

	make func() load.Tracker
}

const (
	oneMs     = int64(time.Millisecond)
	oneMinute = int64(time.Minute)
)

// used returns a tracker that has seen ten answers, 10 ms each, up to 1 s.
func (s *trackerSubject) used() load.Tracker {
	tr := s.make()
	for i := range int64(10) {
		at := i * 100 * oneMs
		tr.Done(at+10*oneMs, tr.Start(at), turret.Success, 0)
	}
	return tr
}

// afterUse is when the trackers of used have seen their last call.
const afterUse = 1000 * oneMs

// finite fails the test if a load is none.
func (s *trackerSubject) finite(l float64) {
	s.Helper()
	if !(l >= 0) || math.IsInf(l, 1) {
		s.Fatalf("Load = %v", l)
	}
}

var trackerCases = []trackerCase{
	{
		"pure", "Reading changes nothing: at one instant all reads are equal, whatever was read in between.",
		func(s *trackerSubject) {
			for _, tr := range []load.Tracker{s.make(), s.used()} {
				tr.Start(afterUse)
				first := tr.Load(afterUse + oneMs)
				for _, later := range []int64{oneMs, oneMinute, 60 * oneMinute} {
					tr.Load(afterUse + later)
				}
				if again := tr.Load(afterUse + oneMs); again != first {
					s.Errorf("Load = %v, and %v at the same instant after other reads", first, again)
				}
			}
		},
	},
	{
		"finite", "Load is finite and at least 0, whatever happens, also if now goes back a little.",
		func(s *trackerSubject) {
			random := rand.New(rand.NewPCG(1, 2))
			tr := s.make()
			var inside []turret.Ticket
			now := int64(0)
			for range 10_000 {
				now = max(0, now+random.Int64N(10*oneMs)-oneMs)
				if random.IntN(2) == 0 || len(inside) == 0 {
					inside = append(inside, tr.Start(now))
				} else {
					o := turret.Outcome(random.IntN(6)) // the zero value too
					tr.Done(now, inside[0], o, time.Duration(random.Int64()))
					inside = inside[1:]
				}
				s.finite(tr.Load(now))
				s.finite(tr.Load(now + oneMinute))
			}
		},
	},
	{
		"in flight", "A call in flight makes no endpoint look less loaded.",
		func(s *trackerSubject) {
			tr := s.used()
			for range 10 {
				before := tr.Load(afterUse)
				tr.Start(afterUse)
				if after := tr.Load(afterUse); after < before {
					s.Fatalf("Load fell from %v to %v when a call began", before, after)
				}
			}
		},
	},
	{
		"unused", "A call that was not sent leaves no trace.",
		func(s *trackerSubject) {
			for _, tr := range []load.Tracker{s.make(), s.used()} {
				before := tr.Load(afterUse + oneMinute)
				tr.Done(afterUse+oneMs, tr.Start(afterUse), turret.Unused, 0)
				if after := tr.Load(afterUse + oneMinute); after != before {
					s.Errorf("Load = %v, want %v", after, before)
				}
			}
		},
	},
	{
		"failures", "Calls that fail at once do not make an endpoint look faster than calls that are answered at once do, nor than before.",
		func(s *trackerSubject) {
			for _, o := range []turret.Outcome{turret.Failure, turret.Overload, 0} {
				failing, answering, idle := s.used(), s.used(), s.used()
				at := afterUse
				for range 20 {
					failing.Done(at+oneMs, failing.Start(at), o, 0)
					answering.Done(at+oneMs, answering.Start(at), turret.Success, 0)
					at += 10 * oneMs
				}
				if f, a := failing.Load(at), answering.Load(at); f < a {
					s.Errorf("%v in 1 ms: Load = %v; answers in 1 ms: %v", o, f, a)
				}
				if f, i := failing.Load(at), idle.Load(at); f < i {
					s.Errorf("%v in 1 ms: Load = %v; no calls: %v", o, f, i)
				}
			}
		},
	},
	{
		"retry after", "An endpoint that asks to be left alone for a minute looks no less loaded than one that does not.",
		func(s *trackerSubject) {
			asks, other := s.used(), s.used()
			asks.Done(afterUse, asks.Start(afterUse), turret.Overload, time.Minute)
			other.Done(afterUse, other.Start(afterUse), turret.Overload, 0)
			if a, o := asks.Load(afterUse+oneMs), other.Load(afterUse+oneMs); a < o {
				s.Errorf("Load = %v, and %v of one that does not ask", a, o)
			}
		},
	},
	{
		"cancelled", "A call that its caller cancelled early does not make an endpoint look faster.",
		func(s *trackerSubject) {
			cancelled, idle := s.used(), s.used()
			for range 20 {
				cancelled.Done(afterUse+oneMs, cancelled.Start(afterUse), turret.Ignored, 0)
			}
			if c, i := cancelled.Load(afterUse+oneMs), idle.Load(afterUse+oneMs); c < i {
				s.Errorf("Load = %v, and %v of one without the calls", c, i)
			}
		},
	},
	{
		"silence", "An endpoint that has owed an answer for a minute does not look less loaded than when the call began.",
		func(s *trackerSubject) {
			tr := s.used()
			tr.Start(afterUse)
			if now, later := tr.Load(afterUse), tr.Load(afterUse+oneMinute); later < now {
				s.Errorf("Load fell from %v to %v while a call was not answered", now, later)
			}
		},
	},
	{
		"streams", "The life of a stream is no latency, and its silence no sign: an hour of it leaves no trace.",
		func(s *trackerSubject) {
			tr, ok := s.used().(load.StreamTracker)
			if !ok {
				s.Skip("no StreamTracker")
			}
			idle := s.used()
			end := afterUse + 60*oneMinute
			stream := tr.StartStream(afterUse)
			if now, later := tr.Load(afterUse), tr.Load(end); later > now {
				s.Errorf("Load grew from %v to %v while a stream was open", now, later)
			}
			tr.Done(end, stream, turret.Success, 0)
			if l, i := tr.Load(end), idle.Load(end); l != i {
				s.Errorf("Load = %v after the stream, want %v", l, i)
			}
		},
	},
	{
		"concurrent", "The methods may be called concurrently, and when all calls have ended nothing of them is in flight.",
		func(s *trackerSubject) {
			tr := s.used()
			before := tr.Load(afterUse)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 1000 {
						t := tr.Start(afterUse)
						if l := tr.Load(afterUse); !(l >= 0) {
							s.Errorf("Load = %v", l)
						}
						tr.Done(afterUse, t, turret.Unused, 0)
					}
				})
			}
			all.Wait()
			if after := tr.Load(afterUse); after != before {
				s.Errorf("Load = %v after calls that were not sent, want %v", after, before)
			}
		},
	},
	{
		"no garbage", "Reading does not allocate.",
		func(s *trackerSubject) {
			tr := s.used()
			if n := testing.AllocsPerRun(100, func() { tr.Load(afterUse) }); n != 0 {
				s.Errorf("Load allocates %v times", n)
			}
		},
	},
}
