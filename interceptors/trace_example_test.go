package interceptors_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// One span for the RPC, outside of Retry, and one for each attempt, inside. A
// server with a Trace layer would add its own below each attempt.
func ExampleTrace() {
	spans := tracetest.NewSpanRecorder()
	tracing := interceptors.Trace(trace.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		Propagator:     propagation.TraceContext{},
	})
	stack := interceptors.New(
		tracing,
		interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: -1}}),
		tracing,
	)

	sent := 0 // an invoker stands in for the connection
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		if sent++; sent < 2 {
			return status.Error(codes.Unavailable, "try later")
		}
		return nil
	}
	err := stack.UnaryClient()(context.Background(), "/shop.Orders/Get", &emptypb.Empty{}, &emptypb.Empty{}, nil, invoker)
	fmt.Println(err)

	for _, span := range spans.Started() {
		indent := ""
		if span.Parent().IsValid() {
			indent = "  "
		}
		fmt.Printf("%s%s %v %q\n", indent, span.Name(), span.Status().Code, span.Status().Description)
		for _, event := range span.Events() {
			fmt.Println(indent+"  *", event.Name, event.Attributes[1].Value.AsString())
		}
	}
	// Output:
	// <nil>
	// shop.Orders/Get Unset ""
	//   * retry UNAVAILABLE
	//   shop.Orders/Get Error "try later"
	//   shop.Orders/Get Unset ""
}
