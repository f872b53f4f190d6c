package balance_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/fakeconn"
)

// handsOver has bans without much chance in them: the first lasts between 7.5 and
// 10 s.
var handsOver = balance.Config{OnBanned: balance.FailOver, Failures: balance.Failures{BanFor: 10 * time.Second}}

func unwell(string) balancer.DoneInfo { return down }

func (f *fleet) reports(want connectivity.State) {
	f.Helper()
	if s, _ := f.conn.State(); s.ConnectivityState != want {
		f.Fatalf("the policy reports %v, want %v", s.ConnectivityState, want)
	}
}

// sicken fails calls until the policy hands over, and returns how many that took.
func (f *fleet) sicken() (calls int) {
	f.Helper()
	for s, _ := f.conn.State(); s.ConnectivityState == connectivity.Ready; s, _ = f.conn.State() {
		f.serve(1, unwell)
		if calls++; calls > 1000 {
			f.Fatal("1,000 calls have failed, and the policy still reports READY")
		}
	}
	return calls
}

// trial waits for the next trial and returns its call.
func (f *fleet) trial() picked {
	f.Helper()
	for range 600 {
		if s, _ := f.conn.State(); s.ConnectivityState == connectivity.Ready {
			return f.pick()
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.Fatal("no trial within a minute")
	return picked{}
}

func (f *fleet) waits() {
	f.Helper()
	if p, err := f.tryPick(f.Context()); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		f.Fatalf("picked %q (%v), want the call to wait for the trial", p.address, err)
	}
}

func TestFailOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(3))
		f.serve(100, well)
		if n := f.sicken(); n > 18 {
			t.Errorf("%d calls failed before the policy handed over, want at most 18", n)
		}
		f.reports(connectivity.TransientFailure)
		start := time.Now()
		f.trial().done(down)
		if took := time.Since(start); took < 7*time.Second || took > 10*time.Second {
			t.Errorf("the first trial after %v, want 7.5 s to 10 s", took)
		}
		f.reports(connectivity.TransientFailure)
		start = time.Now()
		p := f.trial()
		if took := time.Since(start); took < 15*time.Second || took > 20*time.Second {
			t.Errorf("the second trial after %v, want 15 s to 20 s", took)
		}
		f.waits()
		_, before := f.conn.State()
		time.Sleep(time.Millisecond)
		p.done(answered)
		if _, after := f.conn.State(); after == before {
			t.Error("no new picker when the trial has succeeded: calls would wait on")
		}
		f.reports(connectivity.Ready)
		if n := len(f.serve(300, well)); n != 3 {
			t.Errorf("%d of 3 endpoints are used after healing", n)
		}
	})
}

// However many endpoints fail, six failures in a row ban each of them.
func TestFailOverOfManyEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const endpoints = 30
		f := newFleet(t, handsOver, fakeconn.Endpoints(endpoints))
		if n := f.sicken(); n > 6*endpoints {
			t.Errorf("%d calls failed before the policy handed over, want at most %d", n, 6*endpoints)
		}
	})
}

// A trial without an end keeps calls waiting for a second. Its success counts,
// however late it comes.
func TestFailOverTrialHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(2))
		f.sicken()
		p := f.trial()
		f.waits()
		time.Sleep(999 * time.Millisecond)
		f.reports(connectivity.Ready)
		f.waits()
		time.Sleep(2 * time.Millisecond)
		f.reports(connectivity.TransientFailure)
		time.Sleep(time.Second)
		p.done(answered)
		f.reports(connectivity.Ready)
		f.serve(10, well)
	})
}

// Without calls a trial takes no time: whichever call comes first decides it.
func TestFailOverTrialWithoutCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(2))
		f.sicken()
		time.Sleep(time.Hour)
		f.reports(connectivity.Ready)
		p := f.pick()
		f.waits()
		p.done(answered)
		f.serve(10, well)
	})
}

