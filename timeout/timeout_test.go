package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

var errBroken = errors.New("broken")

// takes returns a service that answers err after d, or its context's error if
// that comes first.
func takes(d time.Duration, err error) turret.Service[string, string] {
	return turret.ServiceFunc(func(ctx context.Context, req string) (string, error) {
		select {
		case <-time.After(d): //nolint:forbidigo // a bubble's timer
			return "re: " + req, err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
}

// deaf returns a service that answers err after d, whatever its context says.
func deaf(d time.Duration, err error) turret.Service[string, string] {
	return turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
		time.Sleep(d)
		return "re: " + req, err
	})
}

func bounded(d time.Duration, inner turret.Service[string, string]) turret.Service[string, string] {
	return timeout.Layer[string, string](d)(inner)
}

func TestEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := bounded(time.Second, takes(time.Hour, nil)).Call(t.Context(), "a")
		if got := time.Since(start); got != time.Second {
			t.Errorf("returned after %v, want 1s", got)
		}
		e, ok := errors.AsType[*timeout.Error](err)
		if !ok || e.After != time.Second {
			t.Fatalf("error is %#v, want a *timeout.Error after 1s", err)
		}
		if got, want := err.Error(), "timeout after 1s"; got != want {
			t.Errorf("text is %q, want %q", got, want)
		}
	})
}

func TestErrorMatches(t *testing.T) {
	inner := fmt.Errorf("dial: %w", errBroken)
	err := error(&timeout.Error{After: time.Second, Err: turret.NotReady(inner)})
	for _, target := range []error{timeout.ErrTimeout, context.DeadlineExceeded, errBroken, turret.ErrNotReady} {
		if !errors.Is(err, target) {
			t.Errorf("does not match %v", target)
		}
	}
	if errors.Is(err, context.Canceled) {
		t.Error("matches context.Canceled")
	}
	if !errors.Is(timeout.ErrTimeout, context.DeadlineExceeded) || errors.Is(context.DeadlineExceeded, timeout.ErrTimeout) {
		t.Error("ErrTimeout must match context.DeadlineExceeded, and not the other way round")
	}
	if got, want := err.Error(), "timeout after 1s: dial: broken"; got != want {
		t.Errorf("text is %q, want %q", got, want)
	}
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		t.Error("is not a timeout to those who look for a net.Error")
	}
	if got, want := (&timeout.Error{After: time.Second}).Error(), "timeout after 1s"; got != want {
		t.Errorf("text without Err is %q, want %q", got, want)
	}
}

// Whose error it is depends on what ended the call's context, and when.
func TestWhoseError(t *testing.T) {
	const bound = time.Second
	background := func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} }
	deadline := func(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
	}
	cancelled := func(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(d, cancel)
			return ctx, cancel
		}
	}
	tests := []struct {
		name    string
		caller  func(context.Context) (context.Context, context.CancelFunc)
		inner   turret.Service[string, string]
		after   time.Duration
		want    error // matched
		timeout bool  // is a *timeout.Error
	}{
		{"in time", background, takes(bound/2, nil), bound / 2, nil, false},
		{"fails in time", background, takes(bound/2, errBroken), bound / 2, errBroken, false},
		{"a late success is a success", background, deaf(2*bound, nil), 2 * bound, nil, false},
		{"a late failure is a timeout", background, deaf(2*bound, errBroken), 2 * bound, errBroken, true},
		{"inner gives up", background, takes(2*bound, nil), bound, context.DeadlineExceeded, true},
		{"caller's deadline is later", deadline(2 * bound), takes(time.Hour, nil), bound, context.DeadlineExceeded, true},
		{"caller's deadline is earlier", deadline(bound / 2), takes(time.Hour, nil), bound / 2, context.DeadlineExceeded, false},
		{"caller's deadline is the same", deadline(bound), takes(time.Hour, nil), bound, context.DeadlineExceeded, false},
		{"caller cancels", cancelled(bound / 2), takes(time.Hour, nil), bound / 2, context.Canceled, false},
		{"caller cancels too late", cancelled(3 * bound / 2), deaf(2*bound, errBroken), 2 * bound, errBroken, true},
		{"caller has cancelled", cancelled(0), takes(time.Hour, nil), 0, context.Canceled, false},
		{"another timeout inside", background, bounded(bound/2, takes(time.Hour, nil)), bound / 2, timeout.ErrTimeout, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tt.caller(t.Context())
				defer cancel()
				synctest.Wait() // a cancellation that is due has happened
				start := time.Now()
				res, err := bounded(bound, tt.inner).Call(ctx, "a")
				if got := time.Since(start); got != tt.after {
					t.Errorf("returned after %v, want %v", got, tt.after)
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("error is %v, want one that matches %v", err, tt.want)
				}
				if _, ok := errors.AsType[*timeout.Error](err); ok != tt.timeout {
					t.Errorf("%v: is a *timeout.Error: %v, want %v", err, ok, tt.timeout)
				}
				if tt.want == nil && res != "re: a" {
					t.Errorf("result is %q", res)
				}
			})
		})
	}
}

