package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/retry"
)

// What a call does, attempt by attempt. Attempts are called A, B, C ..., and so
// are their results.
func TestCall(t *testing.T) {
	const long = time.Hour
	one := func(c *hedge.Config) { c.MaxHedges = 1 }
	tests := []struct {
		name   string
		change func(*hedge.Config)
		parts  []part
		starts []time.Duration
		after  time.Duration
		res    string
		err    error
	}{
		{
			"answers before the delay", nil,
			[]part{{takes: 49 * ms}},
			[]time.Duration{0},
			49 * ms, "A", nil,
		},
		{
			"a hedge answers first", one,
			[]part{{takes: long}, {takes: 10 * ms}},
			[]time.Duration{0, 50 * ms},
			60 * ms, "B", nil,
		},
		{
			"the first attempt answers first after all", one,
			[]part{{takes: 70 * ms}, {takes: long}},
			[]time.Duration{0, 50 * ms},
			70 * ms, "A", nil,
		},
		{
			"as many hedges as allowed", nil,
			[]part{{takes: long}, {takes: long}, {takes: long}, {takes: long}, {takes: 75 * ms}},
			[]time.Duration{0, 50 * ms, 100 * ms, 150 * ms, 200 * ms},
			275 * ms, "E", nil,
		},
		{
			"fails before the delay: that is not for hedging", nil,
			[]part{{takes: 49 * ms, err: errLost}, {}},
			[]time.Duration{0},
			49 * ms, "A", errLost,
		},
		{
			"an error of the first attempt waits for the hedge", one,
			[]part{{takes: 60 * ms, err: errLost}, {takes: 30 * ms}},
			[]time.Duration{0, 50 * ms},
			80 * ms, "B", nil,
		},
		{
			"an error of the hedge waits for the first attempt", one,
			[]part{{takes: 200 * ms}, {takes: 10 * ms, err: errLost}},
			[]time.Duration{0, 50 * ms},
			200 * ms, "A", nil,
		},
		{
			"a further hedge is sent while one is in flight", nil,
			[]part{{takes: 60 * ms, err: errLost}, {takes: 90 * ms, err: errLost}, {takes: 45 * ms}},
			[]time.Duration{0, 50 * ms, 100 * ms},
			145 * ms, "C", nil,
		},
		{
			"and none when nothing is", nil,
			[]part{{takes: 60 * ms, err: errLost}, {takes: 40 * ms, err: errMissing}},
			[]time.Duration{0, 50 * ms},
			90 * ms, "B", errMissing,
		},
		{
			"all fail: the error of the first, whatever the order", nil,
			[]part{{takes: 120 * ms, err: errLost}, {takes: 10 * ms, err: errors.New("hedge")}, {takes: 5 * ms, err: errors.New("hedge")}},
			[]time.Duration{0, 50 * ms, 100 * ms},
			120 * ms, "A", errLost,
		},
		{
			"an error that is an answer wins", one,
			[]part{{takes: long}, {takes: 10 * ms, err: errMissing}},
			[]time.Duration{0, 50 * ms},
			60 * ms, "B", errMissing,
		},
		{
			"the first of two answers counts", one,
			[]part{{takes: 200 * ms, deaf: true}, {takes: 10 * ms}},
			[]time.Duration{0, 50 * ms},
			200 * ms, "B", nil,
		},
		{
			"a loser that does not heed its context is waited for", one,
			[]part{{takes: 55 * ms}, {takes: time.Second, deaf: true}},
			[]time.Duration{0, 50 * ms},
			1050 * ms, "A", nil,
		},
		{
			"a hedge that was refused makes way for another, twice as late", one,
			[]part{{takes: long}, {err: errRefused}, {err: errRefused}, {takes: 10 * ms}},
			[]time.Duration{0, 50 * ms, 100 * ms, 200 * ms},
			210 * ms, "D", nil,
		},
		{
			"but not when nothing else is in flight", one,
			[]part{{takes: 60 * ms, err: errLost}, {takes: 20 * ms, err: errRefused}, {}},
			[]time.Duration{0, 50 * ms},
			70 * ms, "A", errLost,
		},
		{
			"and not before the refusal says", one,
			[]part{{takes: long}, {err: &turret.Refusal{RetryAfter: time.Second}}, {takes: 10 * ms}},
			[]time.Duration{0, 50 * ms, 1050 * ms},
			1060 * ms, "C", nil,
		},
		{
			"a refused first attempt waits for the hedge", one,
			[]part{{takes: 60 * ms, err: errRefused}, {takes: 20 * ms}},
			[]time.Duration{0, 50 * ms},
			70 * ms, "B", nil,
		},
		{
			"pushback stops further hedges", nil,
			[]part{{takes: 300 * ms}, {takes: 10 * ms, err: errPushback}},
			[]time.Duration{0, 50 * ms},
			300 * ms, "A", nil,
		},
		{
			"those that are in flight go on", nil,
			[]part{{takes: 110 * ms, err: errPushback}, {takes: long}, {takes: 100 * ms}},
			[]time.Duration{0, 50 * ms, 100 * ms},
			200 * ms, "C", nil,
		},
		{
			"pushback reaches the caller", nil,
			[]part{{takes: 80 * ms, err: errLost}, {takes: 10 * ms, err: errPushback}},
			[]time.Duration{0, 50 * ms},
			80 * ms, "B", errPushback,
		},
		{
			"a delay until the quantile is known", func(c *hedge.Config) { c.Quantile = 0.5; c.MaxHedges = 1 },
			[]part{{takes: long}, {takes: 10 * ms}},
			[]time.Duration{0, 50 * ms},
			60 * ms, "B", nil,
		},
		{
			"no delay and no quantile yet", func(c *hedge.Config) { c.Delay = 0 },
			[]part{{takes: time.Minute}},
			[]time.Duration{0},
			time.Minute, "A", nil,
		},
		{
			"one hedge is the default", func(c *hedge.Config) { c.MaxHedges = 0 },
			[]part{{takes: time.Minute}},
			[]time.Duration{0, 50 * ms},
			time.Minute, "A", nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := steady()
				if tt.change != nil {
					tt.change(&c)
				}
				inner := plays(tt.parts...)
				res, err := layer(c, inner).Call(t.Context(), "question")
				inner.check(t)
				if res != tt.res || err != tt.err { //nolint:errorlint // it is to be handed on as it is
					t.Errorf("result is %q, %v; want %q, %v", res, err, tt.res, tt.err)
				}
				if got := time.Since(inner.begun); got != tt.after {
					t.Errorf("returned after %v, want %v", got, tt.after)
				}
				if !slices.Equal(inner.starts, tt.starts) {
					t.Errorf("attempts at %v, want %v", inner.starts, tt.starts)
				}
			})
		})
	}
}

