package turret_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/turrettest"
)

// One gate around two services is one limit: its places, and its line, are those
// of both.
func TestSharedLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
		layer := turret.Gated[string, string](places, nil)
		innerA, innerB := turrettest.NewMock[string, string](t), turrettest.NewMock[string, string](t)
		a, b := layer(innerA), layer(innerB)

		inside := turrettest.Go(t.Context(), a, "1")
		first := innerA.Expect(t.Context(), "1")
		synctest.Wait()
		for name, s := range map[string]Service{"a": a, "b": b} {
			if err := turret.ReadyNow(s); !errors.Is(err, turret.ErrNotReady) {
				t.Errorf("%s is ready (%v), though the only place is taken", name, err)
			}
		}
		// In line: one at b that gives up, one at b, one at a.
		ctx, cancel := context.WithCancel(t.Context())
		gives := turrettest.Go(ctx, b, "gives up")
		synctest.Wait()
		second := turrettest.Go(t.Context(), b, "2")
		synctest.Wait()
		third := turrettest.Go(t.Context(), a, "3")
		synctest.Wait()
		if got := places.Stats().Waiting; got != 3 {
			t.Fatalf("%d wait, want 3", got)
		}
		cancel()
		if _, err := gives.Result(); !errors.Is(err, context.Canceled) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("gave up: %v, want an error that matches the context's and ErrNotReady", err)
		}
		first.Respond("")
		innerB.Expect(t.Context(), "2").Respond("")
		innerA.Expect(t.Context(), "3").Respond("")
		for _, call := range []*turrettest.Call[string]{inside, second, third} {
			if _, err := call.Result(); err != nil {
				t.Errorf("got %v, want an answer", err)
			}
		}
		if s := places.Stats(); s.InFlight != 0 || s.Waiting != 0 || s.Entered != 3 {
			t.Errorf("%+v, want 3 that entered, and nobody there", s)
		}
	})
}

// A limit of 0 admits no call to either service until it is raised, and one of
// MaxInt every call.
func TestSharedLimitAtTheEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := limit.NewConcurrency(0, limit.Queue{Max: limit.Unbounded})
		layer := turret.Gated[string, string](places, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		calls := []*turrettest.Call[string]{
			turrettest.Go(ctx, layer(echo), "a"),
			turrettest.Go(ctx, layer(echo), "b"),
		}
		time.Sleep(time.Hour - 1)
		if over := slices.ContainsFunc(calls, (*turrettest.Call[string]).Over); over {
			t.Error("a limit of 0 has let a call in")
		}
		places.SetMax(math.MaxInt)
		for _, call := range calls {
			if _, err := call.Result(); err != nil {
				t.Errorf("got %v, want an answer when the limit was raised", err)
			}
		}
	})
}

// A wait in Do ends when there is room, and leaves nothing behind when the caller
// gives up.
func TestDoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		inner.Allow(0)
		do := turret.ServiceFunc(func(ctx context.Context, req string) (string, error) { return turret.Do(ctx, inner, req) })
		ctx, cancel := context.WithCancel(t.Context())
		gives, stays := turrettest.Go(ctx, do, "a"), turrettest.Go(t.Context(), do, "b")
		synctest.Wait()
		cancel()
		if _, err := gives.Result(); !errors.Is(err, context.Canceled) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("gave up: %v, want an error that matches the context's and ErrNotReady", err)
		}
		if polls, calls := inner.Waiting(); polls != 1 || calls != 0 {
			t.Errorf("%d wait for room and %d to be let in, want 1 and none", polls, calls)
		}
		inner.Allow(1)
		inner.Expect(t.Context(), "b").Respond("c")
		if res, err := stays.Result(); res != "c" || err != nil {
			t.Errorf("got %q, %v, want the answer", res, err)
		}
	})
}

// What is between a caller and its answer ends with the caller's context, be it a
// function that waits, before the call or after it.
func TestCombinatorsCancelledWhileTheyWait(t *testing.T) {
	wait := func(ctx context.Context, s string) (string, error) {
		<-ctx.Done()
		return s, ctx.Err()
	}
	for name, layer := range map[string]Layer{
		"Filter":  turret.Filter[string](wait),
		"AndThen": turret.AndThen[string](wait),
		"Then":    turret.Then[string](func(ctx context.Context, s string, _ error) (string, error) { return wait(ctx, s) }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				_, err := layer(echo).Call(ctx, "a")
				if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, turret.ErrNotReady) || time.Since(began) != time.Second {
					t.Errorf("%v after %v, want the context's error after 1s", err, time.Since(began))
				}
			})
		})
	}
}

// A caller in line inside of a combinator leaves it with its context.
func TestCombinatorsCancelledInLine(t *testing.T) {
	layers := combinators()
	layers["Steer"] = func(s Service) Service { return turret.Steer(first, s) }
	layers["SteerLive"] = func(s Service) Service { return turret.SteerLive(first, s) }
	layers["Optional"] = turret.Optional[string, string]
	for name, layer := range layers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, inner := turrettest.NewMockUnder(t, layer)
				inner.Allow(0)
				ctx, cancel := context.WithCancel(t.Context())
				call, polls := turrettest.Go(ctx, s, "a"), turrettest.GoReady(ctx, s)
				synctest.Wait()
				if call.Over() || polls.Over() {
					t.Fatal("over, though there is no room")
				}
				cancel()
				for _, c := range []*turrettest.Call[string]{call, polls} {
					if _, err := c.Result(); !errors.Is(err, context.Canceled) || !errors.Is(err, turret.ErrNotReady) {
						t.Errorf("gave up: %v, want an error that matches the context's and ErrNotReady", err)
					}
				}
				if polls, calls := inner.Waiting(); polls != 0 || calls != 0 {
					t.Errorf("%d wait for room and %d to be let in, want none", polls, calls)
				}
			})
		})
	}
}
