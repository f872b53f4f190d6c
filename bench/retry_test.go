package bench

import (
	"context"
	"errors"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

var errOnce = errors.New("failed once")

// failing returns a function that fails so many times before it succeeds, again
// and again. It is not for concurrent use unless times is 0.
func failing(times int) func(context.Context, *int) (any, error) {
	calls := 0
	return func(_ context.Context, req *int) (any, error) {
		if times == 0 {
			return req, nil
		}
		if calls++; calls%(times+1) != 0 {
			return nil, errOnce
		}
		return req, nil
	}
}

func failsafeRetry(b budget.Budget) failsafe.Executor[any] {
	policy := retrypolicy.NewBuilder[any]().WithMaxAttempts(3)
	if b != nil {
		policy = policy.WithBudget(b)
	}
	return failsafe.With[any](policy.Build())
}

// BenchmarkRetry is a call that nothing needs to retry, on one goroutine and on
// all. PassThrough is what any layer costs.
func BenchmarkRetry(b *testing.B) {
	rows := []struct {
		name  string
		layer turret.Layer[*int, any]
	}{
		{"PassThrough", turret.Wrap(func(ctx context.Context, req *int, inner turret.Service[*int, any]) (any, error) {
			return inner.Call(ctx, req)
		})},
		{"Turret", retry.Layer[*int, any](retry.Config{})},
		{"TurretNoBudget", retry.Layer[*int, any](retry.Config{Budget: retry.Unlimited})},
	}
	ctx, req := b.Context(), new(int)
	for _, row := range rows {
		s := row.layer(turret.ServiceFunc(failing(0)))
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = s.Call(ctx, req)
			}
		})
		b.Run(row.name+"Parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					_, _ = s.Call(ctx, req)
				}
			})
		})
	}
	b.Run("Failsafe", func(b *testing.B) {
		runFailsafe(b, failsafeRetry(budget.New()), failing(0))
	})
	b.Run("FailsafeNoBudget", func(b *testing.B) {
		runFailsafe(b, failsafeRetry(nil), failing(0))
	})
}

// BenchmarkRetryOnce is a call that one retry without a delay saves.
func BenchmarkRetryOnce(b *testing.B) {
	ctx, req := b.Context(), new(int)
	b.Run("Turret", func(b *testing.B) {
		s := retry.Layer[*int, any](retry.Config{
			Backoff: retry.Backoff{Base: -1},
			Budget:  retry.NewBudget(retry.BudgetConfig{Ratio: 1}),
		})(turret.ServiceFunc(failing(1)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Call(ctx, req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Failsafe", func(b *testing.B) {
		runFailsafe(b, failsafeRetry(budget.NewBuilder().WithMaxRate(1).Build()), failing(1))
	})
}

func runFailsafe(b *testing.B, e failsafe.Executor[any], f func(context.Context, *int) (any, error)) {
	b.Helper()
	b.ReportAllocs()
	ctx, req := b.Context(), new(int)
	for b.Loop() {
		_, err := e.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[any]) (any, error) {
			return f(x.Context(), req)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBudget is what a call and a retry cost a budget, alone and contended.
// (failsafe-go's has no such operations for others to call.)
func BenchmarkBudget(b *testing.B) {
	both := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
		b.Run(name+"Parallel", func(b *testing.B) {
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					f()
				}
			})
		})
	}
	ours := retry.NewBudget(retry.BudgetConfig{})
	both("TurretDeposit", ours.Deposit)
	both("TurretWithdraw", func() { ours.Withdraw() })
}
