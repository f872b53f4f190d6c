package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

func TestRetryDescribesItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := retry.NewBudget(retry.BudgetConfig{Ratio: -1, MinPerSecond: 1})
		service := retry.Layer[int, int](retry.Config{MaxAttempts: 100, Budget: budget})(
			turret.ServiceFunc(func(context.Context, int) (int, error) { return 0, errors.New("down") }))
		_, _ = service.Call(t.Context(), 0)
		n := turret.Describe(service, 0)
		if n.Title != "retry 100 attempts" || len(n.Children) != 1 {
			t.Fatalf("%+v", n)
		}
		s := budget.Stats()
		for _, f := range n.Children[0].Figures {
			want, known := map[string]float64{
				"calls": float64(s.Calls), "retries": float64(s.Retries), "left": float64(s.Left), "refused": float64(s.Refused),
				"ratio": 0, "min_per_second": 1, "window": 10,
			}[f.Name]
			if !known || f.Value != want {
				t.Errorf("%+v, want %v", f, want)
			}
		}
		if got := turret.Describe(retry.Unlimited, 0); got.Title != "budget unlimited" || len(got.Figures) > 0 {
			t.Errorf("of an unlimited one: %+v", got)
		}
	})
}

// A policy of one's own need not be a Describer.
func TestRetryDescribesPoliciesOfOnesOwn(t *testing.T) {
	if got := turret.Describe(retry.LayerOf[int, int](silent{})(turret.Func[int, int](nil)), 0); got.Kind != "retry" || got.Title != "retry" {
		t.Errorf("%+v", got)
	}
}

type silent struct{ retry.Policy[int, int] }