// A call that says nothing about its endpoint leaves the trial to the next one.
func TestFailOverTrialIsCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(2))
		f.sicken()
		p := f.trial()
		f.waits()
		p.done(unused)
		f.reports(connectivity.Ready)
		ctx, cancel := context.WithCancel(t.Context())
		p, err := f.tryPick(ctx)
		if err != nil {
			t.Fatalf("after a trial that was not sent: %v", err)
		}
		cancel()
		p.done(failed(codes.Canceled))
		f.pick().done(answered)
		f.serve(10, well)
	})
}

// A retry may be the call of a trial, for all calls wait for its end.
func TestFailOverTrialOfARetry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(2))
		f.sicken()
		time.Sleep(10 * time.Second)
		ctx, record := attempts.NewContext(t.Context(), attempts.Unary)
		record.Add(attempts.NewID())
		p, err := f.tryPick(ctx)
		if err != nil {
			t.Fatalf("a retry finds a trial: %v", err)
		}
		p.done(answered)
		f.serve(10, well)
	})
}

// Calls that come all the same, because no other endpoints are known, are sent.
func TestFailOverWithNowhereToGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(3))
		f.sicken()
		f.serve(50, unwell)
		f.reports(connectivity.TransientFailure)
		time.Sleep(20 * time.Second)
		f.serve(300, well)
		f.reports(connectivity.Ready)
	})
}

// Latency does not hand over: it bans no more than MaxBanned.
func TestLatencyDoesNotFailOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{OnBanned: balance.FailOver}, fakeconn.Endpoints(3))
		f.serve(500, well)
		for range 100 {
			p := f.pick()
			time.Sleep(time.Second)
			p.done(answered)
			f.reports(connectivity.Ready)
		}
	})
}

// One call in ten fails at every endpoint: that is no reason to hand over.
func TestChanceDoesNotFailOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		f := newFleet(t, balance.Config{OnBanned: balance.FailOver}, fakeconn.Endpoints(3))
		for range 5000 {
			f.serve(1, func(string) balancer.DoneInfo {
				if random.IntN(10) == 0 {
					return down
				}
				return answered
			})
			f.reports(connectivity.Ready)
		}
	})
}

// What changes the endpoints or the configuration ends a handover.
func TestFailOverEnds(t *testing.T) {
	endpoints := fakeconn.Endpoints(3)
	for name, change := range map[string]func(f *fleet){
		"another endpoint": func(f *fleet) { f.resolve(endpoints) },
		"another configuration": func(f *fleet) {
			f.config.OnBanned = balance.Use
			f.resolve(endpoints[:2])
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t, handsOver, endpoints[:2])
				f.sicken()
				change(f)
				f.reports(connectivity.Ready)
				f.serve(10, well)
				time.Sleep(time.Hour)
				f.reports(connectivity.Ready)
			})
		})
	}
}

// A connection that is lost and comes back does not end a handover.
func TestFailOverSurvivesReconnecting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(1))
		p := f.pick()
		p.done(answered)
		f.sicken()
		p.conn.Become(connectivity.Idle)
		f.conn.Settle()
		synctest.Wait() // it connects again by itself
		f.conn.Settle()
		f.reports(connectivity.TransientFailure)
		f.trial().done(answered)
		f.reports(connectivity.Ready)
	})
}

// After Close there is no report, in the middle of a handover or of a trial.
func TestFailOverCloses(t *testing.T) {
	for _, wait := range []time.Duration{0, 10 * time.Second} {
		bubble(t, func(t *testing.T) {
			f := newFleet(t, handsOver, fakeconn.Endpoints(2))
			f.sicken()
			time.Sleep(wait)
			p := f.pick()
			f.policy.Close()
			f.conn.Settle()
			_, before := f.conn.State()
			p.done(answered)
			time.Sleep(time.Hour)
			if _, after := f.conn.State(); after != before {
				t.Errorf("%d reports after Close", after-before)
			}
		})
	}
}

// The description says that calls are handed over.
func TestFailOverIsDescribed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, handsOver, fakeconn.Endpoints(2))
		for _, want := range []string{"serving", "handed_over", "on_trial"} {
			if got := figure(channel(t, 0), "fail_over").Text; got != want {
				t.Errorf("described as %q, want %q", got, want)
			}
			if want == "serving" {
				f.sicken()
			} else {
				time.Sleep(10 * time.Second)
			}
		}
	})
}
