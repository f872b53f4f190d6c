package turrettest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

func ExampleGo() {
	hello := turret.ServiceFunc(func(_ context.Context, name string) (string, error) { return "hello " + name, nil })

	call := turrettest.Go(context.Background(), hello, "gopher")
	fmt.Println(call.Result())
	fmt.Println(call.Over())
	// Output:
	// hello gopher <nil>
	// true
}

func TestGoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, inner := turrettest.NewMockUnder(t, turret.Wrap(passOn))
		inner.Allow(0)
		call, polls := turrettest.Go(t.Context(), service, "ping"), turrettest.GoReady(t.Context(), service)
		synctest.Wait()
		if call.Over() || polls.Over() {
			t.Fatalf("over without room: call %t, ready %t", call.Over(), polls.Over())
		}
		if ready, calls := inner.Waiting(); ready != 1 || calls != 1 {
			t.Errorf("%d in Ready and %d calls wait, want 1 and 1", ready, calls)
		}
		inner.Allow(2)
		if _, err := polls.Result(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		inner.Expect(t.Context(), "ping").Respond("pong")
		if res, err := call.Result(); res != "pong" || err != nil {
			t.Errorf("Call: %q, %v, want pong", res, err)
		}
		if ready, calls := inner.Waiting(); ready != 0 || calls != 0 {
			t.Errorf("%d in Ready and %d calls wait, want none", ready, calls)
		}
	})
}

func TestWaitingForgetsWhoGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		inner.Allow(0)
		ctx, cancel := context.WithCancel(t.Context())
		call, polls := turrettest.Go(ctx, inner, ""), turrettest.GoReady(ctx, inner)
		synctest.Wait()
		cancel()
		synctest.Wait()
		for _, c := range []*turrettest.Call[string]{call, polls} {
			if _, err := c.Result(); !errors.Is(err, turret.ErrNotReady) {
				t.Errorf("got %v, want ErrNotReady", err)
			}
		}
		if ready, calls := inner.Waiting(); ready != 0 || calls != 0 {
			t.Errorf("%d in Ready and %d calls wait, want none", ready, calls)
		}
	})
}

func TestExpectFailsTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unfinished{TB: t}
		inner := turrettest.NewMock[string, string](u)
		call := turrettest.Go(t.Context(), inner, "ping")
		func() {
			defer func() {
				if recover() != u || len(u.failures) != 1 || u.failures[0] != "turrettest: the request is ping, want pong" {
					t.Errorf("failures %q, want one", u.failures)
				}
			}()
			inner.Expect(t.Context(), "pong")
		}()
		inner.Close()
		if _, err := call.Result(); !errors.Is(err, turrettest.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

func TestGoPassesFaultsOn(t *testing.T) {
	panics := turret.ServiceFunc(func(context.Context, string) (string, error) { panic("boom") })
	exits := turret.ServiceFunc(func(context.Context, string) (string, error) { runtime.Goexit(); return "", nil })
	for name, service := range map[string]service{"panics": panics, "exits": exits} {
		var caught any
		returned := false
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { caught = recover() }()
			_, _ = turrettest.Go(t.Context(), service, "").Result()
			returned = true
		})
		wg.Wait()
		if returned || (caught == "boom") != (name == "panics") {
			t.Errorf("%s: Result returned %t, recovered %v", name, returned, caught)
		}
	}
}
