package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/test/bench/measure"
)

// grow measures rows at sizes.
func grow(b *testing.B, sizes []int, rows func(b *testing.B, n int) []measure.Row) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) { measure.Compare(b, rows(b, n)...) })
	}
}

// BenchmarkLayers is a unary RPC of a client by the number of layers.
func BenchmarkLayers(b *testing.B) {
	grow(b, []int{1, 2, 4, 8, 16}, func(b *testing.B, n int) []measure.Row {
		ctx := b.Context()
		var limits []interceptors.Layer
		var bulkheads []failsafe.Policy[any]
		for range n {
			limits, bulkheads = append(limits, concurrency()), append(bulkheads, bulkhead.New[any](places))
		}
		return []measure.Row{
			{Name: "Turret: layers that do nothing", F: client(ctx, slices.Repeat([]interceptors.Layer{pass}, n)...)},
			{Name: "gRPC: chain", F: chain(b, n)},
			{Name: "Turret: concurrency limits", F: client(ctx, limits...)},
			{Name: "failsafegrpc: bulkheads", F: failsafeClient(ctx, bulkheads...)},
		}
	})
}

// yield stands for a connection: others run meanwhile.
func yield(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
	runtime.Gosched()
	return nil
}

// BenchmarkConcurrent is a unary RPC by the number of RPCs at the same time:
// over a connection that does nothing but let others run, and over loopback.
func BenchmarkConcurrent(b *testing.B) {
	at := []int{1, 10, 100, 1000}
	b.Run("client", func(b *testing.B) {
		grow(b, at, func(b *testing.B, n int) []measure.Row {
			ctx := deadline(b, time.Hour)
			return []measure.Row{
				{Name: "Turret: five layers", F: callingMethods(ctx, interceptors.New(fiveLayers(2*time.Hour)...).UnaryClient(), yield, rpcMethod), Goroutines: n},
				{Name: "failsafegrpc: five policies", F: callingMethods(ctx, failsafegrpc.NewUnaryClientInterceptor(failsafeFive()...), yield, rpcMethod), Goroutines: n},
				{Name: "no interceptor", F: callingMethods(ctx, nil, yield, rpcMethod), Goroutines: n},
			}
		})
	})
	b.Run("loopback", func(b *testing.B) {
		grow(b, at, func(b *testing.B, n int) []measure.Row {
			ctx := deadline(b, time.Hour)
			return []measure.Row{
				{Name: "Turret: five layers on both sides", F: unary(ctx, b, fiveSide(2*time.Hour)), Goroutines: n},
				{Name: "failsafegrpc: five policies on both sides", F: unary(ctx, b, failsafeSide()), Goroutines: n},
				{Name: "bare", F: unary(ctx, b, side{}), Goroutines: n},
			}
		})
	})
}

// BenchmarkMessages is a stream by the number of its messages: there and back,
// and sent while nothing comes back, which Retry keeps up to its limit.
func BenchmarkMessages(b *testing.B) {
	at := []int{1, 10, 100, 1000, 10_000}
	b.Run("there and back", func(b *testing.B) {
		grow(b, at, func(b *testing.B, n int) []measure.Row { return streams(b, retried(), n, n) })
	})
	b.Run("sent", func(b *testing.B) {
		grow(b, at, func(b *testing.B, n int) []measure.Row { return streams(b, retried(), n, 0) })
	})
}

// BenchmarkMethods is a unary RPC of a client by the number of methods that are
// called: behind one For, and behind a For for each of them.
func BenchmarkMethods(b *testing.B) {
	grow(b, []int{1, 10, 100, 1000, 10_000}, func(b *testing.B, n int) []measure.Row {
		ctx := b.Context()
		methods, each := make([]string, n), make([]interceptors.Layer, n)
		for i := range methods {
			methods[i] = fmt.Sprintf("/package.Service/Method%d", i)
			each[i] = interceptors.For(methods[i], pass)
		}
		through := func(layers ...interceptors.Layer) func() {
			return callingMethods(ctx, interceptors.New(layers...).UnaryClient(), nothing, methods...)
		}
		match := selector.MatchFunc(func(_ context.Context, c middleware.CallMeta) bool { return c.Service == "package.Service" })
		return []measure.Row{
			{Name: "Turret: one For for all", F: through(interceptors.For("/package.Service/*", pass))},
			{Name: "Turret: a layer without For", F: through(pass)},
			{Name: "Turret: a For for each", F: through(each...)},
			{Name: "go-grpc-middleware: selector", F: callingMethods(ctx, selector.UnaryClientInterceptor(passOn, match), nothing, methods...)},
		}
	})
}
