package buffer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/limit"
)

// A buffer of 2 in front of a limit of 1 holds 3 calls; the next one is refused.
func Example() {
	proceed := make(chan struct{})
	places := turret.Gated[string, string](limit.NewConcurrency(1, limit.Queue{}), nil)
	inner := places(turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
		<-proceed
		return "did " + req, nil
	}))
	service := buffer.New(inner, 2)

	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { _, _ = service.Call(context.Background(), "work") })
		for s := service.Stats(); s.Inside != 1 || s.Waiting != i; s = service.Stats() { // until it is in
		}
	}
	fmt.Println(service)
	_, err := service.Call(context.Background(), "more")
	fmt.Println(err, errors.Is(err, buffer.ErrFull), errors.Is(err, turret.ErrNotReady))
	close(proceed)
	wg.Wait()
	fmt.Println(service)
	// Output:
	// buffer: 2 of 2 waiting, 1 inside, 0 over, 0 refused
	// buffer: line full true true
	// buffer: 0 of 2 waiting, 0 inside, 3 over, 1 refused
}
