package bench

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
)

// hedging returns a call through a hedge, which f answers.
func hedging(ctx context.Context, c hedge.Config, f func(context.Context, *int) (any, error)) func() {
	s, req := hedge.Layer[*int, any](c)(turret.ServiceFunc(f)), new(int)
	return func() { _, _ = s.Call(ctx, req) }
}

func failsafeHedging(ctx context.Context, p hedgepolicy.HedgePolicy[any], f func(context.Context, *int) (any, error)) func() {
	e, req := failsafe.With[any](p), new(int)
	return func() {
		_, _ = e.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[any]) (any, error) { return f(x.Context(), req) })
	}
}

// BenchmarkHedge is a call that nothing needs to hedge, with a fixed delay and
// with a quantile. A context and a timer are what it cannot do without.
func BenchmarkHedge(b *testing.B) {
	ctx, f := b.Context(), failing(0)
	compare(b,
		row{"context.WithCancelCause and time.AfterFunc", func() {
			_, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(bound, func() {}).Stop()
			cancel(nil)
		}},
		row{"fixed delay", hedging(ctx, hedge.Config{Delay: bound}, f)},
		row{"failsafe-go: fixed delay", failsafeHedging(ctx, hedgepolicy.NewWithDelay[any](bound), f)},
		row{"quantile", hedging(ctx, hedge.Config{MinDelay: bound}, f)},
		row{"failsafe-go: quantile", failsafeHedging(ctx, hedgepolicy.NewWithDelayQuantile[any](0.999, 1000, 1_000_000), f)},
		row{"deadline before the delay", hedging(withDeadline(b), hedge.Config{Delay: 2 * bound}, f)},
	)
}

// BenchmarkHedgeClient is a unary RPC of a client that nothing needs to hedge.
func BenchmarkHedgeClient(b *testing.B) {
	ctx := b.Context()
	compare(b,
		row{"a layer that does nothing", client(ctx, pass)},
		row{"hedge", client(ctx, interceptors.Hedge(hedge.Config{Delay: bound}))},
		row{"hedge, quantile", client(ctx, interceptors.Hedge(hedge.Config{MinDelay: bound}))},
		row{"failsafegrpc: hedge", calling(ctx, failsafegrpc.NewUnaryClientInterceptor(hedgepolicy.NewWithDelay[any](bound)))},
	)
}

// BenchmarkHedgeFires is a call that a hedge saves: the first attempt does not
// answer.
func BenchmarkHedgeFires(b *testing.B) {
	ctx := b.Context()
	everyOther := func() func(context.Context, *int) (any, error) {
		var calls atomic.Int64
		return func(ctx context.Context, _ *int) (any, error) {
			if calls.Add(1)%2 == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, nil //nolint:nilnil // an answer
		}
	}
	const delay = 10 * time.Microsecond
	compare(b,
		row{"hedge", hedging(ctx, hedge.Config{Delay: delay, MaxRise: -1, Budget: retry.Unlimited}, everyOther())},
		row{"failsafe-go", failsafeHedging(ctx, hedgepolicy.NewWithDelay[any](delay), everyOther())},
	)
}
