package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// The same kind of stack on both sides of a connection.
func Example() {
	server := grpc.NewServer(interceptors.New(
		interceptors.Recover(),
		interceptors.ConcurrencyLimit(100, limit.Queue{Max: 50, Timeout: time.Second}),
		interceptors.Timeout(30*time.Second),
	).ServerOptions()...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // an example
	if err != nil {
		fmt.Println(err)
		return
	}
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	defer server.Stop()

	stack := interceptors.New(
		interceptors.Timeout(time.Minute),
		interceptors.Retry(retry.Config{}),
		interceptors.RateLimit(limit.Rate{N: 1, Per: time.Hour}, limit.Queue{}),
	)
	conn, err := grpc.NewClient(listener.Addr().String(), append(stack.DialOptions(),
		grpc.WithDisableRetry(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	client := healthpb.NewHealthClient(conn)
	reply, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(reply.GetStatus(), err)
	_, err = client.Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(status.Code(err), errors.Is(err, turret.ErrNotReady), errors.Is(err, limit.ErrRate))
	// Output:
	// SERVING <nil>
	// ResourceExhausted true true
}

// says is a layer that prints when an RPC passes it.
func says(name string) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		fmt.Println("->", name)
		reply, err := inner.Call(ctx, rpc)
		fmt.Println("<-", name)
		return reply, err
	})
}

// The first layer listed is outermost: it sees an RPC first and its result
// last. A layer in For is between what is listed before and after the For.
func Example_order() {
	stack := interceptors.New(
		says("a"),
		interceptors.For("/shop.Carts/*", says("b"), says("c")),
		says("d"),
	)
	call := stack.UnaryServer()
	handler := func(context.Context, any) (any, error) {
		fmt.Println("handler")
		return "reply", nil
	}
	for _, method := range []string{"/shop.Carts/Add", "/shop.Users/Get"} {
		fmt.Println(method)
		if _, err := call(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: method}, handler); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// /shop.Carts/Add
	// -> a
	// -> b
	// -> c
	// -> d
	// handler
	// <- d
	// <- c
	// <- b
	// <- a
	// /shop.Users/Get
	// -> a
	// -> d
	// handler
	// <- d
	// <- a
}

// A stack prints its layers in their order, with their names and with what
// their gates count.
func ExampleStack_String() {
	stack := interceptors.New(
		interceptors.Recover(),
		interceptors.Timeout(2*time.Second),
		interceptors.For("/shop.Carts/*",
			interceptors.Named("carts", interceptors.ConcurrencyLimit(10, limit.Queue{Max: 5})),
		),
		interceptors.RateLimit(limit.PerSecond(100), limit.Queue{}),
	)
	fmt.Println(stack)
	// Output:
	// recover
	// timeout 2s
	// for /shop.Carts/*
	//   carts: concurrency limit: 0 of 10 in flight, 0 waiting, 0 entered, 0 refused
	// rate limit 100 per 1s, burst 100: 100 tokens, 0 waiting, 0 entered, 0 refused
}

// Of two limits in a stack, a name tells which one refused.
func ExampleNamed() {
	stack := interceptors.New(
		interceptors.Named("everybody", interceptors.ConcurrencyLimit(100, limit.Queue{})),
		interceptors.For("/shop.Carts/*", interceptors.Named("carts", interceptors.ConcurrencyLimit(0, limit.Queue{}))),
	)
	_, err := stack.UnaryServer()(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/shop.Carts/Add"}, nil)
	fmt.Println(err)
	refusal, _ := errors.AsType[*turret.Refusal](err)
	fmt.Println(refusal.Layer, refusal.Reason)
	// Output:
	// rpc error: code = ResourceExhausted desc = carts: no room
	// carts LIMIT_FULL
}

// Observe is the place for metrics and logs.
func ExampleObserve() {
	stack := interceptors.New(
		interceptors.Observe(func(_ context.Context, e interceptors.Event) {
			if e.Kind == interceptors.EventEnd {
				fmt.Println(e.Kind, e.Code, e.Outcome)
				return
			}
			fmt.Println(e.Kind, e.Layer, e.Reason, e.Attempt, e.Delay)
		}),
		interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: retry.Backoff{Base: time.Millisecond, Jitter: -1}}),
	)
	down := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.Unavailable, "down")
	}
	err := stack.UnaryClient()(context.Background(), "/shop.Carts/Add", nil, nil, nil, down)
	fmt.Println(err)
	// Output:
	// retry retry UNAVAILABLE 1 1ms
	// end Unavailable Failure
	// rpc error: code = Unavailable desc = down
}

// Code and Status say inside a stack what an error will be outside of it.
func ExampleCode() {
	counted := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		reply, err := inner.Call(ctx, rpc)
		fmt.Println(rpc.Method, interceptors.Code(err))
		return reply, err
	})
	stack := interceptors.New(counted, interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) {
		return nil, errors.New("no name")
	}))
	_, err := stack.UnaryServer()(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/shop.Carts/Add"}, nil)
	fmt.Println(err)
	// Output:
	// /shop.Carts/Add PermissionDenied
	// rpc error: code = PermissionDenied desc = no name
}
