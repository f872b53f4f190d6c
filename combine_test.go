package turret_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/turrettest"
)

// answers is a service that answers the same to everything.
func answers(res string, err error) Service {
	return turret.ServiceFunc(func(context.Context, string) (string, error) { return res, err })
}

var errRefused = &turret.Refusal{Layer: "test", Reason: "TEST", Err: errBoom}

// combinators are layers with an f that adds "!" to what it sees.
func combinators() map[string]Layer {
	shout := func(s string) string { return s + "!" }
	shoutErr := func(err error) error { return fmt.Errorf("%w!", err) }
	return map[string]Layer{
		"MapRequest":  turret.MapRequest[string](shout),
		"MapResponse": turret.MapResponse[string](shout),
		"MapErr":      turret.MapErr[string, string](shoutErr),
		"MapResult": turret.MapResult[string](func(s string, err error) (string, error) {
			if err != nil {
				return "", shoutErr(err)
			}
			return shout(s), nil
		}),
		"Then": turret.Then[string](func(_ context.Context, s string, err error) (string, error) {
			if err != nil {
				return "", shoutErr(err)
			}
			return shout(s), nil
		}),
		"AndThen": turret.AndThen[string](func(_ context.Context, s string) (string, error) { return shout(s), nil }),
		"Filter":  turret.Filter[string](func(_ context.Context, s string) (string, error) { return shout(s), nil }),
	}
}

func TestCombinators(t *testing.T) {
	tests := map[string]struct{ ok, failed string }{
		"MapRequest":  {"[a!]", "boom"},
		"MapResponse": {"[a]!", "boom"},
		"MapErr":      {"[a]", "boom!"},
		"MapResult":   {"[a]!", "boom!"},
		"Then":        {"[a]!", "boom!"},
		"AndThen":     {"[a]!", "boom"},
		"Filter":      {"[a!]", "boom"},
	}
	brackets := turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return "[" + req + "]", nil })
	for name, layer := range combinators() {
		t.Run(name, func(t *testing.T) {
			want := tests[name]
			if got, err := layer(brackets).Call(t.Context(), "a"); got != want.ok || err != nil {
				t.Errorf("success: %q, %v, want %q", got, err, want.ok)
			}
			_, err := layer(answers("", errBoom)).Call(t.Context(), "a")
			if !errors.Is(err, errBoom) || err.Error() != want.failed {
				t.Errorf("failure: %v, want %q", err, want.failed)
			}
			if name := fmt.Sprint(layer(echo)); strings.ContainsAny(name, "&[*") {
				t.Errorf("prints as %q, want words", name)
			}
		})
	}
}

// A layer that does not say anything about readiness leaves it as it is.
func TestCombinatorsForwardReady(t *testing.T) {
	for name, layer := range combinators() {
		t.Run(name, func(t *testing.T) {
			inner := turrettest.NewMock[string, string](t)
			s := layer(inner)
			if err := turret.ReadyNow(s); err != nil {
				t.Errorf("with room: %v, want nil", err)
			}
			inner.Allow(0)
			if err := turret.ReadyNow(s); !errors.Is(err, turret.ErrNotReady) || turret.IsFinal(err) {
				t.Errorf("without room: %v, want the inner service's ErrNotReady", err)
			}
			inner.Fail(errBoom)
			if err := s.Ready(t.Context()); !errors.Is(err, errBoom) || !turret.IsFinal(err) {
				t.Errorf("failed for good: %v, want the inner service's error", err)
			}
		})
	}
}

func TestMapErrOfReadiness(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	s := turret.MapErr[string, string](func(error) error { return errors.New("mapped") })(inner)
	inner.Allow(0)
	if err := turret.ReadyNow(s); turret.IsFinal(err) {
		t.Errorf("not ready now: %v: the layer has made it final", err)
	}
	inner.Fail(errBoom)
	if err := s.Ready(t.Context()); err == nil || err.Error() != "mapped" {
		t.Errorf("failed for good: %v, want the mapped error", err)
	}
}

