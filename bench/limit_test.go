package bench

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/shed"
)

// echo is the innermost service of the stacks here.
var echo = turret.ServiceFunc(func(_ context.Context, req *int) (*int, error) { return req, nil })

type intLayer = turret.Layer[*int, *int]

// through does nothing, as a layer that embeds its inner service.
type through struct{ turret.Service[*int, *int] }

func (s through) Call(ctx context.Context, req *int) (*int, error) { return s.Service.Call(ctx, req) }

func embedded(inner turret.Service[*int, *int]) turret.Service[*int, *int] { return through{inner} }

func wrapped() intLayer {
	return turret.Wrap(func(ctx context.Context, req *int, inner turret.Service[*int, *int]) (*int, error) {
		return inner.Call(ctx, req)
	})
}

func gated(g turret.Gate) intLayer { return turret.Gated[*int, *int](g, nil) }

// stacked returns a call through layers.
func stacked(b *testing.B, layers ...intLayer) func() {
	s, ctx, req := turret.Stack(layers...)(echo), b.Context(), new(int)
	return func() { _, _ = s.Call(ctx, req) }
}

// entered returns Enter and Leave of a gate, without a stack.
func entered(b *testing.B, g turret.Gate) func() {
	ctx := b.Context()
	return func() {
		if t, err := g.Enter(ctx); err == nil {
			g.Leave(t, turret.Success)
		}
	}
}

// A row is one way to do what a benchmark is about.
type row struct {
	name string
	f    func()
}

// run measures rows on one goroutine and, if parallel, on all processors.
func run(b *testing.B, parallel bool, rows ...row) {
	for _, row := range rows {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				row.f()
			}
		})
		if !parallel {
			continue
		}
		b.Run(row.name+"Parallel", func(b *testing.B) {
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					row.f()
				}
			})
		})
	}
}

// BenchmarkLayer is what layers cost that do nothing: ten of each kind, to be
// divided by ten.
func BenchmarkLayer(b *testing.B) {
	ten := func(layer intLayer) []intLayer {
		layers := make([]intLayer, 10)
		for i := range layers {
			layers[i] = layer
		}
		return layers
	}
	run(b, false,
		row{"None", stacked(b)},
		row{"TenEmbedded", stacked(b, ten(embedded)...)},
		row{"TenWrapped", stacked(b, ten(wrapped())...)},
	)
}

const (
	places = 1000 // never all taken
	second = time.Second
)

// BenchmarkConcurrency is a call through a limit that has room.
func BenchmarkConcurrency(b *testing.B) {
	ctx := b.Context()
	weighted := semaphore.NewWeighted(places)
	channel := make(chan struct{}, places)
	failsafe := bulkhead.New[any](places)
	run(b, true,
		row{"Semaphore", func() {
			if weighted.Acquire(ctx, 1) == nil {
				weighted.Release(1)
			}
		}},
		row{"Channel", func() { channel <- struct{}{}; <-channel }},
		row{"Failsafe", func() {
			if failsafe.TryAcquirePermit() {
				failsafe.ReleasePermit()
			}
		}},
		row{"Turret", entered(b, limit.NewConcurrency(places, limit.Queue{}))},
		row{"TurretStack", stacked(b, gated(limit.NewConcurrency(places, limit.Queue{Max: limit.Unbounded})))},
	)
}

// BenchmarkConcurrencyRefused is a call that finds a limit full.
func BenchmarkConcurrencyRefused(b *testing.B) {
	weighted := semaphore.NewWeighted(0)
	failsafe := bulkhead.New[any](1)
	failsafe.TryAcquirePermit()
	run(b, true,
		row{"Semaphore", func() { weighted.TryAcquire(1) }},
		row{"Failsafe", func() { failsafe.TryAcquirePermit() }},
		row{"Turret", entered(b, limit.NewConcurrency(0, limit.Queue{}))},
		row{"TurretStack", stacked(b, gated(limit.NewConcurrency(0, limit.Queue{})))},
	)
}

// BenchmarkConcurrencyWaiting is a call that waits in line: 100 goroutines for
// each processor go through a limit of one.
func BenchmarkConcurrencyWaiting(b *testing.B) {
	ctx := b.Context()
	weighted := semaphore.NewWeighted(1)
	for _, row := range []row{
		{"Semaphore", func() {
			if weighted.Acquire(ctx, 1) == nil {
				weighted.Release(1)
			}
		}},
		{"Turret", entered(b, limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded}))},
		{"TurretTimeout", entered(b, limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded, Timeout: time.Hour}))},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(100)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					row.f()
				}
			})
		})
	}
}

// often is a rate that is never reached.
const often = 1_000_000_000

// BenchmarkRate is a call through a rate limit that has a token.
func BenchmarkRate(b *testing.B) {
	xtime := rate.NewLimiter(often, often)
	failsafe := ratelimiter.NewBursty[any](often, second)
	run(b, true,
		row{"XTime", func() { xtime.Allow() }},
		row{"Failsafe", func() { failsafe.TryAcquirePermit() }},
		row{"Turret", entered(b, limit.NewTokenBucket(limit.PerSecond(often), limit.Queue{}))},
		row{"TurretStack", stacked(b, gated(limit.NewTokenBucket(limit.PerSecond(often), limit.Queue{Max: limit.Unbounded})))},
	)
}

// BenchmarkRateRefused is a call that finds no token. Ours says when there will
// be one.
func BenchmarkRateRefused(b *testing.B) {
	xtime := rate.NewLimiter(rate.Every(1000*time.Hour), 1)
	xtime.Allow()
	failsafe := ratelimiter.NewBursty[any](1, 1000*time.Hour)
	failsafe.TryAcquirePermit()
	bucket := limit.NewTokenBucket(limit.Rate{N: 1, Per: 1000 * time.Hour}, limit.Queue{})
	_, _ = bucket.TryEnter(b.Context())
	run(b, true,
		row{"XTime", func() { xtime.Allow() }},
		row{"Failsafe", func() { failsafe.TryAcquirePermit() }},
		row{"Turret", entered(b, bucket)},
		row{"TurretStack", stacked(b, gated(bucket))},
	)
}

// BenchmarkShed is a load shedder in front of a limit, beside a layer there that
// does nothing.
func BenchmarkShed(b *testing.B) {
	roomy := gated(limit.NewConcurrency(places, limit.Queue{Max: limit.Unbounded}))
	shut := gated(limit.NewConcurrency(0, limit.Queue{Max: limit.Unbounded}))
	run(b, true,
		row{"PassThrough", stacked(b, embedded, roomy)},
		row{"Turret", stacked(b, shed.Layer[*int, *int](), roomy)},
		row{"TurretRefused", stacked(b, shed.Layer[*int, *int](), shut)},
	)
}
