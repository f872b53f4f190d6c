package bench

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/stats/opentelemetry"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/fault"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/metrics"
	"github.com/turret-go/turret/statusz"
	"github.com/turret-go/turret/test/bench/measure"
)

// meters returns a MeterProvider of OpenTelemetry's SDK that nothing collects from.
func meters() *sdkmetric.MeterProvider {
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
}

func metered(p metric.MeterProvider) interceptors.Layer {
	return interceptors.Metrics(metrics.New(metrics.Config{MeterProvider: p}))
}

// recorded returns one recording of a duration with attributes that are made
// beforehand: the least that a layer with durations can cost.
func recorded(ctx context.Context, b *testing.B, p metric.MeterProvider) func() {
	b.Helper()
	h, err := p.Meter("bench").Float64Histogram("duration")
	if err != nil {
		b.Fatal(err)
	}
	attributes := attribute.NewSet(semconv.RPCMethod("turret.bench/Unary"), semconv.RPCResponseStatusCode("OK"))
	options := []metric.RecordOption{metric.WithAttributeSet(attributes)}
	return func() { h.Record(ctx, 0.001, options...) }
}

// otelMetrics is OpenTelemetry's own instrumentation, without spans.
func otelMetrics(p metric.MeterProvider) []otelgrpc.Option {
	return []otelgrpc.Option{otelgrpc.WithTracerProvider(noSpans), otelgrpc.WithMeterProvider(p)}
}

// handled returns the calls that gRPC makes to a client's stats handler for one
// unary RPC.
func handled(ctx context.Context, h stats.Handler) func() {
	start := time.Now()
	message := make([]byte, 100)
	return func() {
		ctx := h.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: rpcMethod})
		h.HandleRPC(ctx, &stats.Begin{Client: true, BeginTime: start})
		h.HandleRPC(ctx, &stats.OutHeader{Client: true, FullMethod: rpcMethod})
		h.HandleRPC(ctx, &stats.OutPayload{Client: true, Payload: message, Length: len(message), SentTime: start})
		h.HandleRPC(ctx, &stats.InHeader{Client: true})
		h.HandleRPC(ctx, &stats.InPayload{Client: true, Payload: message, Length: len(message), RecvTime: start})
		h.HandleRPC(ctx, &stats.InTrailer{Client: true})
		h.HandleRPC(ctx, &stats.End{Client: true, BeginTime: start, EndTime: start})
	}
}

// BenchmarkSeen is what it costs to see RPCs that succeed: their durations, their
// events, and the page.
func BenchmarkSeen(b *testing.B) {
	ctx := deadline(b, time.Hour)
	page := statusz.New(statusz.Config{Interval: time.Hour})
	defer page.Close()
	log := interceptors.Observe(interceptors.Log(slog.New(slog.DiscardHandler), interceptors.LogConfig{}))
	nothing := interceptors.Observe(func(context.Context, interceptors.Event) {})
	b.Run("without a connection", func(b *testing.B) {
		measure.Compare(b,
			measure.Row{Name: "Turret: Metrics", F: client(ctx, metered(meters()))},
			measure.Row{Name: "Turret: Metrics, no-op provider", F: client(ctx, metered(metricnoop.NewMeterProvider()))},
			measure.Row{Name: "OpenTelemetry: Record alone", F: recorded(ctx, b, meters())},
			measure.Row{Name: "Turret: a layer that does nothing", F: client(ctx, pass)},
			measure.Row{Name: "Turret: Observe", F: client(ctx, nothing)},
			measure.Row{Name: "Turret: Observe with Log", F: client(ctx, log)},
			measure.Row{Name: "Turret: the page's layer", F: client(ctx, page.Layer())},
			measure.Row{Name: "Turret: Inject, without a rule", F: client(ctx, interceptors.Inject(fault.New()))},
			measure.Row{Name: "otelgrpc", F: handled(ctx, otelgrpc.NewClientHandler(otelMetrics(meters())...))},
			measure.Row{Name: "otelgrpc, no-op provider", F: handled(ctx, otelgrpc.NewClientHandler(otelMetrics(metricnoop.NewMeterProvider())...))},
		)
	})
	b.Run("both sides", onOne(func(b *testing.B) {
		one := func(l interceptors.Layer) side { return stacks(interceptors.New(l), interceptors.New(l)) }
		plugin := opentelemetry.Options{MetricsOptions: opentelemetry.MetricsOptions{MeterProvider: meters()}}
		theirs := otelMetrics(meters())
		measure.Compare(b,
			measure.Row{Name: "bare", F: unary(ctx, b, side{})},
			measure.Row{Name: "Turret: a layer that does nothing", F: unary(ctx, b, one(pass))},
			measure.Row{Name: "Turret: Metrics", F: unary(ctx, b, one(metered(meters())))},
			measure.Row{Name: "Turret: Observe with Log", F: unary(ctx, b, one(log))},
			measure.Row{Name: "otelgrpc", F: unary(ctx, b, side{
				dial:   []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(theirs...))},
				server: []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(theirs...))},
			})},
			measure.Row{Name: "gRPC: stats/opentelemetry", F: unary(ctx, b, side{
				dial: []grpc.DialOption{opentelemetry.DialOption(plugin)}, server: []grpc.ServerOption{opentelemetry.ServerOption(plugin)},
			})},
			measure.Row{Name: "bare, again", F: unary(ctx, b, side{})},
		)
	}))
	b.Run("describe a stack of five layers", func(b *testing.B) {
		five := interceptors.New(fiveLayers(bound)...)
		measure.Compare(b,
			measure.Row{Name: "Turret: Describe", F: func() { turret.Describe(five, 0) }},
			measure.Row{Name: "Turret: String", F: func() { _ = five.String() }},
		)
	})
}
