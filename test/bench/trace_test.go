package bench

import (
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/test/bench/measure"
	"github.com/turret-go/turret/trace"
)

var (
	noSpans    oteltrace.TracerProvider = noop.NewTracerProvider()
	notSampled oteltrace.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	recording  oteltrace.TracerProvider = sdktrace.NewTracerProvider()
)

// otel is OpenTelemetry's own instrumentation of both sides: stats handlers.
func otel(p oteltrace.TracerProvider) side {
	options := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(p), otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()), otelgrpc.WithPropagators(propagation.TraceContext{}),
	}
	return side{
		dial:   []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(options...))},
		server: []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(options...))},
	}
}

func tracing(p oteltrace.TracerProvider) side {
	ours := interceptors.New(interceptors.Trace(trace.Config{TracerProvider: p, Propagator: propagation.TraceContext{}}))
	return stacks(ours, ours)
}

// BenchmarkTrace is a unary RPC with a span: alone, and an echo of 100 bytes over
// loopback, where OpenTelemetry's own is beside it, on the client, the server,
// and both. There a span that is propagated also costs gRPC a header.
func BenchmarkTrace(b *testing.B) {
	ctx := deadline(b, time.Hour)
	for _, p := range []struct {
		name     string
		provider oteltrace.TracerProvider
	}{{"no-op provider", noSpans}, {"not sampled", notSampled}, {"recorded", recording}} {
		b.Run(p.name+", without a connection", func(b *testing.B) {
			incoming := metadata.NewIncomingContext(ctx, metadata.Pairs("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"))
			ours := interceptors.Trace(trace.Config{TracerProvider: p.provider, Propagator: propagation.TraceContext{}})
			measure.Compare(b,
				measure.Row{Name: "Turret, on the client", F: client(ctx, ours)},
				measure.Row{Name: "Turret: a layer that does nothing, on the client", F: client(ctx, pass)},
				measure.Row{Name: "Turret, on the server", F: server(incoming, ours)},
				measure.Row{Name: "Turret: a layer that does nothing, on the server", F: server(incoming, pass)},
			)
		})
		b.Run(p.name, onOne(func(b *testing.B) {
			ours, theirs := tracing(p.provider), otel(p.provider)
			one := interceptors.New(pass)
			measure.Compare(b,
				measure.Row{Name: "bare", F: unary(ctx, b, side{})},
				measure.Row{Name: "Turret: a layer that does nothing, on the client", F: unary(ctx, b, stacks(one, nil))},
				measure.Row{Name: "Turret, on the client", F: unary(ctx, b, side{dial: ours.dial})},
				measure.Row{Name: "otelgrpc, on the client", F: unary(ctx, b, side{dial: theirs.dial})},
				measure.Row{Name: "Turret: a layer that does nothing, on the server", F: unary(ctx, b, stacks(nil, one))},
				measure.Row{Name: "Turret, on the server", F: unary(ctx, b, side{server: ours.server})},
				measure.Row{Name: "otelgrpc, on the server", F: unary(ctx, b, side{server: theirs.server})},
				measure.Row{Name: "Turret, on both", F: unary(ctx, b, ours)},
				measure.Row{Name: "otelgrpc, on both", F: unary(ctx, b, theirs)},
			)
		}))
	}
}