// Tower returns what completes first, be it an error: of the hedge while the
// call would have succeeded, or of the call while the hedge would have.
func TestNeverTurnsTheOtherAttemptsSuccessIntoAnError(t *testing.T) {
	broken := errors.New("the service is not ready, for ever")
	for _, tt := range []struct {
		name  string
		parts []part
	}{
		{"hedge fails", []part{{takes: time.Second}, {takes: ms, err: errLost}}},
		{"hedge is refused", []part{{takes: time.Second}, {takes: ms, err: errRefused}}},
		{"hedge meets an error of readiness", []part{{takes: time.Second}, {err: broken}}},
		{"first attempt fails", []part{{takes: 51 * ms, err: errLost}, {takes: time.Second}}},
		{"first attempt is refused", []part{{takes: 51 * ms, err: errRefused}, {takes: time.Second}}},
		{"hedge fails as the first attempt succeeds", []part{{takes: 60 * ms}, {takes: 10 * ms, err: errLost}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := steady()
				c.MaxHedges = 1
				if o := call(t.Context(), layer(c, plays(tt.parts...))); o.err != nil || o.res == "" {
					t.Errorf("one attempt succeeded, the call ended with %+v", o)
				}
			})
		})
	}
}

// The losers' contexts end with the cause ErrSuperseded, and the winner's result
// is not touched by that.
func TestCauses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		parts  []part
		causes []error // as the attempts end
	}{
		{"hedge wins", []part{{takes: time.Hour}, {takes: time.Hour}, {takes: ms}}, []error{hedge.ErrSuperseded, hedge.ErrSuperseded, nil}},
		{"first attempt wins", []part{{takes: 110 * ms}, {takes: time.Hour}}, []error{nil, hedge.ErrSuperseded, hedge.ErrSuperseded}},
		{"all fail", []part{{takes: 60 * ms, err: errLost}, {takes: 20 * ms, err: errLost}}, []error{nil, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := plays(tt.parts...)
				c := steady()
				c.MaxHedges = 2
				call(t.Context(), layer(c, inner))
				if !slices.Equal(inner.causes, tt.causes) {
					t.Errorf("contexts ended with %v, want %v", inner.causes, tt.causes)
				}
			})
		})
	}
}

