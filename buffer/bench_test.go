package buffer_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/limit"
)

// BenchmarkBuffer measures what a buffer adds: with one caller, which never waits,
// and with 64 callers for one place, nearly all of which wait.
func BenchmarkBuffer(b *testing.B) {
	ok := turret.ServiceFunc(func(_ context.Context, req int) (int, error) { return req, nil })
	b.Run("one caller", func(b *testing.B) {
		s, ctx := buffer.New(ok, 100), b.Context()
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Call(ctx, 1)
		}
	})
	b.Run("64 callers for one place", func(b *testing.B) {
		yields := turret.ServiceFunc(func(_ context.Context, req int) (int, error) { runtime.Gosched(); return req, nil })
		s := buffer.New(turret.Gated[int, int](limit.NewConcurrency(1, limit.Queue{}), nil)(yields), 100)
		ctx := b.Context()
		b.ReportAllocs()
		b.SetParallelism(64 / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Call(ctx, 1); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
