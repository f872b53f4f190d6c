package retry_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
	"github.com/turret-go/turret/turrettest"
)

const ms = time.Millisecond

var (
	errLost    = errors.New("lost")
	errRefused = &turret.Refusal{Layer: "limit", Reason: turret.ReasonLimitFull, Err: errors.New("limit is full")}
)

// play is a service that answers each attempt with the next of its errors, the
// last one again and again, and notes when it was called.
type play struct {
	turret.Service[string, string]

	errs  []error
	start time.Time
	at    []time.Duration
}

func plays(errs ...error) *play { return &play{errs: errs, start: time.Now()} }

func (p *play) Call(_ context.Context, req string) (string, error) {
	err := p.errs[min(len(p.at), len(p.errs)-1)]
	p.at = append(p.at, time.Since(p.start))
	if err != nil {
		return "", err
	}
	return "re: " + req, nil
}

// steady is a config whose delays are 50, 100, 200 ... ms exactly.
var steady = retry.Config{MaxAttempts: 5, Backoff: retry.Backoff{Jitter: -1}, Budget: retry.Unlimited}

func TestRetriesUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := plays(errLost, errRefused, errLost, nil)
		res, err := retry.Layer[string, string](steady)(inner).Call(t.Context(), "a")
		if res != "re: a" || err != nil {
			t.Errorf("result is %q, %v", res, err)
		}
		if want := []time.Duration{0, 50 * ms, 150 * ms, 350 * ms}; !slices.Equal(inner.at, want) {
			t.Errorf("attempts at %v, want %v", inner.at, want)
		}
	})
}

// ErrNotReady is matched exactly when no attempt was sent.
func TestSent(t *testing.T) {
	line := turret.NotReady(context.DeadlineExceeded) // gave up in a line
	tests := []struct {
		name     string
		errs     []error
		attempts int
		unsent   bool
	}{
		{"refused each time", []error{errRefused}, 3, true},
		{"gave up in a line each time", []error{line}, 3, true},
		{"sent, then refused", []error{errLost, errRefused}, 3, false},
		{"refused, sent, refused", []error{errRefused, errLost, errRefused}, 3, false},
		{"refused, then sent", []error{errRefused, errRefused, errLost}, 3, false},
		{"sent each time", []error{errLost}, 3, false},
		{"refused by someone below who may have sent it", []error{turret.Sent(errRefused)}, 3, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := plays(tt.errs...)
				_, err := retry.Layer[string, string](retry.Config{})(inner).Call(t.Context(), "a")
				last := tt.errs[len(tt.errs)-1]
				if len(inner.at) != tt.attempts || err == nil || err.Error() != last.Error() {
					t.Errorf("%d attempts, error %v; want %d, %v", len(inner.at), err, tt.attempts, last)
				}
				if got := errors.Is(err, turret.ErrNotReady); got != tt.unsent {
					t.Errorf("%v matches ErrNotReady: %v, want %v", err, got, tt.unsent)
				}
				if refusal, ok := errors.AsType[*turret.Refusal](err); errors.Is(last, errRefused) && (!ok || refusal != errRefused) {
					t.Errorf("the refusal is not in reach of %v", err)
				}
			})
		})
	}
}

// When the deadline leaves no room for the delay, the last error is returned at
// once.
func TestNoSleepOutlivesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 150*ms)
		defer cancel()
		inner := plays(errLost)
		_, err := retry.Layer[string, string](steady)(inner).Call(ctx, "a")
		if err != errLost { //nolint:errorlint // it is to be handed on as it is
			t.Errorf("error is %v, want %v", err, errLost)
		}
		if want := []time.Duration{0, 50 * ms}; !slices.Equal(inner.at, want) || time.Since(inner.start) != 50*ms {
			t.Errorf("attempts at %v, returned after %v; want %v, 50ms", inner.at, time.Since(inner.start), want)
		}
	})
}

