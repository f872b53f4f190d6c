package turret_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

type steerFunc = func(pick func(context.Context, string, []Service) int, services ...Service) Service

var steers = map[string]steerFunc{
	"Steer":     turret.Steer[string, string],
	"SteerLive": turret.SteerLive[string, string],
}

// byLength picks the service whose index is the length of the request.
func byLength(_ context.Context, req string, _ []Service) int { return len(req) }

func TestSteerSends(t *testing.T) {
	for name, steer := range steers {
		t.Run(name, func(t *testing.T) {
			s := steer(byLength, answers("a", nil), answers("b", nil), answers("", errBoom))
			for req, want := range map[string]string{"": "a", "x": "b"} {
				if got, err := s.Call(t.Context(), req); got != want || err != nil {
					t.Errorf("%q: %q, %v, want %q", req, got, err, want)
				}
			}
			if _, err := s.Call(t.Context(), "xx"); err != errBoom { //nolint:errorlint // the error itself is promised
				t.Errorf("got %v, want the service's very error", err)
			}
		})
	}
}

// It is ready when all are, and waits for them.
func TestSteerWaitsForAll(t *testing.T) {
	for name, steer := range steers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := turrettest.NewMock[string, string](t), turrettest.NewMock[string, string](t)
				s := steer(byLength, a, b)
				b.Allow(0)
				if err := turret.ReadyNow(s); !errors.Is(err, turret.ErrNotReady) {
					t.Errorf("one has no room: %v, want ErrNotReady", err)
				}
				done := false
				go func() { done = s.Ready(t.Context()) == nil }()
				synctest.Wait()
				if done {
					t.Fatal("ready, though one has no room")
				}
				b.Allow(-1)
				synctest.Wait()
				if !done {
					t.Error("not ready, though all have room")
				}
				b.Allow(0)
				ctx, cancel := context.WithCancel(t.Context())
				var err error
				go func() { err = s.Ready(ctx) }()
				synctest.Wait()
				cancel()
				synctest.Wait()
				if !errors.Is(err, context.Canceled) || turret.IsFinal(err) {
					t.Errorf("gave up: %v, want the context's error", err)
				}
			})
		})
	}
}

func TestSteerAndFailedServices(t *testing.T) {
	errOther := errors.New("other")
	tests := map[string]struct {
		steer  steerFunc
		a, b   error // with which they have failed; nil: not
		full   bool  // b has no room
		want   []error
		isLast bool // Ready's error is final
	}{
		"all fails with one":           {steers["Steer"], errBoom, nil, false, []error{errBoom}, true},
		"one fails":                    {steers["SteerLive"], errBoom, nil, false, nil, false},
		"the other fails":              {steers["SteerLive"], nil, errBoom, false, nil, false},
		"one fails, the other is full": {steers["SteerLive"], errBoom, nil, true, []error{turret.ErrNotReady}, false},
		"both fail":                    {steers["SteerLive"], errBoom, errOther, false, []error{errBoom, errOther}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := turrettest.NewMock[string, string](t), turrettest.NewMock[string, string](t)
			if tt.a != nil {
				a.Fail(tt.a)
			}
			if tt.b != nil {
				b.Fail(tt.b)
			}
			if tt.full {
				b.Allow(0)
			}
			err := turret.ReadyNow(tt.steer(byLength, a, b))
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("Ready: %v, want an error that matches %v", err, want)
				}
			}
			if len(tt.want) == 0 && err != nil {
				t.Errorf("Ready: %v, want nil", err)
			}
			if turret.IsFinal(err) != tt.isLast {
				t.Errorf("Ready: %v is final: %t, want %t", err, !tt.isLast, tt.isLast)
			}
		})
	}
}

// A picker sees the services, and whether they have failed.
func TestSteerLivePicksAround(t *testing.T) {
	dead, alive := turrettest.NewMock[string, string](t), answers("alive", nil)
	dead.Fail(errBoom)
	s := turret.SteerLive(func(_ context.Context, _ string, services []Service) int {
		for i, service := range services {
			if !turret.IsFinal(turret.ReadyNow(service)) {
				return i
			}
		}
		return 0
	}, Service(dead), alive)
	if got, err := s.Call(t.Context(), ""); got != "alive" || err != nil {
		t.Errorf("got %q, %v, want the answer of the live one", got, err)
	}
	if _, err := turret.SteerLive(byLength, Service(dead), alive).Call(t.Context(), ""); !errors.Is(err, errBoom) {
		t.Errorf("picked the dead one: %v, want its error", err)
	}
}

func TestSteerKeepsNoSlice(t *testing.T) {
	services := []Service{answers("a", nil)}
	s := turret.Steer(byLength, services...)
	services[0] = answers("b", nil)
	if got, _ := s.Call(t.Context(), ""); got != "a" {
		t.Errorf("got %q, want the service that it was made of", got)
	}
}

func TestSteerPanics(t *testing.T) {
	wantPanic(t, "turret: Steer: services is [], must be at least one service", func() { turret.Steer(byLength) })
	wantPanic(t, "turret: SteerLive: services[1] is nil, must be non-nil", func() { turret.SteerLive(byLength, echo, nil) })
	s := turret.Steer(byLength, echo, echo)
	wantPanic(t, "turret: Steer: result of pick is 3, must be between 0 and 1", func() { _, _ = s.Call(t.Context(), "xxx") })
	below := turret.Steer(func(context.Context, string, []Service) int { return -1 }, echo)
	wantPanic(t, "turret: Steer: result of pick is -1, must be between 0 and 0", func() { _, _ = below.Call(t.Context(), "") })
}
