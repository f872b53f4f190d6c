package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	failsafetimeout "github.com/failsafe-go/failsafe-go/timeout"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	middlewareretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	middlewaretimeout "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

const (
	rpcMethod = "/package.Service/Method"
	bound     = time.Minute
)

var errGate = errors.New("no room")

// calling returns an RPC through a client interceptor, with nothing in the place
// of the connection.
func calling(ctx context.Context, i grpc.UnaryClientInterceptor) func() {
	req, reply := new(echov1.UnaryRequest), new(echov1.UnaryResponse)
	var invoker grpc.UnaryInvoker = func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	if i == nil {
		return func() { _ = invoker(ctx, rpcMethod, req, reply, nil) }
	}
	return func() { _ = i(ctx, rpcMethod, req, reply, nil, invoker) }
}

// client returns an RPC through layers of a client.
func client(ctx context.Context, layers ...interceptors.Layer) func() {
	return calling(ctx, interceptors.New(layers...).UnaryClient())
}

// server returns an RPC through layers of a server.
func server(ctx context.Context, layers ...interceptors.Layer) func() {
	i, req, info := interceptors.New(layers...).UnaryServer(), any(new(int)), &grpc.UnaryServerInfo{FullMethod: rpcMethod}
	handler := func(_ context.Context, req any) (any, error) { return req, nil }
	return func() { _, _ = i(ctx, req, info, handler) }
}

// chain returns an RPC through gRPC's own chain of n interceptors that pass it
// on. The last one does not, as there is no connection.
func chain(b *testing.B, n int) func() {
	var options []grpc.DialOption
	for range n {
		options = append(options, grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		}))
	}
	options = append(options, grpc.WithChainUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
		return nil
	}), insecurely())
	cc, err := grpc.NewClient("passthrough:///none", options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cc.Close() })
	ctx, req, reply := b.Context(), new(int), new(int)
	return func() { _ = cc.Invoke(ctx, rpcMethod, req, reply) }
}

// nothing is a layer that does nothing.
type nothing struct{ interceptors.Service }

func (s nothing) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return s.Service.Call(ctx, rpc)
}

func pass(inner interceptors.Service) interceptors.Service { return nothing{inner} }

func concurrency() interceptors.Layer { return interceptors.ConcurrencyLimit(places, limit.Queue{}) }

func rateLimit() interceptors.Layer {
	return interceptors.RateLimit(limit.PerSecond(1_000_000_000), limit.Queue{})
}

func fiveLayers(timeout time.Duration) []interceptors.Layer {
	return []interceptors.Layer{
		interceptors.Timeout(timeout), interceptors.LoadShed(), concurrency(), rateLimit(), interceptors.Retry(retry.Config{}),
	}
}

func failsafeFive() []failsafe.Policy[any] {
	return []failsafe.Policy[any]{
		failsafegrpc.NewRetryPolicyBuilder[any]().Build(), circuitbreaker.NewWithDefaults[any](), bulkhead.New[any](places),
		ratelimiter.NewBursty[any](1_000_000_000, time.Second), failsafetimeout.New[any](bound),
	}
}

// withDeadline returns a context with a deadline, and one that is later.
func withDeadline(b *testing.B) context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), bound)
	b.Cleanup(cancel)
	return ctx
}

// BenchmarkUnaryClient is an RPC that succeeds, through layers of a client and
// what others have in their place.
func BenchmarkUnaryClient(b *testing.B) {
	open, ctx := b.Context(), withDeadline(b)
	fs := func(policies ...failsafe.Policy[any]) func() {
		return calling(open, failsafegrpc.NewUnaryClientInterceptor(policies...))
	}
	compare(b,
		row{"a layer that does nothing", client(ctx, pass)},
		row{"eleven of them", client(ctx, pass, pass, pass, pass, pass, pass, pass, pass, pass, pass, pass)},
		row{"no interceptor", calling(ctx, nil)},
		row{"gRPC: chain of 5", chain(b, 5)},
		row{"gRPC: chain of 10", chain(b, 10)},
		row{"failsafegrpc: no policy", fs()},
		row{"concurrency limit", client(ctx, pass, concurrency())},
		row{"failsafegrpc: bulkhead", fs(bulkhead.New[any](places))},
		row{"rate limit", client(ctx, pass, rateLimit())},
		row{"failsafegrpc: rate limiter", fs(ratelimiter.NewBursty[any](1_000_000_000, time.Second))},
		row{"go-grpc-middleware: ratelimit", calling(open, ratelimit.UnaryClientInterceptor(xLimiter{rate.NewLimiter(1e9, 1e9)}))},
		row{"retry", client(ctx, pass, interceptors.Retry(retry.Config{}))},
		row{"failsafegrpc: retry", fs(failsafegrpc.NewRetryPolicyBuilder[any]().Build())},
		row{"go-grpc-middleware: retry", calling(open, middlewareretry.UnaryClientInterceptor(middlewareretry.WithMax(3)))},
		row{"recover", client(ctx, pass, interceptors.Recover())},
		row{"filter", client(ctx, pass, interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, nil }))}, //nolint:nilnil // go on as it is
		row{"concurrency limit, again", client(ctx, pass, concurrency())},
		row{"shed in front of it", client(ctx, pass, interceptors.LoadShed(), concurrency())},
		row{"timeout, earlier deadline", client(ctx, pass, interceptors.Timeout(time.Hour))},
		row{"timeout", client(open, pass, interceptors.Timeout(bound))},
		row{"context.WithTimeout", func() {
			ctx, cancel := context.WithTimeout(open, bound)
			_ = ctx
			cancel()
		}},
		row{"failsafegrpc: timeout", fs(failsafetimeout.New[any](bound))},
		row{"go-grpc-middleware: timeout", calling(open, middlewaretimeout.UnaryClientInterceptor(bound))},
	)
}