// ErrNotReady is matched exactly when no attempt was sent.
func TestSent(t *testing.T) {
	line := turret.NotReady(context.DeadlineExceeded) // gave up in a line
	tests := []struct {
		name   string
		parts  []part
		text   string
		unsent bool
	}{
		{"refused, no hedge", []part{{err: errRefused}}, errRefused.Error(), true},
		{"all refused", []part{{takes: 60 * ms, err: errRefused}, {takes: 20 * ms, err: line}}, errRefused.Error(), true},
		{"first attempt refused, hedge sent", []part{{takes: 60 * ms, err: errRefused}, {takes: 20 * ms, err: errLost}}, "lost", false},
		{"first attempt sent, hedge refused", []part{{takes: 60 * ms, err: errLost}, {err: errRefused}}, "lost", false},
		{"refused by someone below who may have sent it", []part{{takes: 60 * ms, err: turret.Sent(errRefused)}, {err: errRefused}}, errRefused.Error(), false},
		{"sent, and pushed back unsent", []part{{takes: 60 * ms, err: errLost}, {err: turret.NotReady(errPushback)}}, errPushback.Error(), false},
		{"pushed back unsent", []part{{takes: 60 * ms, err: errRefused}, {err: turret.NotReady(errPushback)}}, errPushback.Error(), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := call(t.Context(), layer(steady(), plays(tt.parts...)))
				if o.err == nil || o.err.Error() != tt.text {
					t.Fatalf("error is %v, want %v", o.err, tt.text)
				}
				if got := errors.Is(o.err, turret.ErrNotReady); got != tt.unsent {
					t.Errorf("%v matches ErrNotReady: %v, want %v", o.err, got, tt.unsent)
				}
			})
		})
	}
}

// Success and RetryAfter are asked with the context of the attempt, and Success
// not about what was never sent.
func TestSuccessIsNotAskedAboutRefusals(t *testing.T) {
	c := steady()
	c.Success = func(context.Context, error) bool { return true }
	for _, hedged := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := c
			parts := []part{{takes: 60 * ms, err: errRefused}, {takes: 20 * ms}}
			want := outcome{res: "B"}
			if !hedged {
				c.Delay, want = 0, outcome{res: "A", err: errRefused}
			}
			if got := call(t.Context(), layer(c, plays(parts...))); got != want {
				t.Errorf("hedged %v: the call ended with %+v, want %+v", hedged, got, want)
			}
		})
	}
}

func TestCallersContext(t *testing.T) {
	cancelled := func(after time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(after, cancel)
			return ctx, cancel
		}
	}
	deadline := func(after time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, after)
		}
	}
	for _, tt := range []struct {
		name     string
		ctx      func(context.Context) (context.Context, context.CancelFunc)
		parts    []part
		attempts int
		after    time.Duration
		err      error
	}{
		{"cancelled before the delay", cancelled(30 * ms), []part{{takes: time.Hour}}, 1, 30 * ms, context.Canceled},
		{"cancelled with a hedge in flight", cancelled(70 * ms), []part{{takes: time.Hour}}, 2, 70 * ms, context.Canceled},
		{"deadline before the delay", deadline(30 * ms), []part{{takes: time.Hour}}, 1, 30 * ms, context.DeadlineExceeded},
		{"deadline at the delay", deadline(50 * ms), []part{{takes: time.Hour}}, 1, 50 * ms, context.DeadlineExceeded},
		{"deadline with a hedge in flight", deadline(70 * ms), []part{{takes: time.Hour}}, 2, 70 * ms, context.DeadlineExceeded},
		{"no hedge after the end", cancelled(30 * ms), []part{{takes: 80 * ms, deaf: true}}, 1, 80 * ms, nil},
		{"no hedge that refuses after the end", cancelled(60 * ms), []part{{takes: 300 * ms, deaf: true}, {err: errRefused}}, 2, 300 * ms, nil},
		{"cancelled before it begins", cancelled(-1), []part{{takes: time.Hour}}, 1, 0, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tt.ctx(t.Context())
				defer cancel()
				synctest.Wait()
				inner := plays(tt.parts...)
				c := steady()
				c.MaxHedges = 1
				o := call(ctx, layer(c, inner))
				inner.check(t)
				if o.err != tt.err || time.Since(inner.begun) != tt.after || len(inner.starts) != tt.attempts { //nolint:errorlint // as it is
					t.Errorf("ended with %+v after %v, %d attempts; want %v after %v, %d attempts",
						o, time.Since(inner.begun), len(inner.starts), tt.err, tt.after, tt.attempts)
				}
			})
		})
	}
}

