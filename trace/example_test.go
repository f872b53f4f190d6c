package trace_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/turret-go/turret/trace"
)

// A client and a server that speak something like gRPC. For gRPC itself,
// interceptors.Trace does all of this.
func Example() {
	spans := tracetest.NewInMemoryExporter()
	tracer := trace.New(trace.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)),
		Propagator:     propagation.TraceContext{},
	})

	serve := func(headers map[string]string) {
		ctx := tracer.Extract(context.Background(), propagation.MapCarrier(headers))
		_, span := tracer.Start(ctx, trace.Call{Method: "/shop.Orders/Get", Server: true})
		span.Event(trace.Event{Name: "refused", Layer: "limit", Reason: "LIMIT_FULL"})
		span.End("RESOURCE_EXHAUSTED", "limit: full")
	}
	ctx, span := tracer.Start(context.Background(), trace.Call{Method: "/shop.Orders/Get"})
	headers := map[string]string{}
	tracer.Inject(ctx, propagation.MapCarrier(headers))
	serve(headers)
	span.End("RESOURCE_EXHAUSTED", "limit: full")

	for _, s := range spans.GetSpans() {
		fmt.Println(s.SpanKind, s.Name, s.Status.Code, "child:", s.Parent.IsValid())
		for _, e := range s.Events {
			fmt.Println("  ", e.Name, e.Attributes[1].Value.AsString())
		}
	}
	// Output:
	// server shop.Orders/Get Unset child: true
	//    refused LIMIT_FULL
	// client shop.Orders/Get Error child: false
}
