package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/list"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// printSpans makes one RPC whose first attempt fails, and prints its spans.
func printSpans(ctx context.Context, out io.Writer) error {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	config := trace.Config{TracerProvider: provider, Propagator: propagation.TraceContext{}}
	if err := retriedRPC(ctx, config); err != nil {
		return err
	}
	spans := exporter.GetSpans()
	fmt.Fprintln(out, "\nThe spans of one RPC whose first attempt fails:")
	printTree(out, spans)
	return provider.Shutdown(ctx)
}

// retriedRPC makes an RPC that is traced on both sides, and on the client once
// outside Retry and once inside.
func retriedRPC(ctx context.Context, config trace.Config) error {
	server := interceptors.New(interceptors.Trace(config))
	fleet, err := demo.StartFleet(ctx, demo.Server{Name: "steady", Delay: 3 * time.Millisecond, Options: server.ServerOptions()})
	if err != nil {
		return err
	}
	defer fleet.Stop()
	client := interceptors.New(
		interceptors.Trace(config),
		interceptors.Retry(retry.Config{}),
		interceptors.Trace(config),
	)
	conn, err := fleet.Dial(client.DialOptions()...)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = echov1.NewEchoServiceClient(conn).Unary(ctx, &echov1.UnaryRequest{
		Plan: &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: 1}},
	})
	return err
}

// printTree prints spans below their parents, each with its events.
func printTree(out io.Writer, spans tracetest.SpanStubs) {
	children := map[oteltrace.SpanID][]tracetest.SpanStub{}
	for _, s := range spans {
		children[s.Parent.SpanID()] = append(children[s.Parent.SpanID()], s)
	}
	w := list.NewWriter()
	w.SetOutputMirror(out)
	w.SetStyle(list.StyleConnectedRounded)
	appendSpans(w, children, oteltrace.SpanID{})
	w.Render()
}

func appendSpans(w list.Writer, children map[oteltrace.SpanID][]tracetest.SpanStub, parent oteltrace.SpanID) {
	below := children[parent]
	slices.SortFunc(below, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	for _, s := range below {
		w.AppendItem(describeSpan(s))
		w.Indent()
		for _, e := range s.Events {
			w.AppendItem("event " + e.Name + describeAttributes(e.Attributes))
		}
		appendSpans(w, children, s.SpanContext.SpanID())
		w.UnIndent()
	}
}

func describeSpan(s tracetest.SpanStub) string {
	took := s.EndTime.Sub(s.StartTime)
	return fmt.Sprintf("%s %s %s%s", s.SpanKind, s.Name, milliseconds(took), describeAttributes(s.Attributes))
}

// shown are the attributes that tell what happened, in the order in which they
// are printed.
var shown = []attribute.Key{trace.AttemptKey, trace.LayerKey, trace.ReasonKey, trace.DelayKey, "rpc.response.status_code"}

func describeAttributes(attributes []attribute.KeyValue) string {
	var text strings.Builder
	slices.SortStableFunc(attributes, func(a, b attribute.KeyValue) int {
		return cmp.Compare(slices.Index(shown, a.Key), slices.Index(shown, b.Key))
	})
	for _, a := range attributes {
		if slices.Contains(shown, a.Key) {
			fmt.Fprintf(&text, " %s=%s%s", a.Key, a.Value.String(), unit(a.Key))
		}
	}
	return text.String()
}

// unit returns the unit of an attribute that is a number with one.
func unit(key attribute.Key) string {
	if key == trace.DelayKey {
		return " s"
	}
	return ""
}
