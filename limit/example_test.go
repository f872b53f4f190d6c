package limit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// A limit with the zero Queue turns away what it has no room for.
func Example() {
	places := limit.NewConcurrency(1, limit.Queue{})
	service := turret.Gated[string, string](places, nil)(turret.ServiceFunc(
		func(ctx context.Context, name string) (string, error) {
			fmt.Println(places)
			_, err := places.TryEnter(ctx) // another call, meanwhile
			fmt.Println(err, errors.Is(err, turret.ErrNotReady))
			return "hello " + name, nil
		}))
	fmt.Println(service.Call(context.Background(), "gopher"))
	fmt.Println(places)
	// Output:
	// concurrency limit: 1 of 1 in flight, 0 waiting, 1 entered, 0 refused
	// limit: no room true
	// hello gopher <nil>
	// concurrency limit: 0 of 1 in flight, 0 waiting, 1 entered, 1 refused
}

// With a line, calls wait for room, in order. Here one waits for as long as it
// takes; a second one finds the line full.
func ExampleConcurrency() {
	places := limit.NewConcurrency(1, limit.Queue{Max: 1, Timeout: time.Minute})
	ctx := context.Background()

	first, _ := places.Enter(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticket, err := places.Enter(ctx)
		fmt.Println("the one in line:", err)
		places.Leave(ticket, turret.Success)
	})
	for places.Stats().Waiting == 0 {
		runtime.Gosched()
	}
	_, err := places.Enter(ctx)
	fmt.Println("the next one:", err)
	places.Leave(first, turret.Success) // its place goes to the head of the line
	wg.Wait()
	// Output:
	// the next one: limit: no room, and the line is full
	// the one in line: <nil>
}

// A token bucket says when to come back.
func ExampleTokenBucket() {
	bucket := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour, Burst: 2}, limit.Queue{})
	ctx := context.Background()
	for range 3 {
		_, err := bucket.Enter(ctx)
		refusal, refused := errors.AsType[*turret.Refusal](err)
		fmt.Println(refused, refused && refusal.RetryAfter.Round(time.Minute) == time.Hour)
	}
	fmt.Println(bucket)
	// Output:
	// false false
	// false false
	// true true
	// rate limit 1 per 1h0m0s, burst 2: 0 tokens, 0 waiting, 2 entered, 1 refused
}

// A call that was not sent gives its token back.
func ExampleTokenBucket_Leave() {
	bucket := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour, Burst: 1}, limit.Queue{})
	nobody := turret.ServiceFunc(func(context.Context, string) (string, error) {
		return "", turret.ErrNotReady // there was no server to send it to
	})
	service := turret.Gated[string, string](bucket, nil)(nobody)
	for range 3 {
		_, err := service.Call(context.Background(), "x")
		fmt.Println(err)
	}
	fmt.Println(bucket.Stats().Tokens)
	// Output:
	// turret: not ready
	// turret: not ready
	// turret: not ready
	// 1
}

// Configuration that comes from outside is checked before it is used; the
// constructors panic.
func ExampleRate_Validate() {
	fmt.Println(limit.Rate{N: 100}.Validate())
	fmt.Println(limit.Queue{Timeout: -time.Second}.Validate())
	// Output:
	// limit: Per is 0s, must be above 0
	// limit: Timeout is -1s, must be at least 0 (0 means no bound)
}
