package interceptors_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
)

// Reads may be sent twice, and are if they take long; the retries and hedges of
// both lines together are bounded by one budget, in which the Retry counts the
// RPCs. Here the first server does not answer.
func ExampleHedge() {
	budget := retry.NewBudget(retry.BudgetConfig{Ratio: 0.1})
	stack := interceptors.New(
		interceptors.Observe(func(_ context.Context, e interceptors.Event) {
			if e.Kind == interceptors.EventHedge {
				fmt.Println("event:", e.Kind, e.Attempt)
			}
		}),
		interceptors.Retry(retry.Config{Budget: budget}),
		interceptors.For("/shop.Catalog/*",
			interceptors.Hedge(hedge.Config{Delay: 5 * time.Millisecond, Budget: budget, Counted: true}),
		),
	)

	// In the place of a connection: two servers, of which the first is stuck.
	servers := make(chan int, 2)
	servers <- 1
	servers <- 2
	invoker := func(ctx context.Context, _ string, _, reply any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		server := <-servers
		if server == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		*reply.(*string) = fmt.Sprint("from server ", server)
		return nil
	}

	var reply string
	err := stack.UnaryClient()(context.Background(), "/shop.Catalog/Find", "a hat", &reply, nil, invoker)
	fmt.Println(reply, err)
	// Output:
	// event: hedge 1
	// from server 2 <nil>
}
