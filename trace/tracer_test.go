package trace

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
)

const method = "/package.Service/Method"

// record returns a Tracer with c, and what it has recorded.
func record(c Config) (*Tracer, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r))
	if c.Propagator == nil {
		c.Propagator = propagation.TraceContext{}
	}
	return New(c), r
}

// only returns the one span that has ended.
func only(t *testing.T, r *tracetest.SpanRecorder) sdktrace.ReadOnlySpan {
	t.Helper()
	ended := r.Ended()
	if len(ended) != 1 || len(r.Started()) != 1 {
		t.Fatalf("%d spans started and %d ended, want one", len(r.Started()), len(ended))
	}
	return ended[0]
}

func wantAttributes(t *testing.T, got []attribute.KeyValue, want ...attribute.KeyValue) {
	t.Helper()
	if g, w := attribute.NewSet(got...), attribute.NewSet(want...); !g.Equals(&w) || len(got) != len(want) {
		t.Errorf("attributes %v, want %v", got, want)
	}
}

func TestStartFollowsTheConventions(t *testing.T) {
	rpc := []attribute.KeyValue{
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", "package.Service/Method"),
		attribute.String("rpc.response.status_code", "OK"),
		attribute.String("deployment", "blue"),
	}
	for _, tt := range []struct {
		name string
		call Call
		kind oteltrace.SpanKind
		more []attribute.KeyValue
	}{
		{"client", Call{Method: method}, oteltrace.SpanKindClient, nil},
		{"client of a target", Call{Method: method, Target: "dns:///example.com:443"}, oteltrace.SpanKindClient, []attribute.KeyValue{
			attribute.String("server.address", "example.com"), attribute.Int("server.port", 443),
		}},
		{"server", Call{Method: method, Server: true, Target: "no matter"}, oteltrace.SpanKindServer, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracer, recorded := record(Config{Attributes: []attribute.KeyValue{attribute.String("deployment", "blue")}})
			ctx, span := tracer.Start(t.Context(), tt.call)
			if !oteltrace.SpanFromContext(ctx).IsRecording() || !span.IsRecording() {
				t.Error("the span is not recording, or not in the context")
			}
			span.End("OK", "")
			got := only(t, recorded)
			if got.Name() != "package.Service/Method" || got.SpanKind() != tt.kind {
				t.Errorf("%v span %q, want %v span of the method", got.SpanKind(), got.Name(), tt.kind)
			}
			if got.Status().Code != codes.Unset {
				t.Errorf("status %v of an RPC that is OK", got.Status())
			}
			if got.InstrumentationScope().SchemaURL != SchemaURL {
				t.Errorf("schema %q, want %q", got.InstrumentationScope().SchemaURL, SchemaURL)
			}
			wantAttributes(t, got.Attributes(), append(rpc, tt.more...)...)
		})
	}
}

func TestEndKnowsWhoseFaultItIs(t *testing.T) {
	faults := " UNKNOWN DEADLINE_EXCEEDED UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
	for code := range strings.FieldsSeq(faults + "CANCELLED INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED " +
		"RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNAUTHENTICATED 99") {
		for _, server := range []bool{false, true} {
			tracer, recorded := record(Config{})
			_, span := tracer.Start(t.Context(), Call{Method: method, Server: server})
			span.End(code, "what the status says")
			span.End("OK", "a second end is none")
			got := only(t, recorded)
			want := sdktrace.Status{Code: codes.Error, Description: "what the status says"}
			attributes := attribute.NewSet(got.Attributes()...)
			fault, failed := attributes.Value("error.type")
			if server && !strings.Contains(faults, " "+code+" ") {
				want = sdktrace.Status{}
			}
			if got.Status() != want || failed != (want.Code == codes.Error) || failed && fault.AsString() != code {
				t.Errorf("server %v, %s: status %v, error.type %v; want %v", server, code, got.Status(), fault.String(), want)
			}
			if v, _ := attributes.Value("rpc.response.status_code"); v.AsString() != code {
				t.Errorf("rpc.response.status_code %v, want %v", v.AsString(), code)
			}
		}
	}
}

func TestEventSaysOnlyWhatThereIs(t *testing.T) {
	for _, tt := range []struct {
		event Event
		want  []attribute.KeyValue
	}{
		{Event{Name: "plain"}, nil},
		{Event{Name: "refused", Layer: "limit", Reason: "LIMIT_FULL"}, []attribute.KeyValue{
			attribute.String("turret.layer", "limit"), attribute.String("turret.reason", "LIMIT_FULL"),
		}},
		{Event{Name: "retry", Attempt: 2, Delay: 1500 * time.Millisecond}, []attribute.KeyValue{
			attribute.Int("turret.attempt", 2), attribute.Float64("turret.delay", 1.5),
		}},
		{Event{Name: "panic", Panic: context.Canceled}, []attribute.KeyValue{
			attribute.String("exception.type", "*errors.errorString"), attribute.String("exception.message", "context canceled"),
		}},
	} {
		tracer, recorded := record(Config{})
		_, span := tracer.Start(t.Context(), Call{Method: method})
		span.Event(tt.event)
		span.End("OK", "")
		events := only(t, recorded).Events()
		if len(events) != 1 || events[0].Name != tt.event.Name {
			t.Fatalf("events %v, want one called %q", events, tt.event.Name)
		}
		wantAttributes(t, events[0].Attributes, tt.want...)
	}
}

