package turrettest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
)

// TestGate checks that a gate keeps the contract of [turret.Gate]. It runs a
// table of cases, each as a subtest in a synctest bubble of its own; a case that
// fails prints the rule that was broken.
//
//	func TestTenantLimit(t *testing.T) {
//		turrettest.TestGate(t, func(t *testing.T) (turret.Gate, int) {
//			return NewTenantLimit(3), 3
//		})
//	}
//
// f makes a new gate for each case. It is called inside the bubble, so that the
// gate's clock is the bubble's. room is how many calls can be inside at once; for
// a gate that does not bound their number it is how many can enter at one
// instant, such as the burst of a token bucket. The cases fill the gate, so a
// small room (3, say) is enough and fast. A negative room says that there is no
// bound; the cases that need a full gate are skipped then.
//
// The cases give room back with [turret.Unused], after which every gate has it
// again at once, and no time passes in them. A gate may act on the other outcomes
// as it likes (a token is spent, a breaker opens or closes), as long as all its
// room is there again after a year without calls, or all bounds are gone.
//
// A gate with a line shows more of itself than one without: give it a line of at
// least three. Cases that find no line are skipped.
//
// A gate whose Enter, or Ready, does not come back when its context ends makes
// the test panic with synctest's "deadlock".
func TestGate(t *testing.T, f func(t *testing.T) (g turret.Gate, room int)) {
	t.Helper()
	for _, c := range gateCases {
		t.Run(c.name, func(t *testing.T) {
			var skipped string
			defer func() {
				switch {
				case t.Failed():
					t.Logf("the rule: %s", c.rule)
				case skipped != "":
					t.Skip(skipped)
				}
			}()
			synctest.Test(t, func(t *testing.T) {
				s := &subject{T: t, skipped: &skipped}
				s.gate, s.room = f(t)
				if s.gate == nil {
					t.Fatal("f returned no gate")
				}
				t.Cleanup(s.close)
				c.run(s)
			})
		})
	}
}

// A gateCase is one rule of the contract and a run that breaks if the rule is.
type gateCase struct {
	name string
	rule string // printed when the case fails
	run  func(s *subject)
}

// A subject is the gate under test and the calls that a case has made on it.
type subject struct {
	*testing.T

	gate    turret.Gate
	room    int
	skipped *string
	calls   []*attempt
}

// An attempt is a call of Enter, TryEnter or Ready on a goroutine of its own.
type attempt struct {
	over   atomic.Bool // set after ticket and err
	ticket turret.Ticket
	err    error
	cancel context.CancelFunc
}

// in reports whether the attempt came back with success.
func (a *attempt) in() bool { return a.over.Load() && a.err == nil }

// waits reports whether the attempt has not come back.
func (a *attempt) waits() bool { return !a.over.Load() }

// String says what became of the attempt.
func (a *attempt) String() string {
	if a.waits() {
		return "it waits"
	}
	return fmt.Sprintf("it came back with %v", a.err)
}

// start calls f on a goroutine and waits until nothing moves any more.
func (s *subject) start(f func(ctx context.Context) (turret.Ticket, error)) *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{cancel: cancel}
	s.calls = append(s.calls, a)
	go func() {
		a.ticket, a.err = f(ctx)
		a.over.Store(true)
	}()
	synctest.Wait()
	return a
}

// close ends what still waits, so that the bubble can end.
func (s *subject) close() {
	for _, a := range s.calls {
		a.cancel()
	}
	synctest.Wait()
	for _, a := range s.calls {
		if a.waits() {
			s.Fatal("a call has not come back although its context has ended")
		}
	}
}

// skip ends the case because the gate cannot show what it is about.
func (s *subject) skip(why string) {
	*s.skipped = why
	s.SkipNow()
}

// bounded skips the case if the gate cannot be full, or has less than n room.
func (s *subject) bounded(n int) {
	if s.room < 0 {
		s.skip("the gate has no bound")
	}
	if s.room < n {
		s.skip("the gate has too little room")
	}
}

func (s *subject) enter() *attempt { return s.start(s.gate.Enter) }

// enterNow calls Enter, which has to succeed without waiting.
func (s *subject) enterNow() *attempt {
	s.Helper()
	a := s.enter()
	switch {
	case a.waits():
		s.Fatal("Enter waits, though there is room")
	case a.err != nil:
		s.Fatalf("Enter: %v, though there is room", a.err)
	}
	return a
}

