package turrettest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

// call runs a Call in a goroutine of its own.
type call struct {
	done     bool // true once the goroutine is over, however it ended
	res      string
	err      error
	panicked any
}

func start(ctx context.Context, s turret.Service[string, string], req string) *call {
	c := &call{}
	go func() {
		defer func() {
			c.panicked = recover()
			c.done = true
		}()
		c.res, c.err = s.Call(ctx, req)
	}()
	return c
}

func TestMockAnswers(t *testing.T) {
	refused := errors.New("refused")
	tests := map[string]struct {
		answer func(r *turrettest.Request[string, string]) bool
		want   call
	}{
		"respond": {func(r *turrettest.Request[string, string]) bool { return r.Respond("pong") }, call{done: true, res: "pong"}},
		"fail":    {func(r *turrettest.Request[string, string]) bool { return r.Fail(refused) }, call{done: true, err: refused}},
		"panic":   {func(r *turrettest.Request[string, string]) bool { return r.Panic("boom") }, call{done: true, panicked: "boom"}},
		"goexit":  {func(r *turrettest.Request[string, string]) bool { return r.Goexit() }, call{done: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := turrettest.NewMock[string, string](t)
				got := start(t.Context(), inner, "ping")
				request := inner.Next(t.Context())
				if request.Request != "ping" || request.Context != t.Context() {
					t.Errorf("took %q with another context or request", request.Request)
				}
				synctest.Wait()
				if got.done {
					t.Fatal("the call is over before its answer")
				}
				if !tt.answer(request) {
					t.Error("the answer did not reach the call")
				}
				synctest.Wait()
				if *got != tt.want {
					t.Errorf("got %+v, want %+v", *got, tt.want)
				}
				if tt.answer(request) {
					t.Error("a second answer was taken")
				}
			})
		})
	}
}

func TestMockHandsOutInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		inner.Allow(2)
		for _, name := range []string{"a", "b", "c"} {
			start(t.Context(), inner, name)
			synctest.Wait()
		}
		var got []string
		for {
			request, ok := inner.TryNext()
			if !ok {
				break
			}
			got = append(got, request.Request)
			request.Respond("")
		}
		if want := []string{"a", "b"}; !slices.Equal(got, want) {
			t.Errorf("took %v, want %v", got, want)
		}
		inner.Allow(-1)
		inner.Next(t.Context()).Respond("")
	})
}

func TestMockReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		if err := turret.ReadyNow(inner); err != nil {
			t.Errorf("a new mock: %v, want nil", err)
		}
		inner.Allow(0)
		if err := turret.ReadyNow(inner); !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("no room: %v, want ErrNotReady", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := inner.Ready(ctx); !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no room within a second: %v, want ErrNotReady and DeadlineExceeded", err)
		}
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { err = inner.Ready(t.Context()) })
		synctest.Wait()
		inner.Allow(1)
		wg.Wait()
		if err != nil {
			t.Errorf("Ready: %v, want nil after Allow(1)", err)
		}
		if err := turret.ReadyNow(inner); err != nil {
			t.Errorf("Ready took what Allow(1) gave: %v", err)
		}
		inner.Allow(0)
		final := errors.New("gone")
		wg.Go(func() { err = inner.Ready(t.Context()) })
		waiting := start(t.Context(), inner, "x")
		synctest.Wait()
		inner.Fail(final)
		wg.Wait()
		synctest.Wait()
		if err != final || waiting.err != final { //nolint:errorlint // the error itself is promised
			t.Errorf("Ready: %v and Call: %v, want %v", err, waiting.err, final)
		}
		if _, err := inner.Call(t.Context(), "y"); err != final { //nolint:errorlint // the error itself is promised
			t.Errorf("Call after Fail: %v, want %v", err, final)
		}
	})
}

func TestMockCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		ctx, cancel := context.WithCancel(t.Context())
		arrived := start(ctx, inner, "arrived")
		taken := start(ctx, inner, "taken")
		synctest.Wait()
		requests := []*turrettest.Request[string, string]{inner.Next(ctx), inner.Next(ctx)}
		held := start(ctx, inner, "held")
		heldRequest := inner.Next(ctx)
		heldRequest.Hold()
		inner.Allow(0)
		waiting := start(ctx, inner, "waiting")
		synctest.Wait()
		cancel()
		synctest.Wait()
		for name, c := range map[string]*call{"arrived": arrived, "taken": taken, "waiting": waiting} {
			if !c.done || !errors.Is(c.err, context.Canceled) {
				t.Errorf("%s: %+v, want it to end with context.Canceled", name, *c)
			}
			if got, want := errors.Is(c.err, turret.ErrNotReady), name == "waiting"; got != want {
				t.Errorf("%s: error matches ErrNotReady: %t, want %t", name, got, want)
			}
		}
		for _, r := range requests {
			if r.Respond("late") {
				t.Errorf("%s: an answer reached a caller that gave up", r.Request)
			}
		}
		if held.done {
			t.Fatal("a held call ended with its context")
		}
		heldRequest.Respond("late")
		synctest.Wait()
		if held.err != nil || held.res != "late" {
			t.Errorf("held call: %+v, want the late answer", *held)
		}
	})
}

// unfinished is a testing.TB that remembers failures instead of failing.
type unfinished struct {
	testing.TB

	failures []string
	cleanups []func()
}

func (u *unfinished) Helper()          {}
func (u *unfinished) Cleanup(f func()) { u.cleanups = append(u.cleanups, f) }
func (u *unfinished) Errorf(format string, a ...any) {
	u.failures = append(u.failures, fmt.Sprintf(format, a...))
}

func (u *unfinished) Fatalf(format string, a ...any) {
	u.Errorf(format, a...)
	panic(u)
}

func TestMockFailsTheTestThatLeavesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unfinished{TB: t}
		inner := turrettest.NewMock[string, string](u)
		inner.Allow(2)
		var calls []*call
		for _, name := range []string{"taken", "arrived", "waiting"} {
			calls = append(calls, start(t.Context(), inner, name))
			synctest.Wait()
		}
		inner.Next(t.Context())
		for _, f := range u.cleanups {
			f()
		}
		if want := []string{"turrettest: the test ended with 3 unanswered requests"}; !slices.Equal(u.failures, want) {
			t.Errorf("failures %q, want %q", u.failures, want)
		}
		synctest.Wait()
		for _, c := range calls {
			if !errors.Is(c.err, turrettest.ErrClosed) {
				t.Errorf("an unanswered call got %+v, want ErrClosed", *c)
			}
		}
		if n := inner.Close(); n != 0 {
			t.Errorf("closed again: %d unanswered, want 0", n)
		}
	})
}

func TestMockNextFailsTheTestWhenNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unfinished{TB: t}
		inner := turrettest.NewMock[string, string](u)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		defer func() {
			if recover() != u || len(u.failures) != 1 {
				t.Errorf("failures %q, want one, and Next not to return", u.failures)
			}
		}()
		inner.Next(ctx)
	})
}