func TestFilterRejects(t *testing.T) {
	full := limit.NewConcurrency(0, limit.Queue{})
	s := turret.Filter[string](func(_ context.Context, req string) (string, error) {
		if req == "bad" {
			return "", errBoom
		}
		return req, nil
	})(turret.Gated[string, string](full, nil)(echo))

	_, err := s.Call(t.Context(), "bad")
	if !errors.Is(err, errBoom) || errors.Is(err, turret.ErrNotReady) {
		t.Errorf("rejected: %v, want the filter's own error", err)
	}
	if n := full.Stats().Full; n != 0 {
		t.Errorf("the inner service was asked for room %d times for a request that is rejected", n)
	}
	if _, err := s.Call(t.Context(), "good"); !errors.Is(err, limit.ErrFull) {
		t.Errorf("admitted: %v, want what the inner service says", err)
	}
}

// A predicate may wait, and sees the context of the call.
func TestFilterWaits(t *testing.T) {
	s := turret.Filter[string](func(ctx context.Context, req string) (string, error) {
		<-ctx.Done()
		return req, ctx.Err()
	})(echo)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Call(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// What f says of an error that it got, or caused, must not say that the request
// was not sent, unless it was not.
func TestThenAndErrNotReady(t *testing.T) {
	tests := map[string]struct {
		layer Layer
		inner Service
		want  bool
	}{
		"then, sent, f refused": {
			turret.Then[string](func(context.Context, string, error) (string, error) { return "", errRefused }),
			answers("ok", nil), false,
		},
		"then, failed, f refused": {
			turret.Then[string](func(context.Context, string, error) (string, error) { return "", errRefused }),
			answers("", errors.New("broken")), false,
		},
		"then, not sent, f refused": {
			turret.Then[string](func(context.Context, string, error) (string, error) { return "", errRefused }),
			answers("", errRefused), true,
		},
		"then, not sent, passed on": {
			turret.Then[string](func(_ context.Context, res string, err error) (string, error) { return res, err }),
			answers("", errRefused), true,
		},
		"then, not sent, f sent elsewhere": {
			turret.Then[string](func(context.Context, string, error) (string, error) { return "", errors.New("broken too") }),
			answers("", errRefused), false,
		},
		"and then, f refused": {
			turret.AndThen[string](func(context.Context, string) (string, error) { return "", errRefused }),
			answers("ok", nil), false,
		},
		"and then, not sent": {
			turret.AndThen[string](func(_ context.Context, res string) (string, error) { return res, nil }),
			answers("", errRefused), true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := tt.layer(tt.inner).Call(t.Context(), "a")
			if err == nil || errors.Is(err, turret.ErrNotReady) != tt.want {
				t.Errorf("%v: matches ErrNotReady %t, want %t", err, !tt.want, tt.want)
			}
			if refused := errors.Is(err, errBoom); refused && err.Error() != errRefused.Error() {
				t.Errorf("text is %q, want %q", err, errRefused)
			}
		})
	}
}

// A failed call has no result: that of the inner service is not passed on.
func TestNoResultBesideAnError(t *testing.T) {
	for _, name := range []string{"MapResponse", "AndThen"} {
		if res, err := combinators()[name](answers("rest", errBoom)).Call(t.Context(), "a"); res != "" || err == nil {
			t.Errorf("%s: %q, %v, want no result and an error", name, res, err)
		}
	}
}

func TestCombinatorsNeedAFunction(t *testing.T) {
	tests := map[string]func(){
		"MapRequest":  func() { turret.MapRequest[string, string, string](nil) },
		"MapResponse": func() { turret.MapResponse[string, string, string](nil) },
		"MapErr":      func() { turret.MapErr[string, string](nil) },
		"MapResult":   func() { turret.MapResult[string, string, string](nil) },
		"Then":        func() { turret.Then[string, string, string](nil) },
		"AndThen":     func() { turret.AndThen[string, string, string](nil) },
		"Filter":      func() { turret.Filter[string, string, string](nil) },
		"Steer":       func() { turret.Steer(nil, echo) },
		"SteerLive":   func() { turret.SteerLive(nil, echo) },
	}
	for name, f := range tests {
		wantPanic(t, "turret: "+name+": function is nil, must be non-nil", f)
	}
}

func TestCombinatorsDoNotAllocate(t *testing.T) {
	same := func(s string) string { return s }
	layers := map[string]Layer{
		"MapRequest":  turret.MapRequest[string](same),
		"MapResponse": turret.MapResponse[string](same),
		"MapErr":      turret.MapErr[string, string](func(err error) error { return err }),
		"MapResult":   turret.MapResult[string](func(s string, err error) (string, error) { return s, err }),
		"Then":        turret.Then[string](func(_ context.Context, s string, err error) (string, error) { return s, err }),
		"AndThen":     turret.AndThen[string](func(_ context.Context, s string) (string, error) { return s, nil }),
		"Filter":      turret.Filter[string](func(_ context.Context, s string) (string, error) { return s, nil }),
		"Optional":    turret.Optional[string, string],
		"Steer":       func(s Service) Service { return turret.Steer(first, s, s) },
		"SteerLive":   func(s Service) Service { return turret.SteerLive(first, s, s) },
		"empty Optional": func(Service) Service {
			return turret.Optional[string, string](nil)
		},
	}
	for name, layer := range layers {
		t.Run(name, func(t *testing.T) {
			s, ctx := layer(echo), t.Context()
			wantNoAllocs(t, func() { _, _ = s.Call(ctx, "x") })
			wantNoAllocs(t, func() { _ = s.Ready(ctx) })
			wantNoAllocs(t, func() { _, _ = turret.Do(ctx, s, "x") })
		})
	}
}

func wantNoAllocs(t *testing.T, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(100, f); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func first(context.Context, string, []Service) int { return 0 }

func TestFinal(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		err  error
		want bool
	}{
		"nil":                 {nil, false},
		"ErrNotReady":         {turret.ErrNotReady, false},
		"a refusal":           {errRefused, false},
		"gave up":             {turret.NotReady(context.Canceled), false},
		"the context's error": {ended.Err(), false},
		"a deadline":          {fmt.Errorf("ready: %w", context.DeadlineExceeded), false},
		"another error":       {errBoom, true},
		"one that was sent":   {turret.Sent(errRefused), true},
	}
	for name, tt := range tests {
		if got := turret.IsFinal(tt.err); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

func TestDo(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	inner.Allow(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turret.Do(ctx, inner, "a"); !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, context.Canceled) {
		t.Errorf("ended while it waited: %v, want an error that matches the context's and ErrNotReady", err)
	}
	inner.Fail(errBoom)
	if _, err := turret.Do(t.Context(), inner, "a"); !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, errBoom) {
		t.Errorf("failed for good: %v, want an error that matches the reason and ErrNotReady", err)
	}
	if _, err := turret.Do(t.Context(), answers("", errBoom), "a"); err != errBoom { //nolint:errorlint // the error itself is promised
		t.Errorf("a call that failed: %v, want the very error", err)
	}
}

func TestOptional(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	if got := turret.Optional[string, string](inner); got != Service(inner) {
		t.Errorf("got %v, want the service itself", got)
	}
	var missing Service
	s := turret.Optional(missing)
	if err := turret.ReadyNow(s); err != nil {
		t.Errorf("Ready without a service: %v, want nil", err)
	}
	_, err := s.Call(t.Context(), "a")
	refusal, ok := errors.AsType[*turret.Refusal](err)
	if !ok || refusal.Reason != turret.ReasonNoService || refusal.Kind != turret.KindUnavailable || !errors.Is(err, turret.ErrNone) {
		t.Errorf("Call without a service: %v, want a refusal that matches ErrNone", err)
	}
}

// Tower's Shared gives out clones of a service that has failed for ever.
func TestSharedOfAFailedService(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	maker := turret.Shared[int](inner)
	inner.Allow(0) // the user of the service waits, not Make
	if err := turret.ReadyNow(maker); err != nil {
		t.Errorf("Ready: %v, want nil", err)
	}
	for target := range 2 {
		if s, err := maker.Call(t.Context(), target); s != Service(inner) || err != nil {
			t.Errorf("Call: %v, %v, want the service", s, err)
		}
	}
	inner.Fail(errBoom)
	if err := maker.Ready(t.Context()); !errors.Is(err, errBoom) || !turret.IsFinal(err) {
		t.Errorf("Ready: %v, want the service's final error", err)
	}
	if s, err := maker.Call(t.Context(), 0); s != nil || !errors.Is(err, errBoom) || !errors.Is(err, turret.ErrNotReady) {
		t.Errorf("Call: %v, %v, want no service, and the reason", s, err)
	}
}
