package shed_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/shed"
	"github.com/turret-go/turret/turrettest"
)

// A limit with a line makes calls wait; with the layer in front of it they are
// turned away while it is full.
func Example() {
	places := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
	service := turret.Stack(
		shed.Layer[string, string](),
		turret.Gated[string, string](places, nil),
	)(turret.ServiceFunc(func(_ context.Context, name string) (string, error) {
		return "hello " + name, nil
	}))
	ctx := context.Background()

	fmt.Println(service.Call(ctx, "gopher"))

	ticket, _ := places.Enter(ctx) // another call takes the only place
	_, err := service.Call(ctx, "gopher")
	fmt.Println(err, errors.Is(err, shed.ErrOverloaded), errors.Is(err, turret.ErrNotReady))

	places.Leave(ticket, turret.Success)
	fmt.Println(service.Call(ctx, "gopher"))
	// Output:
	// hello gopher <nil>
	// shed: not ready for more true true
	// hello gopher <nil>
}

var echo = turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return req, nil })

func TestShedsWhileNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		service := shed.Layer[string, string]()(inner)
		inner.Allow(1)
		var got string
		var wg sync.WaitGroup
		wg.Go(func() { got, _ = service.Call(t.Context(), "first") })
		request := inner.Next(t.Context())

		began := time.Now()
		for range 3 {
			_, err := service.Call(t.Context(), "one too many")
			refusal, ok := errors.AsType[*turret.Refusal](err)
			want := turret.Refusal{Kind: turret.KindOverloaded, Layer: "shed", Reason: "OVERLOADED", Err: shed.ErrOverloaded}
			if !ok || *refusal != want {
				t.Errorf("got %#v, want %#v", err, want)
			}
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it took %v to be refused, want no time", waited)
		}
		request.Respond("answer")
		wg.Wait()
		if got != "answer" {
			t.Errorf("the call that was let in got %q, want its answer", got)
		}
	})
}

func TestPassesResultsOn(t *testing.T) {
	boom := errors.New("boom")
	service := shed.Layer[string, string]()(turret.ServiceFunc(
		func(_ context.Context, req string) (string, error) { return req, boom }))
	if res, err := service.Call(t.Context(), "x"); res != "x" || err != boom { //nolint:errorlint // the error itself is promised
		t.Errorf("got %q, %v, want what the inner service returned", res, err)
	}
}

// readiness is a service whose Ready returns an error.
type readiness struct {
	turret.Service[string, string]

	err error
}

func (s readiness) Ready(context.Context) error { return s.err }

func TestReadinessErrors(t *testing.T) {
	gone := errors.New("gone")
	tests := map[string]struct {
		ready           error // what the inner Ready returns
		wantReady, call error // what the layer's Ready returns, and what its Call matches
	}{
		"ready":                  {nil, nil, nil},
		"not ready":              {turret.ErrNotReady, nil, shed.ErrOverloaded},
		"refused":                {&turret.Refusal{Reason: "X"}, nil, shed.ErrOverloaded},
		"gave up":                {turret.NotReady(context.Canceled), nil, shed.ErrOverloaded},
		"the context's error":    {context.Canceled, nil, shed.ErrOverloaded},
		"the context's deadline": {context.DeadlineExceeded, nil, shed.ErrOverloaded},
		"final":                  {gone, gone, gone},
		"final, wrapped":         {fmt.Errorf("x: %w", gone), gone, gone},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			service := shed.Layer[string, string]()(readiness{echo, tt.ready})
			if err := service.Ready(t.Context()); !errors.Is(err, tt.wantReady) {
				t.Errorf("Ready: %v, want %v", err, tt.wantReady)
			}
			_, err := service.Call(t.Context(), "")
			if !errors.Is(err, tt.call) {
				t.Errorf("Call: %v, want %v", err, tt.call)
			}
			if final := tt.wantReady != nil; final == errors.Is(err, turret.ErrNotReady) && err != nil {
				t.Errorf("Call: %v; final %t", err, final)
			}
		})
	}
}

// The layer answers at once even a caller that would wait.
func TestIsAlwaysReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[string, string](t)
		inner.Allow(0)
		began := time.Now()
		if err := shed.Layer[string, string]()(inner).Ready(t.Context()); err != nil || time.Since(began) > 0 {
			t.Errorf("Ready: %v after %v, want nil at once", err, time.Since(began))
		}
	})
}

type tenant struct{}

// tenants is a gate that has room for one tenant, and notes how it was asked.
type tenants struct {
	turret.Gate

	t *testing.T
}

func (g tenants) Ready(ctx context.Context) error {
	if ctx.Err() == nil {
		g.t.Error("asked with a context that is not done")
	}
	select {
	case <-ctx.Done():
	default:
		g.t.Error("asked with a context whose Done is open")
	}
	// What a gate may do with its context: derive one, and wait on that.
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	if context.Cause(child) == nil {
		g.t.Error("a child of the context is not done")
	}
	if ctx.Value(tenant{}) == "paying" {
		return nil
	}
	return turret.ErrNotReady
}

