package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	failsafetimeout "github.com/failsafe-go/failsafe-go/timeout"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	middlewareretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	middlewaretimeout "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/bench/measure"
)

const rpcMethod = "/package.Service/Method"

var errGate = errors.New("no room")

// calling returns an RPC through a client interceptor, with nothing in the place
// of the connection.
func calling(ctx context.Context, i grpc.UnaryClientInterceptor) func() {
	return callingMethods(ctx, i, nothing, rpcMethod)
}

func nothing(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
	return nil
}

// callingMethods is calling for several methods, in turns. It is for one
// goroutine unless there is one method.
func callingMethods(ctx context.Context, i grpc.UnaryClientInterceptor, invoker grpc.UnaryInvoker, methods ...string) func() {
	req, reply := new(echov1.UnaryRequest), new(echov1.UnaryResponse)
	if i == nil {
		return func() { _ = invoker(ctx, methods[0], req, reply, nil) }
	}
	if len(methods) == 1 {
		return func() { _ = i(ctx, methods[0], req, reply, nil, invoker) }
	}
	next := 0
	return func() {
		if next++; next >= len(methods) {
			next = 0
		}
		_ = i(ctx, methods[next], req, reply, nil, invoker)
	}
}

// client returns an RPC through layers of a client.
func client(ctx context.Context, layers ...interceptors.Layer) func() {
	return calling(ctx, interceptors.New(layers...).UnaryClient())
}

// handling returns an RPC through a server interceptor, to a handler that costs
// nothing.
func handling(ctx context.Context, i grpc.UnaryServerInterceptor) func() {
	req, info := any(new(int)), &grpc.UnaryServerInfo{FullMethod: rpcMethod}
	handler := func(_ context.Context, req any) (any, error) { return req, nil }
	if i == nil {
		return func() { _, _ = handler(ctx, req) }
	}
	return func() { _, _ = i(ctx, req, info, handler) }
}

// server returns an RPC through layers of a server.
func server(ctx context.Context, layers ...interceptors.Layer) func() {
	return handling(ctx, interceptors.New(layers...).UnaryServer())
}

// passing does nothing, as a layer.
type passing struct{ interceptors.Service }

func (s passing) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return s.Service.Call(ctx, rpc)
}

func pass(inner interceptors.Service) interceptors.Service { return passing{inner} }

func concurrency() interceptors.Layer { return interceptors.ConcurrencyLimit(places, limit.Queue{}) }

func rateLimit() interceptors.Layer {
	return interceptors.RateLimit(limit.PerSecond(often), limit.Queue{})
}

// fiveLayers are the layers of the comparison with failsafe-go.
func fiveLayers(timeout time.Duration) []interceptors.Layer {
	return []interceptors.Layer{
		interceptors.Timeout(timeout), interceptors.LoadShed(), concurrency(), rateLimit(), interceptors.Retry(retry.Config{}),
	}
}

func failsafeFive() []failsafe.Policy[any] {
	return []failsafe.Policy[any]{
		failsafegrpc.NewRetryPolicyBuilder[any]().Build(), circuitbreaker.NewWithDefaults[any](), bulkhead.New[any](places),
		ratelimiter.NewBursty[any](often, time.Second), failsafetimeout.New[any](bound),
	}
}

// failing returns an RPC of a client through failsafe-go's policies.
func failsafeClient(ctx context.Context, policies ...failsafe.Policy[any]) func() {
	return calling(ctx, failsafegrpc.NewUnaryClientInterceptor(policies...))
}

