package hedge_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/retry"
)

// The first server does not answer. A hedge goes to the second, and its answer
// is the call's.
func Example() {
	calls := make(chan string, 2)
	calls <- "server 1"
	calls <- "server 2"
	inner := turret.ServiceFunc(func(ctx context.Context, name string) (string, error) {
		server := <-calls
		if server == "server 1" {
			<-ctx.Done()
			fmt.Println(server, "is cancelled:", context.Cause(ctx))
			return "", ctx.Err()
		}
		return "hello from " + server + ", " + name, nil
	})

	s := hedge.Layer[string, string](hedge.Config{
		Delay:  time.Millisecond,
		Budget: retry.NewBudget(retry.BudgetConfig{Ratio: 0.05}), // and one a second
		OnHedge: func(_ context.Context, attempt int, _ time.Duration) {
			fmt.Printf("hedge %d\n", attempt)
		},
	})(inner)

	fmt.Println(s.Call(context.Background(), "you"))
	// Output:
	// hedge 1
	// server 1 is cancelled: hedge: superseded by another attempt
	// hello from server 2, you <nil>
}

type message struct {
	name  string
	write bool
}

// A function says which requests may be sent twice, and what is sent then. Here
// only those that write nothing.
func ExampleLayerOf() {
	var gets atomic.Int64
	slow := turret.ServiceFunc(func(ctx context.Context, m message) (string, error) {
		switch {
		case m.write:
			<-time.NewTimer(5 * time.Millisecond).C
		case gets.Add(1) == 1:
			<-ctx.Done() // no answer to the first
			return "", ctx.Err()
		}
		return m.name, nil
	})
	policy := hedge.NewPolicy(hedge.Config{Delay: time.Millisecond, Budget: retry.Unlimited})
	s := hedge.LayerOf[message, string](policy, func(_ context.Context, m message, _ int) (message, bool) {
		return m, !m.write
	})(slow)

	_, _ = s.Call(context.Background(), message{"put", true})
	fmt.Println("hedges:", policy.Stats().Hedges)
	_, _ = s.Call(context.Background(), message{"get", false})
	fmt.Println("hedges:", policy.Stats().Hedges)
	// Output:
	// hedges: 0
	// hedges: 1
}

// A retry and a hedge that send to the same place share a budget. The retry
// counts the calls in it.
func ExampleConfig_counted() {
	stuck := turret.ServiceFunc(func(ctx context.Context, _ string) (string, error) {
		timer := time.NewTimer(3 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return "", fmt.Errorf("stuck")
	})
	budget := retry.NewBudget(retry.BudgetConfig{Ratio: 0.2, MinPerSecond: -1, Window: time.Minute})
	s := turret.Stack(
		retry.Layer[string, string](retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: budget}),
		hedge.Layer[string, string](hedge.Config{Delay: time.Millisecond, Budget: budget, Counted: true}),
	)(stuck)

	for range 10 {
		_, _ = s.Call(context.Background(), "question")
	}
	fmt.Println("calls:", budget.Stats().Calls, "retries and hedges:", budget.Stats().Retries)
	// Output:
	// calls: 10 retries and hedges: 2
}