func TestInterrupted(t *testing.T) {
	tests := []struct {
		name   string
		errs   []error
		unsent bool
		text   string
	}{
		{"sent", []error{errLost}, false, "context canceled; last error: lost"},
		{"not sent", []error{errRefused}, true, "context canceled; last error: limit: limit is full"},
		{"sent, then refused", []error{errLost, errRefused}, false, "context canceled; last error: limit: limit is full"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(time.Duration(len(tt.errs))*70*ms, cancel) // in the last delay of 50 and 100 ms
				inner := plays(tt.errs...)
				_, err := retry.Layer[string, string](steady)(inner).Call(ctx, "a")
				if got, want := time.Since(inner.start), time.Duration(len(tt.errs))*70*ms; got != want {
					t.Errorf("returned after %v, want %v", got, want)
				}
				if err == nil || err.Error() != tt.text {
					t.Fatalf("error is %v, want %q", err, tt.text)
				}
				last := tt.errs[len(tt.errs)-1]
				if !errors.Is(err, context.Canceled) || !errors.Is(err, last) {
					t.Errorf("%v does not match both its errors", err)
				}
				if got := errors.Is(err, turret.ErrNotReady); got != tt.unsent {
					t.Errorf("matches ErrNotReady: %v, want %v", got, tt.unsent)
				}
				e, ok := errors.AsType[*retry.InterruptedError](err)
				if !ok || e.Err != context.Canceled || e.Last.Error() != last.Error() { //nolint:errorlint // the context's error is exact
					t.Errorf("error is %#v", err)
				}
			})
		})
	}
}

// A context that names no deadline may end in the delay all the same.
func TestInterruptedByHiddenDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 49*ms)
		defer cancel()
		inner := plays(errLost)
		_, err := retry.Layer[string, string](steady)(inner).Call(hidden{ctx}, "a")
		if _, ok := errors.AsType[*retry.InterruptedError](err); !ok || !errors.Is(err, context.DeadlineExceeded) || len(inner.at) != 1 {
			t.Errorf("%d attempts, error is %v", len(inner.at), err)
		}
	})
}

type hidden struct{ context.Context }

func (hidden) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestNoRetryAfterContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	attempts := 0
	s := retry.Layer[string, string](steady)(turret.ServiceFunc(func(context.Context, string) (string, error) {
		attempts++
		cancel()
		return "", errRefused
	}))
	_, err := s.Call(ctx, "a")
	if attempts != 1 || err != error(errRefused) { //nolint:errorlint // it is to be handed on as it is
		t.Errorf("%d attempts, error %v; want 1, %v", attempts, err, errRefused)
	}
}

// A panic or Goexit below is no result.
func TestPanicAndGoexit(t *testing.T) {
	for name, way := range map[string]func(){"panic": func() { panic("inner") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			attempts, asked := 0, 0
			s := retry.Layer[string, string](retry.Config{
				Retryable: func(context.Context, error) bool { asked++; return true },
			})(turret.ServiceFunc(func(context.Context, string) (string, error) {
				attempts++
				way()
				return "", nil
			}))
			ended := make(chan any)
			go func() {
				var recovered any
				defer func() { ended <- recovered }()
				defer func() { recovered = recover() }()
				_, _ = s.Call(t.Context(), "a")
				t.Error("Call returned")
			}()
			if recovered := <-ended; (recovered != nil) != (name == "panic") {
				t.Errorf("recovered %v", recovered)
			}
			if attempts != 1 || asked != 0 {
				t.Errorf("%d attempts, asked %d times", attempts, asked)
			}
		})
	}
}

// Retry outside a timeout retries what the timeout ended.
func TestRetriesItsTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, attempts := time.Now(), 0
		s := turret.Stack(
			retry.Layer[string, string](steady),
			timeout.Layer[string, string](time.Second),
		)(turret.ServiceFunc(func(ctx context.Context, req string) (string, error) {
			if attempts++; attempts == 3 {
				return "re: " + req, nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		}))
		if res, err := s.Call(t.Context(), "a"); res != "re: a" || err != nil {
			t.Errorf("result is %q, %v", res, err)
		}
		if got, want := time.Since(start), 2150*ms; got != want {
			t.Errorf("returned after %v, want %v", got, want)
		}
	})
}

// A policy of one's own sees successes, changes the request, and says what the
// caller gets.
type polling struct{ delay time.Duration }

func (polling) Begin(context.Context, string) {}

func (p polling) Next(_ context.Context, a retry.Attempt[string, string]) retry.Decision[string, string] {
	if a.Number == 4 {
		d := a.Stop()
		d.Res += ", at last"
		return d
	}
	d := a.Again(p.delay)
	d.Req += "'"
	return d
}

func TestOwnPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reqs []string
		s := retry.LayerOf(polling{time.Second})(turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
			reqs = append(reqs, req)
			return "re: " + req, nil
		}))
		start := time.Now()
		res, err := s.Call(t.Context(), "a")
		if want := "re: a''', at last"; res != want || err != nil {
			t.Errorf("result is %q, %v; want %q", res, err, want)
		}
		if want := []string{"a", "a'", "a''", "a'''"}; !slices.Equal(reqs, want) || time.Since(start) != 3*time.Second {
			t.Errorf("sent %v in %v", reqs, time.Since(start))
		}
	})
}

