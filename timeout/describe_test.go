package timeout_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

// A timeout counts each call that it ended, however the inner call says so.
func TestTimeoutCountsWhatItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := timeout.Layer[func(context.Context) error, int](time.Second)(
			turret.ServiceFunc(func(ctx context.Context, f func(context.Context) error) (int, error) { return 0, f(ctx) }))
		for _, f := range []func(context.Context) error{
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
			func(context.Context) error { return nil },
			func(context.Context) error { return context.DeadlineExceeded },
		} {
			_, _ = service.Call(t.Context(), f)
		}
		n := turret.Describe(service, 0)
		if got := n.Figures[1]; n.Title != "timeout 1s" || got.Name != "timeouts" || got.Value != 2 {
			t.Errorf("%+v", n)
		}
	})
}
