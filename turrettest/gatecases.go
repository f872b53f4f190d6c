package turrettest

import (
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

var gateCases = []gateCase{
	{
		"room", "Enter does not wait while there is room, and Leave with Unused gives the room back at once.",
		func(s *subject) {
			for range 2 {
				for _, a := range s.fill() {
					s.leave(a)
				}
			}
			s.wantRoom()
		},
	},
	{
		"ready with room", "Ready is nil while there is room, also with a context that has ended.",
		func(s *subject) {
			if s.room == 0 {
				s.skip("the gate has no room")
			}
			if err := s.readyNow(); err != nil {
				s.Errorf("Ready with an ended context: %v, want nil", err)
			}
			if a := s.ready(); !a.in() {
				s.Errorf("Ready: %v, want nil at once", a)
			}
		},
	},
	{
		"ready when full", "Ready without room waits; with a context that has ended it answers ErrNotReady at once; when the context ends it answers with an error that matches ErrNotReady or the context's.",
		func(s *subject) {
			s.fill()
			if err := s.readyNow(); !errors.Is(err, turret.ErrNotReady) {
				s.Errorf("Ready with an ended context: %v, want ErrNotReady", err)
			}
			a := s.ready()
			if a.in() {
				s.Fatal("Ready: nil, though there is no room")
			}
			a.cancel()
			synctest.Wait()
			if !errors.Is(a.err, turret.ErrNotReady) && !errors.Is(a.err, context.Canceled) {
				s.Errorf("Ready: %v, want ErrNotReady or context.Canceled", a.err)
			}
		},
	},
	{
		"ready returns", "All calls of Ready that wait return nil when there is room and no line.",
		func(s *subject) {
			s.bounded(1)
			inside := s.fill()
			polls := []*attempt{s.ready(), s.ready(), s.ready()}
			s.leave(inside[0])
			for i, a := range polls {
				if !a.in() {
					s.Errorf("poller %d: %v, want nil", i, a)
				}
			}
			s.leaveAll(inside[1:])
			s.wantRoom()
		},
	},
	{
		"ready takes nothing", "Ready takes no room: however often it is asked, all room is there afterwards.",
		func(s *subject) {
			for range 100 {
				_ = s.readyNow()
				s.ready().cancel()
			}
			synctest.Wait()
			s.wantRoom()
		},
	},
	{
		"ready takes no turn", "A call of Ready holds no place in the line: room goes to the calls of Enter, as if Ready were not called.",
		func(s *subject) {
			s.bounded(1)
			inside := s.fill()
			before := []*attempt{s.ready(), s.ready()}
			line := s.queue(2, 1)
			between := s.ready()
			for i, a := range line {
				s.leave(inside[0])
				if !a.in() {
					s.Fatalf("caller %d in line: %v, want it to be in", i, a)
				}
				inside = append(inside[1:], a)
			}
			for _, a := range append(before, between) {
				a.cancel()
			}
			s.leaveAll(inside)
			s.wantRoom()
		},
	},
	{
		"try without room", "TryEnter without room refuses at once, with a *turret.Refusal.",
		func(s *subject) {
			s.fill()
			a := s.tryEnter()
			if a.err == nil {
				s.Fatal("TryEnter: nil, though there is no room")
			}
			s.wantRefusal("TryEnter", a.err)
		},
	},
	{
		"try with ended context", "TryEnter takes room that is free, whether its context is done or not.",
		func(s *subject) {
			if s.room == 0 {
				s.skip("the gate has no room")
			}
			a := s.start(func(ctx context.Context) (turret.Ticket, error) { return s.gate.TryEnter(ended(ctx)) })
			if !a.in() {
				s.Fatalf("TryEnter with an ended context: %v, want success", a)
			}
			s.leave(a)
			s.wantRoom()
		},
	},
	{
		"try does not overtake", "Room that comes free belongs to the head of the line, also before the head has noticed: TryEnter does not get it, and Ready does not promise it.",
		func(s *subject) {
			s.bounded(1)
			last := s.fill()[0]
			for range 20 { // a head that runs before TryEnter shows nothing
				head := s.queue(1, 1)[0]
				s.gate.Leave(last.ticket, turret.Unused)
				gone := ended(context.Background())
				_, err := s.gate.TryEnter(gone)
				if err == nil {
					s.Fatal("TryEnter: nil, though somebody waits in line")
				}
				if err := s.gate.Ready(gone); err == nil {
					s.Fatal("Ready: nil, though the room is promised to the line")
				}
				synctest.Wait()
				if !head.in() {
					s.Fatalf("the head of the line: %v, want it to be in", head)
				}
				last = head
			}
		},
	},
	{
		"enter with ended context", "Enter with a context that has ended fails with an error that matches the context's error and ErrNotReady, and takes nothing.",
		func(s *subject) {
			a := s.start(func(ctx context.Context) (turret.Ticket, error) { return s.gate.Enter(ended(ctx)) })
			if a.waits() {
				s.Fatal("Enter waits, though its context has ended")
			}
			s.wantGaveUp(a.err)
			s.wantRoom()
		},
	},
	{
		"enter when full", "Enter without room waits, or refuses with a *turret.Refusal; a caller that gives up gets an error that matches the context's error and ErrNotReady.",
		func(s *subject) {
			s.fill()
			line := s.queue(8, 1)
			for _, a := range line {
				a.cancel()
			}
			synctest.Wait()
			for _, a := range line {
				if a.waits() {
					s.Fatal("Enter still waits, though its context has ended")
				}
				s.wantGaveUp(a.err)
			}
		},
	},
	{
		"first in first out", "Room goes to the head of the line at once, in the order of the line, one call for each room.",
		func(s *subject) {
			s.bounded(1)
			inside := s.fill()
			line := s.queue(5, 2)
			began := time.Now()
			for i := range line {
				s.leave(inside[0])
				for j, a := range line {
					if a.in() != (j <= i) {
						s.Fatalf("after room for %d: caller %d in line is in: %t", i+1, j, a.in())
					}
				}
				inside = append(inside[1:], line[i])
			}
			if waited := time.Since(began); waited > 0 {
				s.Errorf("the line waited %v for room that was free", waited)
			}
			s.leaveAll(inside)
			s.wantRoom()
		},
	},
	{
		"cancelled in line", "A waiter that gives up leaves no trace: the others move up in their order, and its room goes to them.",
		func(s *subject) {
			s.bounded(1)
			for _, i := range []int{0, 1, 2} { // first, middle, last
				inside := s.fill()
				line := s.queue(3, i+1)
				line[i].cancel()
				synctest.Wait()
				s.wantGaveUp(line[i].err)
				for _, a := range slices.Delete(slices.Clone(line), i, i+1) {
					s.leave(inside[0])
					if !a.in() {
						s.Fatalf("caller %d of 3 gave up; the next one in line: %v, want it to be in", i, a)
					}
					inside = append(inside[1:], a)
				}
				s.leaveAll(inside)
				s.wantRoom()
			}
		},
	},
	{
		"cancelled as room comes", "A waiter that gives up in the very instant in which it gets room either has it or gives it on.",
		func(s *subject) {
			s.bounded(1)
			for round := range 20 {
				inside := s.fill()
				line := s.queue(2, 1)
				if round%2 == 0 {
					line[0].cancel()
					s.gate.Leave(inside[0].ticket, turret.Unused)
				} else {
					s.gate.Leave(inside[0].ticket, turret.Unused)
					line[0].cancel()
				}
				synctest.Wait()
				inside = inside[1:]
				for _, a := range line {
					if a.in() {
						inside = append(inside, a)
					}
					a.cancel()
				}
				if len(line) > 1 && len(inside) != s.room {
					s.Fatalf("%d calls are inside, want %d: room was lost or made", len(inside), s.room)
				}
				synctest.Wait()
				s.leaveAll(inside)
				s.wantRoom()
			}
		},
	},
	{
		"errors hold nothing", "A caller that was refused, or gave up, holds nothing.",
		func(s *subject) {
			inside := s.fill()
			for range 20 {
				if s.tryEnter().err == nil {
					s.Fatal("TryEnter: nil, though there is no room")
				}
			}
			for _, a := range s.queue(20, 0) {
				a.cancel()
			}
			synctest.Wait()
			s.leaveAll(inside)
			s.wantRoom()
		},
	},
	{
		"every outcome", "Leave takes every outcome, the zero one too, without waiting. Room is back at once, or after a time, and never more than before; a gate may also lose its bound, as a breaker does that closes.",
		func(s *subject) {
			if s.room == 0 {
				s.skip("the gate has no room")
			}
			for o := range turret.Unused + 1 {
				a := s.enter()
				if a.waits() || a.err != nil {
					s.Fatalf("before Leave(%v): Enter: %v, want success", o, a)
				}
				s.leaveWith(a, o)
				s.wantRoomAfter(o)
			}
		},
	},
	{
		"concurrent calls", "Many calls at once never have more room than there is, lose none, and wait for none that is free; Stats and String may be called meanwhile.",
		concurrentCalls,
	},
}

// leaveAll gives back all room that the calls have.
func (s *subject) leaveAll(inside []*attempt) {
	s.Helper()
	for _, a := range inside {
		s.leave(a)
	}
}

// wantRoomAfter fails the case if room was lost, or made, by Leave(o).
func (s *subject) wantRoomAfter(o turret.Outcome) {
	s.Helper()
	if got := s.count(); s.room >= 0 && got > s.room && got < s.most() {
		s.Fatalf("after Leave(%v) %d calls can enter, want at most %d", o, got, s.room)
	}
	time.Sleep(365 * 24 * time.Hour) //nolint:forbidigo // moves the bubble's clock
	got, want := s.count(), s.room
	if want < 0 {
		want = s.most()
	}
	if got != want && got < s.most() {
		s.Fatalf("a year after Leave(%v) %d calls can enter, want %d", o, got, want)
	}
}
