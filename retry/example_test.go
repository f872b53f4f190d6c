package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/retry"
)

func Example() {
	errBusy := errors.New("busy")
	attempts := 0
	inner := turret.ServiceFunc(func(_ context.Context, name string) (string, error) {
		if attempts++; attempts < 3 {
			return "", errBusy
		}
		return "hello, " + name, nil
	})

	s := retry.Layer[string, string](retry.Config{
		Backoff:   retry.Backoff{Base: time.Millisecond},
		Retryable: func(_ context.Context, err error) bool { return errors.Is(err, errBusy) },
		OnRetry: func(_ context.Context, attempt int, err error, _ time.Duration) {
			fmt.Printf("retry %d: %v\n", attempt, err)
		},
	})(inner)

	fmt.Println(s.Call(context.Background(), "you"))
	// Output:
	// retry 1: busy
	// retry 2: busy
	// hello, you <nil>
}

// untilDone asks again while the answer is that there is none yet. What fails
// is left to the policy that it builds on.
type untilDone struct {
	retry.Policy[string, string]
}

func (p untilDone) Next(ctx context.Context, a retry.Attempt[string, string]) retry.Decision[string, string] {
	switch {
	case a.Err != nil:
		return p.Policy.Next(ctx, a)
	case a.Res == "pending" && a.Number < 10:
		return a.Again(time.Millisecond)
	default:
		return a.Stop()
	}
}

// A Policy of one's own may retry a success.
func ExampleLayerOf() {
	asked := 0
	job := turret.ServiceFunc(func(context.Context, string) (string, error) {
		if asked++; asked < 4 {
			return "pending", nil
		}
		return "done", nil
	})

	s := retry.LayerOf(untilDone{retry.NewPolicy[string, string](retry.Config{})})(job)

	res, err := s.Call(context.Background(), "job 7")
	fmt.Println(res, err, "after", asked, "questions")
	// Output:
	// done <nil> after 4 questions
}

// Two layers that send to the same place share a budget: here two retries for
// ten calls, and none that calls need not pay for.
func ExampleNewBudget() {
	down := turret.ServiceFunc(func(context.Context, string) (string, error) {
		return "", errors.New("down")
	})
	budget := retry.NewBudget(retry.BudgetConfig{Ratio: 0.2, MinPerSecond: -1})
	config := retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: budget}
	reads := retry.Layer[string, string](config)(down)
	writes := retry.Layer[string, string](config)(down)

	for range 5 {
		_, _ = reads.Call(context.Background(), "get")
		_, _ = writes.Call(context.Background(), "put")
	}
	fmt.Println(budget)
	// Output:
	// budget 0.2 of calls + 0/s over 10s: calls 10, retries 2, left 0, refused 10
}

func ExampleBackoff_Delay() {
	var b retry.Backoff // the default
	for attempt := 1; attempt <= 8; attempt++ {
		longest := b.Delay(attempt, 0)
		half := b.Delay(attempt, 1<<63)
		fmt.Printf("retry %d: up to %v, on average %v\n", attempt, longest, half)
	}
	// Output:
	// retry 1: up to 50ms, on average 25ms
	// retry 2: up to 100ms, on average 50ms
	// retry 3: up to 200ms, on average 100ms
	// retry 4: up to 400ms, on average 200ms
	// retry 5: up to 800ms, on average 400ms
	// retry 6: up to 1.6s, on average 800ms
	// retry 7: up to 3.2s, on average 1.6s
	// retry 8: up to 5s, on average 2.5s
}
