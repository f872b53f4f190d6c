package ready_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/ready"
)

type Service = turret.Service[string, string]

// named is a service that answers with its name, and connects when it is asked
// whether it is ready.
func named(name string, connect func(ctx context.Context) error) Service {
	return connecting{turret.ServiceFunc(func(context.Context, string) (string, error) { return name, nil }), connect}
}

type connecting struct {
	Service

	connect func(ctx context.Context) error
}

func (c connecting) Ready(ctx context.Context) error { return c.connect(ctx) }

// The services of a list: one is ready, one never connects, one is refused.
func ExampleCache() {
	connected := func(context.Context) error { return nil }
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	refused := func(context.Context) error { return errors.New("connection refused") }

	dropped := make(chan string, 1)
	cache := ready.NewCache(func(key int, _ Service, err error) {
		if err != nil {
			dropped <- fmt.Sprintf("%d: %v", key, err)
		}
	})
	defer cache.Close()
	source := discover.List(named("a", silent), named("b", connected), named("c", refused))
	if err := cache.Follow(context.Background(), source); err != nil {
		fmt.Println(err)
	}

	fmt.Println(<-dropped)
	fmt.Println(cache.Ready(context.Background()))
	for _, m := range cache.Members() {
		if cache.Check(m) {
			fmt.Println(m.Service.Call(context.Background(), "who are you?"))
		}
	}
	// Output:
	// 2: connection refused
	// <nil>
	// b <nil>
}

// The service connects before the first call.
func ExampleSpawn() {
	connected := make(chan struct{})
	inner := named("a", func(context.Context) error {
		select {
		case <-connected:
		default:
			close(connected)
		}
		return nil
	})
	service := ready.Spawn(inner)
	defer service.Close()
	<-connected
	fmt.Println(service.Call(context.Background(), "who are you?"))
	// Output:
	// a <nil>
}