// BenchmarkUnaryClient is an RPC that succeeds, through one layer of a client
// and what others have in its place.
func BenchmarkUnaryClient(b *testing.B) {
	open, ctx := b.Context(), deadline(b, bound/2)
	idle := measure.Row{Name: "Turret: a layer that does nothing", F: client(ctx, pass)}
	for _, group := range []struct {
		name string
		rows []measure.Row
	}{
		{"nothing", []measure.Row{
			idle,
			{Name: "Turret: 11 of them", F: client(ctx, slices.Repeat([]interceptors.Layer{pass}, 11)...)},
			{Name: "no interceptor", F: calling(ctx, nil)},
			{Name: "gRPC: chain of 5", F: chain(b, 5)},
			{Name: "gRPC: chain of 10", F: chain(b, 10)},
			{Name: "failsafegrpc: no policy", F: failsafeClient(open)},
		}},
		{"timeout", []measure.Row{
			{Name: "Turret", F: client(open, interceptors.Timeout(bound))},
			idle,
			{Name: "context.WithTimeout", F: withTimeout(open)},
			{Name: "failsafegrpc", F: failsafeClient(open, failsafetimeout.New[any](bound))},
			{Name: "go-grpc-middleware", F: calling(open, middlewaretimeout.UnaryClientInterceptor(bound))},
		}},
		{"timeout, earlier deadline", []measure.Row{
			{Name: "Turret", F: client(ctx, interceptors.Timeout(bound))},
			idle,
			{Name: "Turret, behind a layer that does nothing", F: client(ctx, pass, interceptors.Timeout(bound))},
			{Name: "failsafegrpc", F: failsafeClient(ctx, failsafetimeout.New[any](bound))},
			{Name: "go-grpc-middleware", F: calling(ctx, middlewaretimeout.UnaryClientInterceptor(bound))},
		}},
		{"retry", []measure.Row{
			{Name: "Turret", F: client(ctx, interceptors.Retry(retry.Config{}))},
			idle,
			{Name: "failsafegrpc", F: failsafeClient(open, failsafegrpc.NewRetryPolicyBuilder[any]().Build())},
			{Name: "go-grpc-middleware", F: calling(open, middlewareretry.UnaryClientInterceptor(middlewareretry.WithMax(3)))},
		}},
		{"hedge", []measure.Row{
			{Name: "Turret, fixed delay", F: client(open, interceptors.Hedge(hedge.Config{Delay: bound}))},
			idle,
			{Name: "Turret, quantile", F: client(open, interceptors.Hedge(hedge.Config{MinDelay: bound}))},
			{Name: "failsafegrpc, fixed delay", F: failsafeClient(open, hedgepolicy.NewWithDelay[any](bound))},
		}},
		{"concurrency limit", []measure.Row{
			{Name: "Turret", F: client(ctx, concurrency())},
			idle,
			{Name: "failsafegrpc: bulkhead", F: failsafeClient(open, bulkhead.New[any](places))},
			{Name: "failsafegrpc: adaptive limiter", F: failsafeClient(open, adaptivelimiter.NewWithDefaults[any]())},
		}},
		{"rate limit", []measure.Row{
			{Name: "Turret", F: client(ctx, rateLimit())},
			idle,
			{Name: "failsafegrpc", F: failsafeClient(open, ratelimiter.NewBursty[any](often, time.Second))},
			{Name: "go-grpc-middleware, over x/time", F: calling(open, ratelimit.UnaryClientInterceptor(xLimiter{rate.NewLimiter(often, often)}))},
		}},
		{"circuit breaker", []measure.Row{
			{Name: "Turret", F: client(ctx, interceptors.Breaker(breaker.Config{}))},
			idle,
			{Name: "failsafegrpc", F: failsafeClient(open, circuitbreaker.NewWithDefaults[any]())},
		}},
		{"recover and filter", []measure.Row{
			{Name: "Turret: recover", F: client(ctx, interceptors.Recover())},
			idle,
			{Name: "Turret: filter", F: client(ctx, interceptors.Filter(func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) { return ctx, nil }))},
		}},
		{"load shedder", []measure.Row{
			{Name: "Turret: in front of a concurrency limit", F: client(ctx, interceptors.LoadShed(), concurrency())},
			{Name: "Turret: a layer that does nothing in its place", F: client(ctx, pass, concurrency())},
		}},
		{"logging", []measure.Row{
			{Name: "Turret: the layer that the README writes", F: client(ctx, logged)},
			{Name: "go-grpc-middleware, the end of an RPC", F: calling(open, logging.UnaryClientInterceptor(discarding(), logging.WithLogOnEvents(logging.FinishCall)))},
			{Name: "go-grpc-middleware, its default", F: calling(open, logging.UnaryClientInterceptor(discarding()))},
		}},
	} {
		b.Run(group.name, func(b *testing.B) { measure.Compare(b, group.rows...) })
	}
}

// logger formats lines and discards them.
var logger = slog.New(slog.NewTextHandler(io.Discard, nil))

func discarding() logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, text string, fields ...any) {
		logger.Log(ctx, slog.Level(level), text, fields...)
	})
}

// logging is a layer as the README shows how to write one.
type latency struct{ interceptors.Service }

func (l latency) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	start := time.Now()
	reply, err := l.Service.Call(ctx, rpc)
	logger.InfoContext(ctx, "rpc", "method", rpc.Method, "kind", rpc.Kind, "took", time.Since(start), "code", interceptors.Code(err))
	return reply, err
}

func logged(inner interceptors.Service) interceptors.Service { return latency{inner} }

