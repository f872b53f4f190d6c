package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/reconnect"
	"github.com/turret-go/turret/retry"
)

// The first attempt fails. The error of the call says so, and when the next one is
// due; turret.Do waits for that.
func Example() {
	attempts := 0
	dial := turret.ServiceFunc(func(_ context.Context, address string) (turret.Service[string, string], error) {
		if attempts++; attempts == 1 {
			return nil, errors.New("connection refused")
		}
		return turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
			return address + " says " + req, nil
		}), nil
	})
	service := reconnect.New(dial, "10.0.0.1:80", reconnect.Config{
		Backoff: retry.Backoff{Base: time.Millisecond, Jitter: -1},
		OnFailure: func(err error, failures int, delay time.Duration) {
			fmt.Printf("failure %d: %v, next attempt in %v\n", failures, err, delay)
		},
	})
	defer service.Close()

	_, err := service.Call(context.Background(), "hello")
	fmt.Println(errors.Is(err, reconnect.ErrNotConnected), errors.Is(err, turret.ErrNotReady))
	fmt.Println(turret.Do(context.Background(), service, "hello"))
	// Output:
	// failure 1: connection refused, next attempt in 1ms
	// true true
	// 10.0.0.1:80 says hello <nil>
}
