package turret_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

var errBoom = errors.New("boom")

// echo returns its request.
var echo = turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return req, nil })

// tag is a layer that adds its name to the request on the way in and to the
// result on the way out.
func tag(name string) Layer {
	return turret.Wrap(func(ctx context.Context, req string, inner Service) (string, error) {
		res, err := inner.Call(ctx, req+name)
		return res + name, err
	})
}

func TestStack(t *testing.T) {
	tests := map[string]struct {
		layers []Layer
		want   string
	}{
		"empty":         {nil, ">"},
		"one":           {[]Layer{tag("a")}, ">aa"},
		"three":         {[]Layer{tag("a"), tag("b"), tag("c")}, ">abccba"},
		"nil in front":  {[]Layer{nil, tag("a"), tag("b")}, ">abba"},
		"nil between":   {[]Layer{tag("a"), nil, tag("b")}, ">abba"},
		"nil behind":    {[]Layer{tag("a"), tag("b"), nil}, ">abba"},
		"only nil":      {[]Layer{nil, nil}, ">"},
		"nested stacks": {[]Layer{tag("a"), turret.Stack(tag("b"), tag("c")), tag("d")}, ">abcddcba"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := turret.Stack(tt.layers...)(echo).Call(t.Context(), ">")
			if got != tt.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestStackKeepsNoSlice(t *testing.T) {
	layers := []Layer{tag("a"), tag("b")}
	stack := turret.Stack(layers...)
	layers[0] = tag("x")
	if got, _ := stack(echo).Call(t.Context(), ""); got != "abba" {
		t.Errorf("got %q, want the layers that the stack was made of", got)
	}
}

func TestEmptyStackReturnsTheService(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	if got := turret.Stack[string, string]()(inner); got != Service(inner) {
		t.Errorf("got %v, want the service itself", got)
	}
}

// What the outermost layer has made is the service of the stack, with all of its
// methods.
func TestStackPutsNothingAround(t *testing.T) {
	outermost := turret.Optional[string, string](nil)
	service := turret.Stack(func(Service) Service { return outermost }, tag("b"))(echo)
	if service != outermost || fmt.Sprint(service) != "none" {
		t.Errorf("got %v, want what the outermost layer has made", service)
	}
}

func TestWrapForwards(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	service := turret.Stack(tag("a"), tag("b"))(inner)
	inner.Allow(0)
	if err := turret.ReadyNow(service); !errors.Is(err, turret.ErrNotReady) {
		t.Errorf("Ready: %v, want the inner service's ErrNotReady", err)
	}
	inner.Fail(errBoom)
	if err := service.Ready(t.Context()); !errors.Is(err, errBoom) {
		t.Errorf("Ready: %v, want the inner service's error", err)
	}
	if _, err := service.Call(t.Context(), ""); !errors.Is(err, errBoom) {
		t.Errorf("Call: %v, want the inner service's error", err)
	}
}

func TestWrapNeedsAFunction(t *testing.T) {
	wantPanic(t, "turret: Wrap: function is nil, must be non-nil", func() { turret.Wrap[string, string](nil) })
}

func TestFunc(t *testing.T) {
	if err := echo.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v, want nil", err)
	}
	if got, err := echo.Call(t.Context(), "x"); got != "x" || err != nil {
		t.Errorf("Call: %q, %v, want what the function returns", got, err)
	}
}

// asks is a service that records the contexts of Ready.
type asks struct {
	Service

	asked []context.Context
}

func (s *asks) Ready(ctx context.Context) error {
	s.asked = append(s.asked, ctx)
	return nil
}

func TestReadyNowAsksForNobody(t *testing.T) {
	inner := &asks{Service: echo}
	if err := turret.ReadyNow[string, string](inner); err != nil {
		t.Fatal(err)
	}
	if len(inner.asked) != 1 || inner.asked[0].Err() == nil {
		t.Errorf("asked with %v, want one context that is done", inner.asked)
	}
}

// through is a layer that does nothing, written as most layers are.
type through struct{ Service }

func (s through) Call(ctx context.Context, req string) (string, error) {
	return s.Service.Call(ctx, req)
}

func TestLayersDoNotAllocate(t *testing.T) {
	embedded := func(inner Service) Service { return through{inner} }
	wrapped := turret.Wrap(func(ctx context.Context, req string, inner Service) (string, error) {
		return inner.Call(ctx, req)
	})
	gated := turret.Gated[string, string](open{}, nil)
	tests := map[string]Layer{
		"embedded": embedded,
		"wrapped":  wrapped,
		"gated":    gated,
		"all":      turret.Stack(embedded, wrapped, gated, embedded, wrapped, gated),
	}
	for name, layer := range tests {
		t.Run(name, func(t *testing.T) {
			service, ctx := layer(echo), t.Context()
			wantAllocs(t, 0, func() { _, _ = service.Call(ctx, "x") })
			wantAllocs(t, 0, func() { _ = service.Ready(ctx) })
			wantAllocs(t, 0, func() { _ = turret.ReadyNow(service) })
		})
	}
}

// open is a gate that does nothing.
type open struct{}

func (open) Ready(context.Context) error                     { return nil }
func (open) Enter(context.Context) (turret.Ticket, error)    { return turret.Ticket{}, nil }
func (open) TryEnter(context.Context) (turret.Ticket, error) { return turret.Ticket{}, nil }
func (open) Leave(turret.Ticket, turret.Outcome)             {}

func wantAllocs(t *testing.T, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(100, f); got != want {
		t.Errorf("%v allocations, want %v", got, want)
	}
}

// wantPanic runs f, which has to panic with a text that is, or an error whose
// text is, want.
func wantPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		got := recover()
		if err, ok := got.(error); ok {
			got = err.Error()
		}
		if got != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	f()
}

func TestStackPassesErrors(t *testing.T) {
	failing := turret.ServiceFunc(func(context.Context, string) (string, error) { return "", errBoom })
	_, err := turret.Stack(tag("a"), tag("b"))(failing).Call(t.Context(), "")
	if err != errBoom { //nolint:errorlint // the error itself is promised
		t.Errorf("got %v, want the very error", err)
	}
}
