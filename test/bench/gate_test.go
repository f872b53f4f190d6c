package bench

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/shed"
	"github.com/turret-go/turret/test/bench/measure"
)

func gated(g turret.Gate) layer { return turret.Gated[*int, any](g, nil) }

// entered returns Enter and Leave of a gate, without a stack.
func entered(ctx context.Context, g turret.Gate) func() {
	return func() {
		if t, err := g.Enter(ctx); err == nil {
			g.Leave(t, turret.Success)
		}
	}
}

// gate returns the rows of a gate: as a layer, which is what others have to be
// compared with, and alone.
func gate(ctx context.Context, g turret.Gate) []measure.Row {
	return []measure.Row{{Name: "Turret, in a stack", F: stacked(ctx, gated(g))}, {Name: "Turret, the gate alone", F: entered(ctx, g)}}
}

// both measures rows on one goroutine, and on as many as there are processors.
func both(b *testing.B, name string, rows ...measure.Row) {
	b.Run(name, func(b *testing.B) { measure.Compare(b, rows...) })
	parallel := make([]measure.Row, len(rows))
	for i, r := range rows {
		r.Goroutines = runtime.GOMAXPROCS(0)
		parallel[i] = r
	}
	b.Run(name+", on all processors", func(b *testing.B) { measure.Compare(b, parallel...) })
}

// BenchmarkGate is a call through the mechanisms that let calls pass or turn
// them away, without gRPC.
func BenchmarkGate(b *testing.B) {
	b.Run("concurrency limit", benchmarkConcurrency)
	b.Run("rate limit", benchmarkRate)
	b.Run("circuit breaker", benchmarkBreaker)
	b.Run("load shedder", benchmarkShed)
	b.Run("buffer", benchmarkBuffer)
}

func benchmarkConcurrency(b *testing.B) {
	ctx := b.Context()
	acquire := func(s *semaphore.Weighted) func() {
		return func() {
			if s.Acquire(ctx, 1) == nil {
				s.Release(1)
			}
		}
	}
	permit := func(p bulkhead.Bulkhead[any]) func() {
		return func() {
			if p.TryAcquirePermit() {
				p.ReleasePermit()
			}
		}
	}
	channel, adaptive := make(chan struct{}, places), adaptivelimiter.NewWithDefaults[any]()
	both(b, "with room", append(gate(ctx, limit.NewConcurrency(places, limit.Queue{})),
		measure.Row{Name: "x/sync: semaphore", F: acquire(semaphore.NewWeighted(places))},
		measure.Row{Name: "a channel of the same size", F: func() { channel <- struct{}{}; <-channel }},
		measure.Row{Name: "failsafe-go: bulkhead", F: permit(bulkhead.New[any](places))},
		measure.Row{Name: "failsafe-go: adaptive limiter", F: func() {
			if p, ok := adaptive.TryAcquirePermit(); ok {
				p.Record()
			}
		}},
	)...)
	full, none := bulkhead.New[any](1), semaphore.NewWeighted(0)
	full.TryAcquirePermit()
	both(b, "full", append(gate(ctx, limit.NewConcurrency(0, limit.Queue{})),
		measure.Row{Name: "x/sync: semaphore", F: func() { none.TryAcquire(1) }},
		measure.Row{Name: "failsafe-go: bulkhead", F: permit(full)},
	)...)
	const callers = 100
	b.Run("100 goroutines in line for one place", func(b *testing.B) {
		long := limit.Queue{Max: limit.Unbounded}
		measure.Compare(b,
			measure.Row{Name: "Turret, the gate alone", F: entered(ctx, limit.NewConcurrency(1, long)), Goroutines: callers},
			measure.Row{Name: "Turret, with a timeout", F: entered(ctx, limit.NewConcurrency(1, limit.Queue{Max: limit.Unbounded, Timeout: time.Hour})), Goroutines: callers},
			measure.Row{Name: "x/sync: semaphore", F: acquire(semaphore.NewWeighted(1)), Goroutines: callers},
		)
	})
}

func benchmarkRate(b *testing.B) {
	ctx := b.Context()
	limiter, bursty := rate.NewLimiter(often, often), ratelimiter.NewBursty[any](often, time.Second)
	both(b, "with a token", append(gate(ctx, limit.NewTokenBucket(limit.PerSecond(often), limit.Queue{})),
		measure.Row{Name: "x/time: Allow", F: func() { limiter.Allow() }},
		measure.Row{Name: "failsafe-go: rate limiter", F: func() { bursty.TryAcquirePermit() }},
	)...)
	const day = 24 * time.Hour
	empty, used, bucket := rate.NewLimiter(rate.Every(day), 1), ratelimiter.NewBursty[any](1, day), limit.NewTokenBucket(limit.Rate{N: 1, Per: day}, limit.Queue{})
	empty.Allow()
	used.TryAcquirePermit()
	_, _ = bucket.TryEnter(ctx)
	both(b, "without one (Turret says when there will be)", append(gate(ctx, bucket),
		measure.Row{Name: "x/time: Allow", F: func() { empty.Allow() }},
		measure.Row{Name: "failsafe-go: rate limiter", F: func() { used.TryAcquirePermit() }},
	)...)
}

func benchmarkBreaker(b *testing.B) {
	ctx, req := b.Context(), new(int)
	gob, failsafe := gobreaker.NewCircuitBreaker[any](gobreaker.Settings{}), circuitbreaker.NewWithDefaults[any]()
	both(b, "closed", append(gate(ctx, breaker.New(breaker.Config{})),
		measure.Row{Name: "gobreaker: Execute", F: func() { _, _ = gob.Execute(func() (any, error) { return req, nil }) }},
		measure.Row{Name: "failsafe-go: circuit breaker", F: func() {
			if failsafe.TryAcquirePermit() {
				failsafe.RecordSuccess()
			}
		}},
	)...)
}

func benchmarkShed(b *testing.B) {
	ctx := b.Context()
	roomy := gated(limit.NewConcurrency(places, limit.Queue{Max: limit.Unbounded}))
	shut := gated(limit.NewConcurrency(0, limit.Queue{Max: limit.Unbounded}))
	both(b, "in front of a limit",
		measure.Row{Name: "Turret", F: stacked(ctx, shed.Layer[*int, any](), roomy)},
		measure.Row{Name: "Turret, sheds", F: stacked(ctx, shed.Layer[*int, any](), shut)},
		measure.Row{Name: "a layer that does nothing in its place", F: stacked(ctx, embedded, roomy)},
	)
}

func benchmarkBuffer(b *testing.B) {
	ctx, req := b.Context(), new(int)
	idle := buffer.New[*int, any](echo, 100)
	yields := turret.ServiceFunc(func(_ context.Context, req *int) (any, error) {
		runtime.Gosched()
		return req, nil
	})
	busy := buffer.New(gated(limit.NewConcurrency(1, limit.Queue{}))(yields), 100)
	b.Cleanup(idle.Close)
	b.Cleanup(busy.Close)
	measure.Compare(b,
		measure.Row{Name: "Turret, one caller", F: func() { _, _ = idle.Call(ctx, req) }},
		measure.Row{Name: "Turret, 64 callers for one place", F: func() { _, _ = busy.Call(ctx, req) }, Goroutines: 64},
		measure.Row{Name: "goroutine and one hand-off", F: func() {
			done := make(chan struct{})
			go close(done)
			<-done
		}},
	)
}