// tryEnter calls TryEnter, which has to come back at once.
func (s *subject) tryEnter() *attempt {
	s.Helper()
	a := s.start(s.gate.TryEnter)
	if a.waits() {
		s.Fatal("TryEnter waits")
	}
	return a
}

func (s *subject) ready() *attempt {
	return s.start(func(ctx context.Context) (turret.Ticket, error) {
		return turret.Ticket{}, s.gate.Ready(ctx)
	})
}

// readyNow calls Ready with a context that has ended; it has to come back at
// once.
func (s *subject) readyNow() error {
	s.Helper()
	a := s.start(func(ctx context.Context) (turret.Ticket, error) {
		return turret.Ticket{}, s.gate.Ready(ended(ctx))
	})
	if a.waits() {
		s.Fatal("Ready waits, though its context has ended")
	}
	return a.err
}

// leave gives room back, with the outcome that every gate takes it back for.
func (s *subject) leave(a *attempt) {
	s.Helper()
	s.leaveWith(a, turret.Unused)
}

func (s *subject) leaveWith(a *attempt, o turret.Outcome) {
	s.Helper()
	left := s.start(func(context.Context) (turret.Ticket, error) {
		s.gate.Leave(a.ticket, o)
		return turret.Ticket{}, nil
	})
	if left.waits() {
		s.Fatalf("Leave(%v) waits", o)
	}
}

// fill takes all room.
func (s *subject) fill() []*attempt {
	s.Helper()
	s.bounded(0)
	inside := make([]*attempt, s.room)
	for i := range inside {
		inside[i] = s.enterNow()
	}
	return inside
}

// queue starts n calls of Enter on a full gate and returns those that wait, in
// their order. If fewer than atLeast wait, the case is skipped.
func (s *subject) queue(n, atLeast int) []*attempt {
	s.Helper()
	var line []*attempt
	for range n {
		switch a := s.enter(); {
		case a.waits():
			line = append(line, a)
		case a.err == nil:
			s.Fatal("Enter succeeds, though there is no room")
		default:
			s.wantRefusal("Enter", a.err)
		}
	}
	if len(line) < atLeast {
		s.skip("the gate has no line, or too short a one")
	}
	return line
}

// count returns how many calls can enter now, and gives their room back. It
// stops at twice the room and a few more.
func (s *subject) count() int {
	s.Helper()
	var inside []*attempt
	for range s.most() {
		a := s.tryEnter()
		if a.err != nil {
			s.wantRefusal("TryEnter", a.err)
			break
		}
		inside = append(inside, a)
	}
	for _, a := range inside {
		s.leave(a)
	}
	return len(inside)
}

// most is the number from which on count takes the gate for unbounded.
func (s *subject) most() int { return 2*max(s.room, 0) + 16 }

// wantRoom fails the case if not all room is free.
func (s *subject) wantRoom() {
	s.Helper()
	want := s.room
	if want < 0 {
		want = s.most()
	}
	if got := s.count(); got != want {
		s.Fatalf("%d calls can enter now, want %d", got, want)
	}
}

// wantRefusal fails the case if err is not how a gate turns a call away.
func (s *subject) wantRefusal(what string, err error) {
	s.Helper()
	if _, ok := errors.AsType[*turret.Refusal](err); !ok || !errors.Is(err, turret.ErrNotReady) {
		s.Errorf("%s: %v (%T), want a *turret.Refusal", what, err, err)
	}
}

// wantGaveUp fails the case if err is not the error of a caller that was
// cancelled in front of the gate.
func (s *subject) wantGaveUp(err error) {
	s.Helper()
	if !errors.Is(err, context.Canceled) || !errors.Is(err, turret.ErrNotReady) {
		s.Errorf("Enter: %v (%T), want an error that matches context.Canceled and turret.ErrNotReady", err, err)
	}
}

// ended returns a child of ctx that is done.
func ended(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// print calls what users call to look at a gate: String and Stats, if there are.
func (s *subject) print() {
	if g, ok := s.gate.(fmt.Stringer); ok {
		_ = g.String()
	}
	if stats := reflect.ValueOf(s.gate).MethodByName("Stats"); stats.IsValid() && stats.Type().NumIn() == 0 {
		stats.Call(nil)
	}
}
