package drain_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/turret-go/turret/drain"
	"github.com/turret-go/turret/interceptors"
)

func ExampleDrainer_Drain() {
	readiness := health.NewServer()
	drainer := drain.New(drain.Config{
		Health:   readiness,
		LameDuck: time.Millisecond, // 5 s where a load balancer must learn of it
		OnPhase:  func(p drain.Phase, left drain.Left) { fmt.Println(p, left.Unary, left.Streams) },
	})
	server := grpc.NewServer(interceptors.New(drainer.Layer()).ServerOptions()...)
	healthpb.RegisterHealthServer(server, readiness)

	// A program that runs until SIGTERM calls drain.OnSignal.
	report := drainer.Drain(context.Background(), server)
	fmt.Println("cut:", report.Cut.Streams)
	// Output:
	// LameDuck 0 0
	// Stopping 0 0
	// Stopped 0 0
	// cut: 0
}

func ExampleNotice() {
	// A handler of a stream that ends when the server wants to stop.
	subscribe := func(ctx context.Context, news <-chan string, send func(string) error) error {
		for {
			select {
			case <-drain.Notice(ctx):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case text, open := <-news:
				if !open {
					return nil
				}
				if err := send(text); err != nil {
					return err
				}
			}
		}
	}
	news := make(chan string, 1)
	news <- "hello"
	close(news)
	fmt.Println(subscribe(context.Background(), news, func(text string) error {
		fmt.Println(text)
		return nil
	}))
	// Output:
	// hello
	// <nil>
}
