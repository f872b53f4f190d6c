package bench

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	failsafetimeout "github.com/failsafe-go/failsafe-go/timeout"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/bench/measure"
	"github.com/turret-go/turret/timeout"
)

// An operation is what a mechanism is around.
type operation = func(context.Context, *int) (any, error)

// around returns a call of f through a layer.
func around(ctx context.Context, l layer, f operation) func() {
	s, req := l(turret.ServiceFunc(f)), new(int)
	return func() { _, _ = s.Call(ctx, req) }
}

// executed returns a call of f through failsafe-go's policies.
func executed(ctx context.Context, f operation, policies ...failsafe.Policy[any]) func() {
	e, req := failsafe.With(policies...), new(int)
	return func() {
		_, _ = e.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[any]) (any, error) { return f(x.Context(), req) })
	}
}

// answers uses its context as a transport does, and answers.
func answers(ctx context.Context, req *int) (any, error) {
	_ = ctx.Done()
	return req, nil
}

// BenchmarkTimeout is a call that ends in time.
func BenchmarkTimeout(b *testing.B) {
	open, late := b.Context(), deadline(b, 10*bound)
	std := func(ctx context.Context) func() {
		req := new(int)
		return func() {
			ctx, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			_, _ = answers(ctx, req)
		}
	}
	for _, c := range []struct {
		name string
		ctx  context.Context
	}{{"no deadline yet", open}, {"a later deadline", late}, {"an earlier deadline", deadline(b, bound/2)}} {
		b.Run(c.name, func(b *testing.B) {
			measure.Compare(b,
				measure.Row{Name: "Turret", F: around(c.ctx, timeout.Layer[*int, any](bound), answers)},
				measure.Row{Name: "context.WithTimeout", F: std(c.ctx)},
				measure.Row{Name: "a layer that does nothing", F: around(c.ctx, embedded, answers)},
				measure.Row{Name: "failsafe-go", F: executed(c.ctx, answers, failsafetimeout.New[any](bound))},
			)
		})
	}
}

// deadline returns a context with one.
func deadline(b *testing.B, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), d)
	b.Cleanup(cancel)
	return ctx
}

var errOnce = errors.New("failed once")

// everyOther returns an operation that fails every other time. It is for one
// goroutine.
func everyOther() operation {
	calls := 0
	return func(_ context.Context, req *int) (any, error) {
		if calls++; calls%2 != 0 {
			return nil, errOnce
		}
		return req, nil
	}
}

// BenchmarkRetry is a call that nothing needs to retry, and one that a retry
// without a delay saves.
func BenchmarkRetry(b *testing.B) {
	ctx := b.Context()
	policy := retrypolicy.NewBuilder[any]().WithMaxAttempts(3)
	both(b, "not needed",
		measure.Row{Name: "Turret, with its budget", F: around(ctx, retry.Layer[*int, any](retry.Config{}), answers)},
		measure.Row{Name: "Turret, no budget", F: around(ctx, retry.Layer[*int, any](retry.Config{Budget: retry.Unlimited}), answers)},
		measure.Row{Name: "a layer that does nothing", F: around(ctx, wrapped(), answers)},
		measure.Row{Name: "failsafe-go, with a budget", F: executed(ctx, answers, retrypolicy.NewBuilder[any]().WithMaxAttempts(3).WithBudget(budget.New()).Build())},
		measure.Row{Name: "failsafe-go, no budget", F: executed(ctx, answers, policy.Build())},
	)
	b.Run("saves the call", func(b *testing.B) {
		saving := retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: retry.NewBudget(retry.BudgetConfig{Ratio: 1})}
		measure.Compare(b,
			measure.Row{Name: "Turret, with its budget", F: around(ctx, retry.Layer[*int, any](saving), everyOther())},
			measure.Row{Name: "failsafe-go, with a budget", F: executed(ctx, everyOther(), retrypolicy.NewBuilder[any]().WithBudget(budget.NewBuilder().WithMaxRate(1).Build()).Build())},
		)
	})
	ours := retry.NewBudget(retry.BudgetConfig{})
	b.Run("the budget alone", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: a call", F: ours.Deposit},
			measure.Row{Name: "Turret: a call, on all processors", F: ours.Deposit, Goroutines: runtime.GOMAXPROCS(0)},
			measure.Row{Name: "Turret: a retry", F: func() { ours.Withdraw() }},
		)
	})
}

// BenchmarkHedge is a call that nothing needs to hedge, and one that a hedge
// saves: its first attempt does not answer.
func BenchmarkHedge(b *testing.B) {
	ctx := b.Context()
	b.Run("not needed", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret, fixed delay", F: around(ctx, hedge.Layer[*int, any](hedge.Config{Delay: bound}), answers)},
			measure.Row{Name: "Turret, quantile", F: around(ctx, hedge.Layer[*int, any](hedge.Config{MinDelay: bound}), answers)},
			measure.Row{Name: "context.WithCancelCause and time.AfterFunc", F: func() {
				_, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(bound, func() {}).Stop()
				cancel(nil)
			}},
			measure.Row{Name: "failsafe-go, fixed delay", F: executed(ctx, answers, hedgepolicy.NewWithDelay[any](bound))},
			measure.Row{Name: "failsafe-go, quantile", F: executed(ctx, answers, hedgepolicy.NewWithDelayQuantile[any](0.999, 1000, 1_000_000))},
		)
	})
	b.Run("saves the call", func(b *testing.B) {
		const delay = 10 * time.Microsecond
		measure.Compare(b,
			measure.Row{Name: "Turret", F: around(ctx, hedge.Layer[*int, any](hedge.Config{Delay: delay, MaxRise: -1, Budget: retry.Unlimited}), firstStuck())},
			measure.Row{Name: "failsafe-go", F: executed(ctx, firstStuck(), hedgepolicy.NewWithDelay[any](delay))},
		)
	})
}

// firstStuck returns an operation of which every other call only ends with its
// context.
func firstStuck() operation {
	var calls atomic.Int64
	return func(ctx context.Context, req *int) (any, error) {
		if calls.Add(1)%2 == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return req, nil
	}
}
