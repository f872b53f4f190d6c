package hedge_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/retry"
)

// Of the hedges that were sent each has won or lost when the calls have ended,
// a call that panicked too.
func TestEachHedgeHasWonOrLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedge.NewPolicy(hedge.Config{Delay: time.Second, MaxHedges: 2, Budget: retry.Unlimited})
		var what string
		var attempts atomic.Int32
		service := hedge.LayerOf[int, int](p, nil)(turret.ServiceFunc(func(ctx context.Context, _ int) (int, error) {
			first := attempts.Add(1) == 1
			switch {
			case first && what == "panic":
				time.Sleep(3 * time.Second)
				panic(what)
			case first:
				time.Sleep(5 * time.Second)
				return 0, ctx.Err()
			case what == "lose":
				<-ctx.Done()
				return 0, ctx.Err()
			case what == "fail":
				return 0, errors.New("failed")
			}
			return 0, nil
		}))
		for _, what = range []string{"win", "lose", "fail", "panic"} {
			attempts.Store(0)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			func() {
				defer func() { _ = recover() }()
				_, _ = service.Call(ctx, 0)
			}()
			cancel()
		}
		s := p.Stats()
		if s.Calls != 4 || s.Wins != 1 || s.Wins+s.Losses != s.Hedges {
			t.Errorf("%+v", s)
		}
		for _, f := range turret.Describe(service, 0).Figures {
			if f.Reason == "lost" && f.Value != float64(s.Losses) {
				t.Errorf("described %v lost of %+v", f.Value, s)
			}
		}
	})
}
