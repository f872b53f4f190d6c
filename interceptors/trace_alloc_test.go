package interceptors

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/trace"
)

// TestTraceAllocations holds what a Trace layer costs where nothing is
// recorded: beyond a stack whose layer does nothing, at most ten allocations.
func TestTraceAllocations(t *testing.T) {
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	for _, provider := range []struct {
		name string
		oteltrace.TracerProvider
	}{{"no-op", noop.NewTracerProvider()}, {"not sampled", never}} {
		layer := Trace(trace.Config{TracerProvider: provider, Propagator: propagation.TraceContext{}})
		t.Run(provider.name+"/client", func(t *testing.T) {
			atMost(t, 10, clientCall(New(pass)), clientCall(New(layer)))
		})
		t.Run(provider.name+"/server", func(t *testing.T) {
			atMost(t, 10, serverCall(New(pass)), serverCall(New(layer)))
		})
	}
}

// pass is a layer that does nothing.
func pass(inner Service) Service { return &passService{inner} }

type passService struct{ Service }

// atMost fails the test if call allocates more than extra times as often as
// plain.
func atMost(t *testing.T, extra float64, plain, call func()) {
	t.Helper()
	was, is := testing.AllocsPerRun(100, plain), testing.AllocsPerRun(100, call)
	t.Logf("%v allocations more", is-was)
	if is-was > extra {
		t.Errorf("%v allocations more than a layer that does nothing, want at most %v", is-was, extra)
	}
}

func clientCall(s *Stack) func() {
	unary, reply := s.UnaryClient(), new(int)
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	ctx := context.Background()
	return func() { _ = unary(ctx, "/package.Service/Method", nil, reply, nil, invoker) }
}

func serverCall(s *Stack) func() {
	unary, info := s.UnaryServer(), &grpc.UnaryServerInfo{FullMethod: "/package.Service/Method"}
	handler := func(_ context.Context, req any) (any, error) { return req, nil }
	ctx := metadata.NewIncomingContext(context.Background(),
		metadata.Pairs("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"))
	return func() { _, _ = unary(ctx, 1, info, handler) }
}

func BenchmarkTrace(b *testing.B) {
	layer := Trace(trace.Config{TracerProvider: noop.NewTracerProvider(), Propagator: propagation.TraceContext{}})
	for _, side := range []struct {
		name string
		call func()
	}{{"client", clientCall(New(layer))}, {"server", serverCall(New(layer))}} {
		b.Run(side.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				side.call()
			}
		})
	}
}