func TestAsksOnBehalfOfTheCaller(t *testing.T) {
	gate := tenants{turrettest.NewRecorder(), t}
	service := turret.Stack(shed.Layer[string, string](), turret.Gated[string, string](gate, nil))(echo)
	for who, want := range map[string]error{"paying": nil, "free": shed.ErrOverloaded} {
		ctx := context.WithValue(t.Context(), tenant{}, who)
		if _, err := service.Call(ctx, ""); !errors.Is(err, want) {
			t.Errorf("%s tenant: %v, want %v", who, err, want)
		}
		if ctx.Err() != nil {
			t.Error("the caller's context was ended")
		}
	}
}

// Concurrent callers must not get each other's context.
func TestAsksForManyAtOnce(t *testing.T) {
	gate := tenants{turrettest.NewRecorder(), t}
	service := turret.Stack(shed.Layer[string, string](), turret.Gated[string, string](gate, nil))(echo)
	var wg sync.WaitGroup
	for i := range 8 {
		who, want := "paying", error(nil)
		if i%2 == 0 {
			who, want = "free", shed.ErrOverloaded
		}
		ctx := context.WithValue(t.Context(), tenant{}, who)
		wg.Go(func() {
			for range 200 {
				if _, err := service.Call(ctx, ""); !errors.Is(err, want) {
					t.Errorf("%s tenant: %v, want %v", who, err, want)
				}
			}
		})
	}
	wg.Wait()
}

// A call that is shed stands in no line and holds nothing: room goes to the next
// call. (In Tower a handle that was shed stays in the line of a semaphore, and
// keeps the permit that it gets there until it calls again.)
func TestShedHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
		gate := turret.Gated[string, string](places, nil)
		s, inner := turrettest.NewMockUnder(t, turret.Stack(shed.Layer[string, string](), gate))
		inside := turrettest.Go(t.Context(), s, "first")
		first := inner.Expect(t.Context(), "first")
		for range 100 {
			if _, err := s.Call(t.Context(), ""); !errors.Is(err, shed.ErrOverloaded) {
				t.Fatalf("got %v, want ErrOverloaded", err)
			}
		}
		if got := places.Stats().Waiting; got != 0 {
			t.Errorf("%d that were shed stand in line", got)
		}
		other := turrettest.Go(t.Context(), gate(inner), "next") // does not shed: it waits
		synctest.Wait()
		first.Respond("")
		inner.Expect(t.Context(), "next").Respond("")
		for _, call := range []*turrettest.Call[string]{inside, other} {
			if _, err := call.Result(); err != nil {
				t.Errorf("got %v, want an answer", err)
			}
		}
	})
}

// A call that finds room when it asks, and none when it calls, waits as it would
// without the layer.
func TestGapBetweenAskingAndCalling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded})
		var ticket turret.Ticket
		between := turret.Wrap(func(ctx context.Context, req string, inner turret.Service[string, string]) (string, error) {
			ticket, _ = places.TryEnter(ctx) // another call is faster
			return inner.Call(ctx, req)
		})
		service := turret.Stack(shed.Layer[string, string](), between, turret.Gated[string, string](places, nil))(echo)
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { _, err = service.Call(t.Context(), "") })
		synctest.Wait()
		if got := places.Stats().Waiting; got != 1 {
			t.Errorf("%d in line, want the call that was let through", got)
		}
		places.Leave(ticket, turret.Success)
		wg.Wait()
		if err != nil {
			t.Errorf("got %v, want the call to go on when it has room", err)
		}
	})
}

func TestPanicsAreNotHeld(t *testing.T) {
	service := shed.Layer[string, string]()(panicking{echo})
	defer func() {
		if recover() != "boom" {
			t.Error("the panic of Ready was swallowed")
		}
	}()
	_, _ = service.Call(t.Context(), "")
}

type panicking struct{ turret.Service[string, string] }

func (panicking) Ready(context.Context) error { panic("boom") }

func TestPrints(t *testing.T) {
	if got := fmt.Sprint(shed.Layer[string, string]()(echo)); got != "load shed" {
		t.Errorf("printed %q", got)
	}
}

func TestDoesNotAllocate(t *testing.T) {
	open := turret.Stack(shed.Layer[string, string](),
		turret.Gated[string, string](limit.NewConcurrency(1, limit.Queue{Max: 1}), nil))(echo)
	shut := turret.Stack(shed.Layer[string, string](),
		turret.Gated[string, string](limit.NewConcurrency(0, limit.Queue{Max: 1}), nil))(echo)
	ctx := context.WithValue(t.Context(), tenant{}, "paying")
	for name, f := range map[string]func(){
		"a call":         func() { _, _ = open.Call(ctx, "") },
		"a refused call": func() { _, _ = shut.Call(ctx, "") },
		"Ready":          func() { _ = open.Ready(ctx) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}