// A policy is asked also when the service is not ready for another attempt, or
// never will be, and may replace the error. (Tower's is not: it returns the error
// of readiness as it is.)
func TestPolicyIsAskedWhenReadinessFails(t *testing.T) {
	gone := errors.New("gone for good")
	for name, tt := range map[string]struct {
		fail func(inner *turrettest.Mock[string, string])
		want error
	}{
		"not now":  {func(inner *turrettest.Mock[string, string]) { inner.Allow(0) }, turret.ErrNotReady},
		"for good": {func(inner *turrettest.Mock[string, string]) { inner.Fail(gone) }, gone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := turrettest.NewMock[string, string](t)
				asked := &asking{}
				s := turret.Stack(retry.LayerOf(asked), timeout.Layer[string, string](time.Second))(inner)
				call := turrettest.Go(t.Context(), s, "a")
				request := inner.Next(t.Context())
				tt.fail(inner)
				request.Fail(errLost)
				res, err := call.Result()
				if res != "instead" || err != nil {
					t.Errorf("got %q, %v, want what the policy says", res, err)
				}
				if len(asked.errs) != 2 || !errors.Is(asked.errs[0], errLost) || !errors.Is(asked.errs[1], tt.want) {
					t.Errorf("the policy was asked about %v, want %v and %v", asked.errs, errLost, tt.want)
				}
			})
		})
	}
}

// asking is a policy of two attempts that notes what it is asked about, and
// replaces the error of the second.
type asking struct{ errs []error }

func (*asking) Begin(context.Context, string) {}

func (p *asking) Next(_ context.Context, a retry.Attempt[string, string]) retry.Decision[string, string] {
	p.errs = append(p.errs, a.Err)
	if a.Number == 1 {
		return a.Again(time.Second)
	}
	return retry.Decision[string, string]{Res: "instead"}
}

// Each delay is jittered by itself, over all of it: those of calls that fail at
// once differ, whole seconds too, and at the cap. (Tower's calls of one maker get
// the same delays, whole seconds get no jitter, and neither does the cap.)
func TestDelaysOfCallsDiffer(t *testing.T) {
	const calls = 200
	for name, b := range map[string]retry.Backoff{
		"milliseconds":  {Base: 50 * ms},
		"whole seconds": {Base: 4 * time.Second},
		"at the cap":    {Base: time.Second, Max: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var delays []time.Duration
				s := retry.Layer[string, string](retry.Config{
					MaxAttempts: 2, Backoff: b, Budget: retry.Unlimited,
					OnRetry: func(_ context.Context, _ int, _ error, delay time.Duration) { delays = append(delays, delay) },
				})(plays(errLost))
				for range calls {
					_, _ = s.Call(t.Context(), "a")
				}
				slices.Sort(delays)
				if different := len(slices.Compact(slices.Clone(delays))); different < calls*9/10 {
					t.Errorf("%d of %d delays differ, want nearly all", different, calls)
				}
				if least, most := delays[0], delays[calls-1]; least > b.Base/5 || most < b.Base*4/5 || most > b.Base {
					t.Errorf("delays from %v to %v, want them all over %v", least, most, b.Base)
				}
			})
		})
	}
}

// The layer holds a policy of one's own to the deadline, and does not lose a
// success that was to be bettered.
func TestOwnPolicyAndTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		name         string
		hide         bool // the deadline
		takes, delay time.Duration
		after        time.Duration
		want         string
	}{
		{"deadline is known", false, 0, time.Second, time.Second, "re: a'"},
		{"deadline comes in the delay", true, 0, time.Second, 1500 * ms, "re: a'"},
		{"deadline comes in an attempt", false, time.Second, 0, 2 * time.Second, "re: a'"},
		{"deadline comes in an attempt, hidden", true, time.Second, 0, 2 * time.Second, "re: a'"},
		{"there is time", true, 0, 0, 0, "re: a''', at last"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 1500*ms)
				defer cancel()
				if tt.hide {
					ctx = hidden{ctx}
				}
				start := time.Now()
				s := retry.LayerOf(polling{tt.delay})(turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
					time.Sleep(tt.takes)
					return "re: " + req, nil
				}))
				res, err := s.Call(ctx, "a")
				if res != tt.want || err != nil || time.Since(start) != tt.after {
					t.Errorf("result is %q, %v after %v; want %q after %v", res, err, time.Since(start), tt.want, tt.after)
				}
			})
		})
	}
}