// A context may end with DeadlineExceeded and never have named a deadline.
func TestHiddenDeadlineIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := bounded(time.Minute, takes(time.Hour, nil)).Call(hidden{ctx}, "a")
		if err != context.DeadlineExceeded { //nolint:errorlint // it is to be passed on as it is
			t.Errorf("error is %v, want the context's own", err)
		}
	})
}

type hidden struct{ context.Context }

func (hidden) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestContextOfTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "v")
		var inner context.Context
		s := bounded(time.Second, turret.ServiceFunc(func(ctx context.Context, _ string) (string, error) {
			inner = ctx //nolint:fatcontext // the test looks at it
			<-ctx.Done()
			return "", context.Cause(ctx)
		}))
		start := time.Now()
		_, err := s.Call(ctx, "a")
		if deadline, ok := inner.Deadline(); !ok || !deadline.Equal(start.Add(time.Second)) {
			t.Errorf("deadline is %v, %v", deadline, ok)
		}
		if inner.Value(key{}) != "v" {
			t.Error("values are lost")
		}
		if cause, ok := errors.AsType[*timeout.Error](context.Cause(inner)); !ok || cause.After != time.Second {
			t.Errorf("cause is %v, want the layer's", context.Cause(inner))
		}
		if got, want := err.Error(), "timeout after 1s"; got != want {
			t.Errorf("an inner call that returns its context's cause: text is %q, want %q", got, want)
		}
	})
}

// An earlier deadline needs no context of its own: the inner call gets the very
// context of the caller.
func TestEarlierDeadlineIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := bounded(time.Second, turret.ServiceFunc(func(inner context.Context, _ string) (string, error) {
			if inner != ctx {
				t.Error("the inner call has another context")
			}
			return "", nil
		}))
		if _, err := s.Call(ctx, "a"); err != nil {
			t.Error(err)
		}
	})
}

func TestTimeInLineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := turret.ServiceFunc(func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done() // no room, ever
			return "", turret.NotReady(ctx.Err())
		})
		_, err := bounded(time.Second, line).Call(t.Context(), "a")
		if !errors.Is(err, timeout.ErrTimeout) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("error is %v, want a timeout of a call that was never sent", err)
		}
	})
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The other side reports the deadline 5 ms before it passes here.
		soon := func(ctx context.Context, err error) bool {
			deadline, _ := ctx.Deadline()
			return errors.Is(err, errBroken) && ctx.Err() == nil && time.Until(deadline) < 10*time.Millisecond
		}
		s := timeout.LayerFunc[string, string](time.Second, soon)(takes(995*time.Millisecond, errBroken))
		if _, err := s.Call(t.Context(), "a"); !errors.Is(err, timeout.ErrTimeout) || !errors.Is(err, errBroken) {
			t.Errorf("error is %v, want a timeout around %v", err, errBroken)
		}
		s = timeout.LayerFunc[string, string](time.Second, soon)(takes(900*time.Millisecond, errBroken))
		if _, err := s.Call(t.Context(), "a"); err != errBroken { //nolint:errorlint // it is to be passed on as it is
			t.Errorf("error is %v, want %v", err, errBroken)
		}
	})
}

func TestReadyIsForwarded(t *testing.T) {
	if err := bounded(time.Second, unready{}).Ready(t.Context()); err != errBroken { //nolint:errorlint // it is to be passed on as it is
		t.Errorf("Ready is %v, want %v", err, errBroken)
	}
}

type unready struct{ turret.Service[string, string] }

func (unready) Ready(context.Context) error { return errBroken }

// The timer and the context end with the call however it ends.
func TestNothingStays(t *testing.T) {
	ways := map[string]func(){
		"return": func() {},
		"panic":  func() { panic("inner") },
		"Goexit": runtime.Goexit,
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var inner context.Context
				s := bounded(time.Hour, turret.ServiceFunc(func(ctx context.Context, _ string) (string, error) {
					inner = ctx //nolint:fatcontext // the test looks at it
					way()
					return "", nil
				}))
				ctx := t.Context()
				go func() {
					defer func() { _ = recover() }()
					_, _ = s.Call(ctx, "a")
				}()
				synctest.Wait()
				if err := inner.Err(); err != context.Canceled {
					t.Errorf("the call's context says %v, want context canceled", err)
				}
			})
		})
	}
}

func TestInvalid(t *testing.T) {
	for _, d := range []time.Duration{0, -time.Second} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if want := fmt.Sprintf("timeout: Layer: d is %v, must be above 0", d); err == nil || err.Error() != want {
					t.Errorf("Layer(%v) panics with %v, want %q", d, err, want)
				}
			}()
			timeout.Layer[string, string](d)
		}()
	}
}

func TestString(t *testing.T) {
	if got, want := fmt.Sprint(bounded(1500*time.Millisecond, nil)), "timeout 1.5s"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
}

func TestAllocations(t *testing.T) {
	ok := turret.ServiceFunc(func(context.Context, string) (string, error) { return "", nil })
	s := bounded(time.Hour, ok)
	early, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(early, "a") }); got != 0 {
		t.Errorf("an earlier deadline: %v allocations, want 0", got)
	}
	std := testing.AllocsPerRun(100, func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, _ = ok.Call(ctx, "a")
	})
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(t.Context(), "a") }); got > std {
		t.Errorf("with a timer: %v allocations, context.WithTimeout has %v", got, std)
	}
}