// again chooses what a hedge sends, and whether there is one; nothing is drawn
// from the budget for one that is not sent.
func TestAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		again func(ctx context.Context, req string, attempt int) (string, bool)
		reqs  []string
		left  int64
	}{
		{"nil", nil, []string{"question", "question", "question"}, 8},
		{
			"another request",
			func(_ context.Context, req string, attempt int) (string, bool) {
				return fmt.Sprint(req, attempt), true
			},
			[]string{"question", "question1", "question2"},
			8,
		},
		{
			"no",
			func(context.Context, string, int) (string, bool) { return "", false },
			[]string{"question"},
			10,
		},
		{
			"once",
			func(_ context.Context, req string, attempt int) (string, bool) { return req, attempt == 1 },
			[]string{"question", "question"},
			9,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := steady()
				c.MaxHedges = 2
				c.Budget = retry.NewBudget(retry.BudgetConfig{Ratio: -1})
				inner := plays(part{takes: time.Second})
				_, _ = hedge.LayerOf[string, string](hedge.NewPolicy(c), tt.again)(inner).Call(t.Context(), "question")
				if !slices.Equal(inner.reqs, tt.reqs) {
					t.Errorf("sent %q, want %q", inner.reqs, tt.reqs)
				}
				if got := c.Budget.Stats().Left; got != tt.left {
					t.Errorf("budget has %d left, want %d", got, tt.left)
				}
			})
		})
	}
}

func TestOnHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		c := steady()
		c.MaxHedges = 2
		c.OnHedge = func(ctx context.Context, attempt int, after time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(attempt, " after ", after, " ", ctx.Err()))
		}
		s := layer(c, plays(part{takes: time.Hour}, part{takes: time.Hour}, part{takes: ms}, part{takes: ms}))
		_, _ = s.Call(t.Context(), "question")
		_, _ = s.Call(t.Context(), "not hedged")
		if want := []string{"1 after 50ms <nil>", "2 after 100ms <nil>"}; !slices.Equal(told, want) {
			t.Errorf("told of %q, want %q", told, want)
		}
	})
}

func TestReadyIsForwarded(t *testing.T) {
	s := layer(hedge.Config{}, unready{})
	if err := s.Ready(t.Context()); err != errLost { //nolint:errorlint // it is to be passed on as it is
		t.Errorf("Ready is %v, want %v", err, errLost)
	}
}

type unready struct{ turret.Service[string, string] }

func (unready) Ready(context.Context) error { return errLost }

func TestNilPolicy(t *testing.T) {
	defer func() {
		if got, want := fmt.Sprint(recover()), "hedge: LayerOf: policy is nil, must be non-nil"; got != want {
			t.Errorf("panics with %q, want %q", got, want)
		}
	}()
	hedge.LayerOf[string, string](nil, nil)
}

// While no hedge is due, a call runs on the goroutine of its caller alone.
func TestNoGoroutineBeforeTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var before, during int
		s := layer(hedge.Config{Delay: time.Hour}, turret.ServiceFunc(func(context.Context, string) (string, error) {
			during = inBubble()
			return "", nil
		}))
		before = inBubble()
		_, _ = s.Call(t.Context(), "a")
		if before == 0 || during != before {
			t.Errorf("%d goroutines before the call, %d in it", before, during)
		}
	})
}

// inBubble returns how many goroutines run in bubbles. Those of the runtime, and
// what earlier tests have left, run outside.
func inBubble() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ", synctest bubble ")
}

// The longest delays and latencies there are.
func TestHugeValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := steady()
		c.Delay = math.MaxInt64
		if o := call(t.Context(), layer(c, plays(part{takes: time.Hour}))); o != (outcome{res: "A"}) {
			t.Errorf("ended with %+v", o)
		}
		c.Delay, c.MinSamples, c.Quantile = 0, 1, 0.5
		p := hedge.NewPolicy(c)
		s := hedge.LayerOf[string, string](p, nil)(plays(part{takes: 100 * 365 * 24 * time.Hour}))
		_, _ = s.Call(t.Context(), "a")
		// The longest latency that is distinguished.
		if got, want := p.Stats().Delay, (1<<32)*time.Microsecond; got != want {
			t.Errorf("delay %v, want %v", got, want)
		}
		c = steady()
		inner := plays(part{takes: time.Hour}, part{err: &turret.Refusal{RetryAfter: math.MaxInt64}})
		if o := call(t.Context(), layer(c, inner)); o != (outcome{res: "A"}) || len(inner.starts) > 3 {
			t.Errorf("ended with %+v, attempts at %v", o, inner.starts)
		}
	})
}

// A call that is not hedged costs what its context and its timer do, and one
// that cannot be hedged nothing.
func TestAllocations(t *testing.T) {
	inner := turret.ServiceFunc(func(context.Context, string) (string, error) { return "", nil })
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, tt := range []struct {
		name string
		c    hedge.Config
		want float64
	}{
		{"fixed delay", hedge.Config{Delay: time.Second}, 5},
		{"no quantile yet", hedge.Config{MinSamples: 1_000_000}, 0},
		{"quantile", hedge.Config{MinSamples: 1, MinDelay: time.Second}, 5},
		{"deadline before the delay", hedge.Config{Delay: 2 * time.Hour}, 0},
	} {
		s := layer(tt.c, inner)
		_, _ = s.Call(ctx, "a")
		if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, "a") }); got > tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.want)
		}
	}
}
