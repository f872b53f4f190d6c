package adaptive_test

import (
	"context"
	"fmt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
)

func ExampleNew() {
	gate := adaptive.New(adaptive.Config{})
	layer := turret.Gated[string, string](gate, nil)
	service := layer(turret.ServiceFunc(func(_ context.Context, name string) (string, error) {
		return "hello, " + name, nil
	}))

	fmt.Println(service.Call(context.Background(), "world"))
	fmt.Println(gate.Stats().Limit, "may be inside")
	// Output:
	// hello, world <nil>
	// 20 may be inside
}
