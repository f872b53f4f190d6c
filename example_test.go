package turret_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// Service and Layer give the type arguments once, as a program does that has one
// kind of request.
type (
	Service = turret.Service[string, string]
	Layer   = turret.Layer[string, string]
)

// announce is a layer that says when a request and its result pass.
func announce(name string) Layer {
	return turret.Wrap(func(ctx context.Context, req string, inner Service) (string, error) {
		fmt.Println("request ->", name)
		res, err := inner.Call(ctx, req)
		fmt.Println("result  <-", name)
		return res, err
	})
}

// The first layer listed is outermost: it sees the request first and the result
// last. A nil layer is skipped, so that a layer can be left out by an if.
func ExampleStack() {
	stack := turret.Stack(announce("a"), nil, announce("b"), announce("c"))
	service := stack(turret.ServiceFunc(func(_ context.Context, req string) (string, error) {
		fmt.Println("          ", req)
		return "pong", nil
	}))
	_, _ = service.Call(context.Background(), "ping")
	// Output:
	// request -> a
	// request -> b
	// request -> c
	//            ping
	// result  <- c
	// result  <- b
	// result  <- a
}

// Most layers embed the inner service and override Call; Ready is forwarded by
// the language.
func ExampleLayer() {
	shout := func(inner Service) Service { return shouting{inner} }
	service := turret.Stack[string, string](shout)(turret.ServiceFunc(
		func(_ context.Context, req string) (string, error) { return "hello " + req, nil }))
	fmt.Println(service.Call(context.Background(), "gopher"))
	// Output:
	// HELLO GOPHER <nil>
}

type shouting struct{ Service }

func (s shouting) Call(ctx context.Context, req string) (string, error) {
	res, err := s.Service.Call(ctx, req)
	return strings.ToUpper(res), err
}

// One Gate may guard several services, whatever their types.
func ExampleGated() {
	places := limit.NewConcurrency(1, limit.Queue{})
	double := turret.Gated[int, int](places, nil)(turret.ServiceFunc(
		func(_ context.Context, n int) (int, error) { return 2 * n, nil }))
	outer := turret.Gated[string, string](places, nil)(turret.ServiceFunc(
		func(ctx context.Context, req string) (string, error) {
			_, err := double.Call(ctx, 21) // the only place is ours
			return req, err
		}))

	fmt.Println(double.Call(context.Background(), 21))
	_, err := outer.Call(context.Background(), "x")
	fmt.Println(err, errors.Is(err, turret.ErrNotReady))
	fmt.Println(outer)
	// Output:
	// 42 <nil>
	// limit: no room true
	// concurrency limit: 0 of 1 in flight, 0 waiting, 2 entered, 1 refused
}

// A Refusal has the layer, the reason, and when to try again.
func ExampleRefusal() {
	bucket := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Hour, Burst: 1}, limit.Queue{})
	service := turret.Gated[string, string](bucket, nil)(turret.ServiceFunc(
		func(_ context.Context, req string) (string, error) { return req, nil }))
	_, _ = service.Call(context.Background(), "first")
	_, err := service.Call(context.Background(), "second")
	if refusal, ok := errors.AsType[*turret.Refusal](err); ok {
		fmt.Println(refusal.Kind, refusal.Layer, refusal.Reason, refusal.RetryAfter > 0)
	}
	fmt.Println(errors.Is(err, limit.ErrRate), errors.Is(err, turret.ErrNotReady))
	// Output:
	// RateLimited limit RATE_LIMITED true
	// true true
}

// ReadyNow is for code that chooses between services.
func ExampleReadyNow() {
	full := turret.Gated[string, string](limit.NewConcurrency(0, limit.Queue{}), nil)(turret.ServiceFunc(
		func(_ context.Context, req string) (string, error) { return req, nil }))
	fmt.Println(turret.ReadyNow(full))
	// Output:
	// turret: not ready
}