func TestSpanNamesItsAttemptAndLayer(t *testing.T) {
	tracer, recorded := record(Config{})
	_, span := tracer.Start(t.Context(), Call{Method: method, Server: true})
	span.SetAttempt(0)
	span.SetLayer("inner")
	span.End("OK", "")
	wantAttributes(t, only(t, recorded).Attributes(),
		attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", "package.Service/Method"),
		attribute.Int("turret.attempt", 0), attribute.String("turret.layer", "inner"),
		attribute.String("rpc.response.status_code", "OK"))
}

// cross starts a client's span and a server's on what the client sent, and
// returns both once they have ended.
func cross(here context.Context, t *testing.T, server Config) (client, served sdktrace.ReadOnlySpan) {
	t.Helper()
	clients, clientSpans := record(Config{})
	ctx, span := clients.Start(t.Context(), Call{Method: method})
	wire := propagation.MapCarrier{}
	clients.Inject(ctx, wire)
	span.End("OK", "")

	servers, serverSpans := record(server)
	_, span = servers.Start(servers.Extract(here, wire), Call{Method: method, Server: true})
	span.End("OK", "")
	return only(t, clientSpans), only(t, serverSpans)
}

func TestExtractJoinsWhatInjectSent(t *testing.T) {
	client, server := cross(t.Context(), t, Config{})
	if server.Parent().SpanID() != client.SpanContext().SpanID() || server.SpanContext().TraceID() != client.SpanContext().TraceID() {
		t.Errorf("the server's parent is %v, want %v", server.Parent(), client.SpanContext())
	}
	if !server.Parent().IsRemote() {
		t.Error("the parent is not remote")
	}
}

func TestExtractPrefersASpanOfThisProcess(t *testing.T) {
	tracer, _ := record(Config{})
	here, span := tracer.Start(t.Context(), Call{Method: method, Server: true})
	defer span.End("OK", "")
	_, server := cross(here, t, Config{})
	if server.Parent().SpanID() != oteltrace.SpanContextFromContext(here).SpanID() {
		t.Errorf("the parent is %v, want the span of the context", server.Parent())
	}
}

func TestPublicServersTrustNobody(t *testing.T) {
	client, server := cross(t.Context(), t, Config{Public: true})
	if server.Parent().IsValid() || server.SpanContext().TraceID() == client.SpanContext().TraceID() {
		t.Errorf("the span belongs to the caller's trace, as child of %v", server.Parent())
	}
	if links := server.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != client.SpanContext().SpanID() {
		t.Errorf("links %v, want one to %v", links, client.SpanContext())
	}
}

func TestZeroConfigUsesTheGlobals(t *testing.T) {
	tracer := New(Config{}) // before they are set, as in a package variable
	r := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	ctx, span := tracer.Start(t.Context(), Call{Method: method})
	wire := propagation.MapCarrier{}
	tracer.Inject(ctx, wire)
	span.End("OK", "")
	if got := only(t, r); !strings.Contains(wire["traceparent"], got.SpanContext().SpanID().String()) {
		t.Errorf("sent %q, want the span %v", wire, got.SpanContext().SpanID())
	}
}

func TestConfigIsNotKept(t *testing.T) {
	attributes := []attribute.KeyValue{attribute.String("a", "1")}
	tracer, recorded := record(Config{Attributes: attributes})
	attributes[0] = attribute.String("b", "2")
	_, span := tracer.Start(t.Context(), Call{Method: method})
	span.End("OK", "")
	set := attribute.NewSet(only(t, recorded).Attributes()...)
	if !set.HasValue("a") || set.HasValue("b") {
		t.Error("the span has what the caller's slice says now")
	}
}

func TestValidate(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
	bad := Config{Attributes: []attribute.KeyValue{attribute.String("a", "1"), attribute.String("", "x")}}
	const want = `trace: Attributes[1] is "=x", must be a pair of a key and a value`
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("Validate() = %v, want %q", err, want)
	}
	defer func() {
		if p, _ := recover().(error); p == nil || p.Error() != strings.Replace(want, "trace: ", "trace: New: ", 1) {
			t.Errorf("New panicked with %v, want the error of Validate", p)
		}
	}()
	New(bad)
}

// Clients of a server that takes any method may make names up: neither their number
// nor their length fills the memory.
func TestMadeUpNamesAreNotKept(t *testing.T) {
	for name, size := range map[string]int{"many": 100, "long": 256 << 10} {
		t.Run(name, func(t *testing.T) {
			tracer := New(Config{TracerProvider: sdktrace.NewTracerProvider()}) // keeps no spans
			calls, before := (64<<20)/(size+1000), heap()
			for i := range calls {
				name := fmt.Sprintf("/made.Up/%d%s", i, strings.Repeat("x", size))
				_, span := tracer.Start(t.Context(), Call{Method: name, Server: true})
				span.End("OK", "")
			}
			if grown := int64(heap()) - int64(before); grown > 4<<20 {
				t.Errorf("%d names of %d bytes leave %d MB behind", calls, size, grown>>20)
			}
			runtime.KeepAlive(tracer)
		})
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
