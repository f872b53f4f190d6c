package throttle_test

import (
	"context"
	"fmt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/throttle"
)

func ExampleNew() {
	client := turret.Gated[string, string](throttle.New(throttle.Config{}), nil)(
		turret.ServiceFunc(func(_ context.Context, name string) (string, error) { return "hello, " + name, nil }))
	fmt.Println(client.Call(context.Background(), "world"))
	// Output: hello, world <nil>
}