// A policy of one's own that wants another attempt although the deadline has
// passed has waited too long.
func TestOwnPolicyAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := retry.LayerOf(insisting{})(turret.ServiceFunc(func(context.Context, string) (string, error) {
			time.Sleep(time.Second)
			return "", errLost
		}))
		_, err := s.Call(ctx, "a")
		e, ok := errors.AsType[*retry.InterruptedError](err)
		if !ok || e.Err != context.DeadlineExceeded || e.Last != errLost { //nolint:errorlint // as they are
			t.Errorf("error is %v", err)
		}
	})
}

// insisting is a policy that tries again, at once and for ever.
type insisting struct{}

func (insisting) Begin(context.Context, string) {}

func (insisting) Next(_ context.Context, a retry.Attempt[string, string]) retry.Decision[string, string] {
	return a.Again(0)
}

// A success counts as sent, should a policy turn the last refusal into the
// result.
func TestOwnPolicySent(t *testing.T) {
	inner := plays(nil, errRefused)
	_, err := retry.LayerOf(twice{})(inner).Call(t.Context(), "a")
	if !errors.Is(err, errRefused) || errors.Is(err, turret.ErrNotReady) {
		t.Errorf("error is %v, want the refusal as one of a request that was sent", err)
	}
}

type twice struct{}

func (twice) Begin(context.Context, string) {}

func (twice) Next(_ context.Context, a retry.Attempt[string, string]) retry.Decision[string, string] {
	if a.Number == 1 {
		return a.Again(0)
	}
	return a.Stop()
}

// A policy that builds on NewPolicy, and says that successes need no decision.
type counting struct {
	retry.Policy[string, string]

	onlyErrors bool
	nexts      int
}

func (c *counting) OnlyErrors() bool { return c.onlyErrors }

func (c *counting) Next(ctx context.Context, a retry.Attempt[string, string]) retry.Decision[string, string] {
	c.nexts++
	return c.Policy.Next(ctx, a)
}

func TestOnlyErrors(t *testing.T) {
	for _, tt := range []struct {
		onlyErrors bool
		nexts      int
	}{{true, 1}, {false, 2}} {
		synctest.Test(t, func(t *testing.T) {
			p := &counting{Policy: retry.NewPolicy[string, string](steady), onlyErrors: tt.onlyErrors}
			res, err := retry.LayerOf(p)(plays(errLost, nil)).Call(t.Context(), "a")
			if res != "re: a" || err != nil || p.nexts != tt.nexts {
				t.Errorf("OnlyErrors %v: result %q, %v; Next was called %d times, want %d", tt.onlyErrors, res, err, p.nexts, tt.nexts)
			}
		})
	}
}

func TestReadyIsForwarded(t *testing.T) {
	s := retry.Layer[string, string](retry.Config{})(unready{})
	if err := s.Ready(t.Context()); err != errLost { //nolint:errorlint // it is to be passed on as it is
		t.Errorf("Ready is %v, want %v", err, errLost)
	}
}

type unready struct{ turret.Service[string, string] }

func (unready) Ready(context.Context) error { return errLost }

func TestNilPolicy(t *testing.T) {
	defer func() {
		if got, want := fmt.Sprint(recover()), "retry: LayerOf: policy is nil, must be non-nil"; got != want {
			t.Errorf("panics with %q, want %q", got, want)
		}
	}()
	retry.LayerOf[string, string](nil)
}

func TestString(t *testing.T) {
	s := retry.Layer[string, string](retry.Config{Budget: retry.Unlimited})(nil)
	if got, want := fmt.Sprint(s), "retry 3 attempts, budget unlimited"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
	if got, want := fmt.Sprint(retry.LayerOf(polling{})(nil)), "retry"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
}

func TestAllocations(t *testing.T) {
	fail := true
	s := retry.Layer[string, string](retry.Config{
		Backoff: retry.Backoff{Base: -1},
		Budget:  retry.NewBudget(retry.BudgetConfig{Ratio: 1}),
	})(turret.ServiceFunc(func(context.Context, string) (string, error) {
		if fail = !fail; fail {
			return "", errLost
		}
		return "", nil
	}))
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(t.Context(), "a") }); got != 0 {
		t.Errorf("a retry without a delay: %v allocations, want 0", got)
	}
	s = retry.Layer[string, string](retry.Config{})(turret.ServiceFunc(func(context.Context, string) (string, error) { return "", nil }))
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(t.Context(), "a") }); got != 0 {
		t.Errorf("a success: %v allocations, want 0", got)
	}
}
