package fault_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/fault"
)

func ExampleInjector() {
	injector := fault.New()
	greet := fault.Layer[string, string](injector)(
		turret.ServiceFunc(func(_ context.Context, name string) (string, error) { return "hello, " + name, nil }))

	fmt.Println(greet.Call(context.Background(), "world"))
	if err := injector.Set(fault.Rule{ErrShare: 1, Err: errors.New("the disk is full")}, 10*time.Minute); err != nil {
		fmt.Println(err)
	}
	fmt.Println(greet.Call(context.Background(), "world"))
	injector.Clear()
	fmt.Println(greet.Call(context.Background(), "world"))
	// Output:
	// hello, world <nil>
	//  the disk is full
	// hello, world <nil>
}