// BenchmarkFiveClient is an RPC through timeout, shed, concurrency limit, rate
// limit and retry with a budget, beside failsafe-go's five policies.
func BenchmarkFiveClient(b *testing.B) {
	open, ctx := b.Context(), withDeadline(b)
	compare(b,
		row{"failsafegrpc: five policies", calling(open, failsafegrpc.NewUnaryClientInterceptor(failsafeFive()...))},
		row{"five layers", client(open, fiveLayers(bound)...)},
		row{"five layers, earlier deadline", client(ctx, fiveLayers(time.Hour)...)},
		row{"context.WithTimeout", func() {
			ctx, cancel := context.WithTimeout(open, bound)
			_ = ctx
			cancel()
		}},
	)
}

// BenchmarkUnaryServer is an RPC that succeeds, through layers of a server.
func BenchmarkUnaryServer(b *testing.B) {
	open, ctx := b.Context(), withDeadline(b)
	i, info := failsafegrpc.NewUnaryServerInterceptor(failsafeFive()...), &grpc.UnaryServerInfo{FullMethod: rpcMethod}
	req, handler := any(new(int)), func(_ context.Context, req any) (any, error) { return req, nil }
	compare(b,
		row{"a layer that does nothing", server(ctx, pass)},
		row{"recover, concurrency limit, timeout", server(open, interceptors.Recover(), concurrency(), interceptors.Timeout(bound))},
		row{"the same, earlier deadline", server(ctx, interceptors.Recover(), concurrency(), interceptors.Timeout(time.Hour))},
		row{"five layers", server(open, fiveLayers(bound)...)},
		row{"failsafegrpc: five policies", func() { _, _ = i(open, req, info, handler) }},
	)
}

// BenchmarkRefusal is an RPC that is refused, with the status and the details
// that the caller gets.
func BenchmarkRefusal(b *testing.B) {
	ctx := withDeadline(b)
	refusing := func(after time.Duration) interceptors.Layer {
		return interceptors.Admit(closed{&turret.Refusal{Layer: "gate", Reason: "CLOSED", RetryAfter: after, Err: errGate}})
	}
	full := bulkhead.New[any](1)
	full.TryAcquirePermit()
	compare(b,
		row{"a layer that does nothing", client(ctx, pass)},
		row{"refusal", client(ctx, refusing(0))},
		row{"refusal with RetryInfo", client(ctx, refusing(time.Second))},
		row{"concurrency limit", client(ctx, interceptors.ConcurrencyLimit(0, limit.Queue{}))},
		row{"rate limit", client(ctx, interceptors.RateLimit(limit.Rate{N: 1, Per: 1000 * time.Hour}, limit.Queue{}))},
		row{"failsafegrpc: bulkhead", calling(ctx, failsafegrpc.NewUnaryClientInterceptor[any](full))},
		row{"go-grpc-middleware: ratelimit", calling(ctx, ratelimit.UnaryClientInterceptor(xLimiter{rate.NewLimiter(0, 0)}))},
		row{"context.WithTimeout", func() {
			_, cancel := context.WithTimeout(ctx, time.Second)
			cancel()
		}},
	)
}

// closed is a gate that turns everybody away.
type closed struct{ refusal *turret.Refusal }

func (g closed) Ready(context.Context) error                         { return g.refusal }
func (g closed) Enter(context.Context) (turret.Ticket, error)        { return turret.Ticket{}, g.refusal }
func (g closed) TryEnter(context.Context) (t turret.Ticket, _ error) { return t, g.refusal }
func (g closed) Leave(turret.Ticket, turret.Outcome)                 {}

// xLimiter is x/time's limiter for go-grpc-middleware, which brings none.
type xLimiter struct{ *rate.Limiter }

func (l xLimiter) Limit(context.Context) error {
	if !l.Allow() {
		return errGate
	}
	return nil
}
