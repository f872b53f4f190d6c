package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

func Example() {
	stuck := turret.ServiceFunc(func(ctx context.Context, _ string) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	s := timeout.Layer[string, int](5 * time.Millisecond)(stuck)

	_, err := s.Call(context.Background(), "question")
	fmt.Println(err)
	fmt.Println(errors.Is(err, timeout.ErrTimeout), errors.Is(err, context.DeadlineExceeded))
	// Output:
	// timeout after 5ms
	// true true
}

// Inside another timeout the earlier bound counts, and says so.
func Example_nested() {
	stuck := turret.ServiceFunc(func(ctx context.Context, _ string) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	s := turret.Stack(
		timeout.Layer[string, int](time.Hour),
		timeout.Layer[string, int](5*time.Millisecond),
	)(stuck)

	_, err := s.Call(context.Background(), "question")
	if e, ok := errors.AsType[*timeout.Error](err); ok {
		fmt.Println("bound:", e.After)
	}
	// Output:
	// bound: 5ms
}