// BenchmarkFive is an RPC of a client through timeout, shed, concurrency limit,
// rate limit and retry with a budget, beside failsafe-go's five policies.
func BenchmarkFive(b *testing.B) {
	open, ctx := b.Context(), deadline(b, bound/2)
	b.Run("with a timer", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: five layers", F: client(open, fiveLayers(bound)...)},
			measure.Row{Name: "failsafegrpc: five policies", F: failsafeClient(open, failsafeFive()...)},
			measure.Row{Name: "context.WithTimeout", F: withTimeout(open)},
		)
	})
	b.Run("earlier deadline", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: five layers", F: client(ctx, fiveLayers(bound)...)},
			measure.Row{Name: "Turret: a layer that does nothing", F: client(ctx, pass)},
			measure.Row{Name: "failsafegrpc: five policies", F: failsafeClient(ctx, failsafeFive()...)},
			measure.Row{Name: "context.WithTimeout", F: withTimeout(open)},
		)
	})
}

// BenchmarkUnaryServer is an RPC that succeeds, through layers of a server.
func BenchmarkUnaryServer(b *testing.B) {
	open, ctx := b.Context(), deadline(b, bound/2)
	b.Run("nothing", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: a layer that does nothing", F: server(ctx, pass)},
			measure.Row{Name: "no interceptor", F: handling(ctx, nil)},
			measure.Row{Name: "gRPC: chain of 5", F: serverChain(b, 5)},
			measure.Row{Name: "gRPC: chain of 10", F: serverChain(b, 10)},
			measure.Row{Name: "failsafegrpc: no policy", F: handling(open, failsafegrpc.NewUnaryServerInterceptor[any]())},
		)
	})
	b.Run("recover, concurrency limit, timeout", func(b *testing.B) {
		layers := []interceptors.Layer{interceptors.Recover(), concurrency(), interceptors.Timeout(bound)}
		measure.Compare(b,
			measure.Row{Name: "Turret", F: server(open, layers...)},
			measure.Row{Name: "Turret, earlier deadline", F: server(ctx, layers...)},
			measure.Row{Name: "failsafegrpc: bulkhead and timeout", F: handling(open, failsafegrpc.NewUnaryServerInterceptor[any](bulkhead.New[any](places), failsafetimeout.New[any](bound)))},
		)
	})
	b.Run("five", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: five layers", F: server(open, fiveLayers(bound)...)},
			measure.Row{Name: "failsafegrpc: five policies", F: handling(open, failsafegrpc.NewUnaryServerInterceptor(failsafeFive()...))},
		)
	})
}

// BenchmarkRefusal is an RPC that is refused, with the status and the details
// that the caller gets.
func BenchmarkRefusal(b *testing.B) {
	ctx := deadline(b, bound/2)
	const day = 24 * time.Hour
	refusing := func(after time.Duration) func() {
		return client(ctx, interceptors.Admit(closed{&turret.Refusal{Layer: "gate", Reason: "CLOSED", RetryAfter: after, Err: errGate}}))
	}
	full, used, bucket := bulkhead.New[any](1), ratelimiter.NewBursty[any](1, day), interceptors.RateLimit(limit.Rate{N: 1, Per: day}, limit.Queue{})
	full.TryAcquirePermit()
	used.TryAcquirePermit()
	empty := client(ctx, bucket)
	empty()
	b.Run("with a status", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: a gate", F: refusing(0)},
			measure.Row{Name: "Turret: concurrency limit", F: client(ctx, interceptors.ConcurrencyLimit(0, limit.Queue{}))},
			measure.Row{Name: "failsafegrpc: bulkhead (no status)", F: failsafeClient(ctx, full)},
			measure.Row{Name: "go-grpc-middleware: ratelimit (no details)", F: calling(ctx, ratelimit.UnaryClientInterceptor(xLimiter{rate.NewLimiter(0, 0)}))},
		)
	})
	b.Run("with RetryInfo", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: a gate", F: refusing(time.Second)},
			measure.Row{Name: "Turret: rate limit", F: empty},
			measure.Row{Name: "gRPC: status.WithDetails alone", F: withDetails(b)},
			measure.Row{Name: "failsafegrpc: rate limiter (no status)", F: failsafeClient(ctx, used)},
		)
	})
}

// withDetails adds a RetryInfo to a status that is there, and does nothing else.
func withDetails(b *testing.B) func() {
	st, err := status.New(codes.ResourceExhausted, errGate.Error()).WithDetails(&errdetails.ErrorInfo{Domain: interceptors.Domain, Reason: "CLOSED"})
	if err != nil {
		b.Fatal(err)
	}
	info := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}
	return func() { sink, _ = st.WithDetails(info) }
}

// closed is a gate that refuses every call.
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
