package bench

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	failsafetimeout "github.com/failsafe-go/failsafe-go/timeout"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

// BenchmarkTimeout is a call that ends in time: where the caller has no
// deadline, a later one and an earlier one. The call asks for its context's
// channel, as a transport does, except in the rows Unused.
func BenchmarkTimeout(b *testing.B) {
	const bound = time.Second
	ctx, req := b.Context(), new(int)
	late, cancel := context.WithTimeout(ctx, time.Hour)
	b.Cleanup(cancel)
	waits := func(ctx context.Context, req *int) (any, error) {
		_ = ctx.Done()
		return req, nil
	}
	returns := func(_ context.Context, req *int) (any, error) { return req, nil }
	std := func(ctx context.Context, req *int, f func(context.Context, *int) (any, error)) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, bound)
		defer cancel()
		return f(ctx, req)
	}
	rows := []struct {
		name string
		ctx  context.Context
		f    func(context.Context, *int) (any, error)
	}{{"", ctx, waits}, {"Unused", ctx, returns}, {"LaterDeadline", late, waits}}
	for _, row := range rows {
		s := timeout.Layer[*int, any](bound)(turret.ServiceFunc(row.f))
		b.Run("Turret"+row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = s.Call(row.ctx, req)
			}
		})
		b.Run("WithTimeout"+row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = std(row.ctx, req, row.f)
			}
		})
	}
	b.Run("TurretEarlierDeadline", func(b *testing.B) {
		s := timeout.Layer[*int, any](2 * time.Hour)(turret.ServiceFunc(waits))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Call(late, req)
		}
	})
	b.Run("Failsafe", func(b *testing.B) {
		e := failsafe.With[any](failsafetimeout.New[any](bound))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = e.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[any]) (any, error) {
				return waits(x.Context(), req)
			})
		}
	})
}
