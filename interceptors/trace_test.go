package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// spans records what Trace layers make.
type spans struct {
	recorder *tracetest.SpanRecorder
	config   trace.Config
}

func newSpans() *spans {
	r := tracetest.NewSpanRecorder()
	return &spans{r, trace.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)),
		Propagator:     propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}}
}

func (s *spans) layer() interceptors.Layer { return interceptors.Trace(s.config) }

// ended returns the spans in the order in which they started. All must have
// ended, and there must be n.
func (s *spans) ended(t *testing.T, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	started := s.recorder.Started()
	if len(started) != n || len(s.recorder.Ended()) != n {
		t.Fatalf("%d spans were started, %d ended; want %d", len(started), len(s.recorder.Ended()), n)
	}
	ended := make([]sdktrace.ReadOnlySpan, n)
	for i, span := range started {
		ended[i] = span
	}
	return ended
}

// childOf checks that the span is a child of that one.
func childOf(t *testing.T, child, parent sdktrace.ReadOnlySpan) {
	t.Helper()
	c, p := child.Parent(), parent.SpanContext()
	if c.SpanID() != p.SpanID() || child.SpanContext().TraceID() != p.TraceID() {
		t.Errorf("the parent of %v %s is %v of trace %v, want %v of %v", child.SpanKind(), child.Name(), c.SpanID(), c.TraceID(), p.SpanID(), p.TraceID())
	}
}

func attributeOf(s sdktrace.ReadOnlySpan, key attribute.Key) string {
	set := attribute.NewSet(s.Attributes()...)
	v, ok := set.Value(key)
	if !ok {
		return ""
	}
	return v.String()
}

// wantStatus checks the code of a span, and whether it counts as an error.
func wantStatus(t *testing.T, s sdktrace.ReadOnlySpan, code string, failed bool) {
	t.Helper()
	want, errorType := otelcodes.Unset, ""
	if failed {
		want, errorType = otelcodes.Error, code
	}
	if got := attributeOf(s, "rpc.response.status_code"); got != code || s.Status().Code != want || attributeOf(s, "error.type") != errorType {
		t.Errorf("%v span: code %s, status %v, error.type %q; want %s, %v, %q",
			s.SpanKind(), got, s.Status(), attributeOf(s, "error.type"), code, want, errorType)
	}
}

// wantEvents checks the events of a span, each in the form of line.
func wantEvents(t *testing.T, s sdktrace.ReadOnlySpan, want ...string) {
	t.Helper()
	var got []string
	for _, e := range s.Events() {
		got = append(got, line(e))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v span has the events %q, want %q", s.SpanKind(), got, want)
	}
}

// line is an event in one line: its name, and the layer, reason, attempt, delay
// and panic that it has.
func line(e sdktrace.Event) string {
	set, line := attribute.NewSet(e.Attributes...), e.Name
	for _, key := range []attribute.Key{"turret.layer", "turret.reason", "turret.attempt", "turret.delay", "exception.message"} {
		if v, ok := set.Value(key); ok {
			line += " " + v.String()
		}
	}
	return line
}

// tracedWorld is a world with a Trace layer on both sides.
func tracedWorld(t *testing.T) (w *world, clients, servers *spans) {
	t.Helper()
	clients, servers = newSpans(), newSpans()
	return newWorld(t, worldOf{
		client: interceptors.New(clients.layer()), server: interceptors.New(servers.layer()),
	}), clients, servers
}

func TestTraceJoinsBothSides(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w, clients, servers := tracedWorld(t)
			var inHandler oteltrace.SpanContext
			w.server.before = func(ctx context.Context) { inHandler = oteltrace.SpanContextFromContext(ctx) }
			const took = 10 * time.Second
			release, err := w.hold(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(took)
			if n := len(clients.recorder.Ended()) + len(servers.recorder.Ended()); n > 0 {
				t.Errorf("%d spans have ended while the RPC runs", n)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			client, server := clients.ended(t, 1)[0], servers.ended(t, 1)[0]
			childOf(t, server, client)
			if client.Parent().IsValid() {
				t.Errorf("the client's span has the parent %v", client.Parent())
			}
			if inHandler.SpanID() != server.SpanContext().SpanID() {
				t.Errorf("the handler's context has the span %v, want %v", inHandler.SpanID(), server.SpanContext().SpanID())
			}
			for _, s := range []sdktrace.ReadOnlySpan{client, server} {
				wantStatus(t, s, "OK", false)
				wantEvents(t, s)
				if d := s.EndTime().Sub(s.StartTime()); d != took || s.Name() != method(k)[1:] || attributeOf(s, "turret.attempt") != "" {
					t.Errorf("span %q of %v, %v; want %q of %v and no attempt", s.Name(), d, s.Attributes(), method(k)[1:], took)
				}
			}
			if client.SpanKind() != oteltrace.SpanKindClient || server.SpanKind() != oteltrace.SpanKindServer {
				t.Errorf("kinds %v and %v", client.SpanKind(), server.SpanKind())
			}
			if got := attributeOf(client, "server.address"); got != "test" {
				t.Errorf("server.address %q, want what was dialed", got)
			}
		})
	}
}

func TestTraceStatus(t *testing.T) {
	for _, tt := range []struct {
		code         codes.Code
		name         string
		serversFault bool
	}{
		{codes.NotFound, "NOT_FOUND", false},
		{codes.Unavailable, "UNAVAILABLE", true},
	} {
		for _, k := range kinds {
			inBubble(t, fmt.Sprintf("%v/%v", tt.code, k), func(t *testing.T) {
				w, clients, servers := tracedWorld(t)
				plan := &echov1.Plan{Failure: &echov1.Failure{Code: int32(tt.code), Message: "why"}}
				if err := w.do(t.Context(), k, plan).wants(tt.code, ""); err != nil {
					t.Fatal(err)
				}
				client, server := clients.ended(t, 1)[0], servers.ended(t, 1)[0]
				wantStatus(t, client, tt.name, true)
				wantStatus(t, server, tt.name, tt.serversFault)
				if got := client.Status().Description; got != "why" {
					t.Errorf("the client's span says %q", got)
				}
			})
		}
	}
}

// failing is a plan in which the first n attempts fail.
func failing(n int32) *echov1.Plan {
	return &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: n}}
}

// slow is a plan that takes longer than any bound of a test.
var slow = &echov1.Plan{Delay: durationpb.New(time.Hour)}

// steady is a Retry whose delays are known.
func steady() interceptors.Layer {
	return interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: time.Second, Jitter: -1}})
}

func TestTraceOfARetry(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			outer, inner := newSpans(), newSpans()
			inner.config.TracerProvider = outer.config.TracerProvider
			servers := newSpans()
			w := newWorld(t, worldOf{
				client: interceptors.New(outer.layer(), steady(), inner.layer()),
				server: interceptors.New(servers.layer()),
			})
			if err := w.do(t.Context(), k, failing(2)).wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			all, served := outer.ended(t, 4), servers.ended(t, 3)
			rpc, attempts := all[0], all[1:]
			wantStatus(t, rpc, "OK", false)
			wantEvents(t, rpc, "retry retry UNAVAILABLE 1 1", "retry retry UNAVAILABLE 2 2")
			if got := attributeOf(rpc, "turret.attempt"); got != "" {
				t.Errorf("the span of the RPC is of attempt %s", got)
			}
			for i, attempt := range attempts {
				last := i == len(attempts)-1
				childOf(t, attempt, rpc)
				childOf(t, served[i], attempt)
				wantEvents(t, attempt)
				for _, s := range []sdktrace.ReadOnlySpan{attempt, served[i]} {
					if last {
						wantStatus(t, s, "OK", false)
					} else {
						wantStatus(t, s, "UNAVAILABLE", true)
					}
				}
				if got := attributeOf(attempt, "turret.attempt"); got != fmt.Sprint(i) {
					t.Errorf("attempt %d says that it is %q", i, got)
				}
			}
		})
	}
}

// Events of what layers do, on both sides and for every kind. Without another
// Trace inside, the span of the RPC has all of them, once.
func TestTraceEvents(t *testing.T) {
	full := func() interceptors.Layer { return interceptors.ConcurrencyLimit(0, limit.Queue{}) }
	for _, tt := range []struct {
		name       string
		layers     []interceptors.Layer
		clientOnly bool
		plan       *echov1.Plan
		code       codes.Code
		status     string
		failed     bool // for a server
		events     []string
	}{
		{
			"refusal",
			[]interceptors.Layer{full()},
			false, nil,
			codes.ResourceExhausted, "RESOURCE_EXHAUSTED", false,
			[]string{"refused limit LIMIT_FULL"},
		},
		{
			"named refusal",
			[]interceptors.Layer{interceptors.Named("front", full())},
			false, nil,
			codes.ResourceExhausted, "RESOURCE_EXHAUSTED", false,
			[]string{"refused front LIMIT_FULL"},
		},
		{
			"timeout",
			[]interceptors.Layer{interceptors.Timeout(time.Second)},
			false, slow,
			codes.DeadlineExceeded, "DEADLINE_EXCEEDED", true,
			[]string{"timeout timeout TIMEOUT"},
		},
		{
			"panic",
			[]interceptors.Layer{interceptors.Recover(silently), panicking("a fault")},
			false, nil,
			codes.Internal, "INTERNAL", true,
			[]string{"panic recover a fault"},
		},
		{
			"retries of a refusal",
			[]interceptors.Layer{steady(), full()},
			true, nil,
			codes.ResourceExhausted, "RESOURCE_EXHAUSTED", true,
			[]string{
				"refused limit LIMIT_FULL", "retry retry LIMIT_FULL 1 1",
				"refused limit LIMIT_FULL", "retry retry LIMIT_FULL 2 2",
				"refused limit LIMIT_FULL",
			},
		},
		{
			"retry of a timeout",
			[]interceptors.Layer{interceptors.Named("again", steady()), interceptors.Timeout(time.Second)},
			true, slow,
			codes.DeadlineExceeded, "DEADLINE_EXCEEDED", true,
			[]string{
				"timeout timeout TIMEOUT", "retry again DEADLINE_EXCEEDED 1 1",
				"timeout timeout TIMEOUT", "retry again DEADLINE_EXCEEDED 2 2",
				"timeout timeout TIMEOUT",
			},
		},
	} {
		for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			if tt.clientOnly && side == interceptors.SideServer {
				continue
			}
			for _, k := range kinds {
				inBubble(t, fmt.Sprintf("%s/%v/%v", tt.name, side, k), func(t *testing.T) {
					s := newSpans()
					stack := interceptors.New(append([]interceptors.Layer{s.layer()}, tt.layers...)...)
					w := newWorld(t, onSide(side, stack))
					if err := w.do(t.Context(), k, tt.plan).wants(tt.code, ""); err != nil {
						t.Fatal(err)
					}
					span := s.ended(t, 1)[0]
					wantStatus(t, span, tt.status, tt.failed || side == interceptors.SideClient)
					wantEvents(t, span, tt.events...)
				})
			}
		}
	}
}

// onSide is a world with this stack on one side.
func onSide(s interceptors.Side, stack *interceptors.Stack) worldOf {
	if s == interceptors.SideClient {
		return worldOf{client: stack}
	}
	return worldOf{server: stack}
}

// What happens in an attempt is an event of the attempt's span, and of no other.
func TestTraceEventsOfAttempts(t *testing.T) {
	for _, tt := range []struct {
		name             string
		inside           interceptors.Layer
		code             codes.Code
		ofRPC, ofAttempt []string
	}{
		{
			"refusal", interceptors.ConcurrencyLimit(0, limit.Queue{}), codes.ResourceExhausted,
			[]string{"retry retry LIMIT_FULL 1 1", "retry retry LIMIT_FULL 2 2"},
			[]string{"refused limit LIMIT_FULL"},
		},
		{
			"timeout", interceptors.Timeout(time.Second), codes.DeadlineExceeded,
			[]string{"retry retry DEADLINE_EXCEEDED 1 1", "retry retry DEADLINE_EXCEEDED 2 2"},
			[]string{"timeout timeout TIMEOUT"},
		},
	} {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				rpc, attempts := newSpans(), newSpans()
				w := newWorld(t, worldOf{client: interceptors.New(rpc.layer(), steady(), attempts.layer(), tt.inside)})
				if err := w.do(t.Context(), k, slow).wants(tt.code, ""); err != nil {
					t.Fatal(err)
				}
				wantEvents(t, rpc.ended(t, 1)[0], tt.ofRPC...)
				for _, attempt := range attempts.ended(t, 3) {
					wantEvents(t, attempt, tt.ofAttempt...)
				}
			})
		}
	}
}

// However a stream ends, its spans end, once, and with it.
func TestTraceEndsWithTheStream(t *testing.T) {
	for _, e := range streamEnds {
		for _, k := range streamKinds {
			inBubble(t, e.name+"/"+k.String(), func(t *testing.T) {
				s := newSpans()
				l := newLife(t, k, s.layer())
				time.Sleep(time.Minute)
				if n := len(s.recorder.Ended()); n != 0 {
					t.Errorf("%d spans have ended while the stream is open", n)
				}
				e.end(l)
				synctest.Wait()
				span := s.ended(t, 1)[0]
				if got := attributeOf(span, "rpc.response.status_code"); got == "" {
					t.Error("the span has no code")
				}
				if err := l.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A stream that its caller cancels or abandons, with the code that each side
// sees.
func TestTraceOfAStreamWithoutAnEnd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client string
		end    func(cancel context.CancelFunc)
	}{
		{"cancelled", "CANCELLED", func(cancel context.CancelFunc) { cancel() }},
		{"abandoned", "DEADLINE_EXCEEDED", func(context.CancelFunc) { time.Sleep(deadline) }},
	} {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				w, clients, servers := tracedWorld(t)
				ctx, cancel := context.WithTimeout(holding(t.Context()), deadline)
				defer cancel()
				if _, err := w.open(ctx, k); err != nil {
					t.Fatal(err)
				}
				<-w.server.held
				tt.end(cancel)
				synctest.Wait()
				wantStatus(t, clients.ended(t, 1)[0], tt.client, true)
				childOf(t, servers.ended(t, 1)[0], clients.ended(t, 1)[0])
				if err := w.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A panic or a Goexit that passes ends the span, and goes on.
func TestTraceEndsWithAFault(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			eachFaultyPlace(t, func(t *testing.T, p *faultyPlace, k interceptors.Kind, side interceptors.Side) {
				s := newSpans()
				w, r := p.run(t, f.happen, k, side, newRoom(), s.layer())
				if side == interceptors.SideClient {
					wantFaultAtCaller(t, f, r)
				} else {
					wantFaultOutside(t, f, w, r)
				}
				synctest.Wait()
				if span := s.ended(t, 1)[0]; p.outcome == 0 {
					wantStatus(t, span, "INTERNAL", true)
				}
			})
		})
	}
}

func TestTraceTellsOfAFaultThatPasses(t *testing.T) {
	for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
		for _, k := range kinds {
			inBubble(t, fmt.Sprintf("%v/%v", side, k), func(t *testing.T) {
				s := newSpans()
				w := newWorld(t, onSide(side, interceptors.New(s.layer(), panicking(secret))))
				w.do(t.Context(), k, nil)
				span := s.ended(t, 1)[0]
				wantEvents(t, span, "panic")
				wantStatus(t, span, "INTERNAL", true)
			})
		}
	}
}

func TestTraceCarriesItsName(t *testing.T) {
	inBubble(t, "named", func(t *testing.T) {
		s := newSpans()
		w := newWorld(t, worldOf{client: interceptors.New(interceptors.Named("edge", s.layer()))})
		if err := w.do(t.Context(), interceptors.KindUnary, nil).wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		span := s.ended(t, 1)[0]
		if got := attributeOf(span, "turret.layer"); got != "edge" || span.Name() != method(interceptors.KindUnary)[1:] {
			t.Errorf("span %q has the layer %q", span.Name(), got)
		}
	})
}

// The context of the client's span takes the place of one that came with other
// metadata, and everything else stays.
func TestTraceReplacesAnotherSpansContext(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w, clients, servers := tracedWorld(t)
			var md metadata.MD
			w.server.before = func(ctx context.Context) { md, _ = metadata.FromIncomingContext(ctx) }
			ctx := metadata.AppendToOutgoingContext(t.Context(),
				"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a", "1", "a", "2")
			if err := w.do(ctx, k, nil).wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			childOf(t, servers.ended(t, 1)[0], clients.ended(t, 1)[0])
			if !slices.Equal(md["a"], []string{"1", "2"}) || len(md["traceparent"]) != 1 {
				t.Errorf("the server received %v", md)
			}
		})
	}
}

// A span that is not sampled is carried on, so that the server's is not sampled
// either; and the layers inside it work as ever.
func TestTraceNotSampled(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			clients, servers := newSpans(), newSpans()
			clients.config.TracerProvider = sdktrace.NewTracerProvider(
				sdktrace.WithSampler(sdktrace.NeverSample()), sdktrace.WithSpanProcessor(clients.recorder))
			servers.config.TracerProvider = sdktrace.NewTracerProvider(
				sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())), sdktrace.WithSpanProcessor(servers.recorder))
			w := newWorld(t, worldOf{
				client: interceptors.New(clients.layer(), steady(), clients.layer()),
				server: interceptors.New(servers.layer()),
			})
			if err := w.do(t.Context(), k, failing(1)).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			clients.ended(t, 0)
			servers.ended(t, 0)
		})
	}
}

func TestTraceConfigIsValidated(t *testing.T) {
	bad := trace.Config{Attributes: []attribute.KeyValue{attribute.String("", "x")}}
	defer func() {
		if err, _ := recover().(error); err == nil || err.Error() != strings.Replace(bad.Validate().Error(), "trace: ", "interceptors: Trace: ", 1) {
			t.Errorf("Trace panicked with %v, want %v", err, bad.Validate())
		}
	}()
	interceptors.Trace(bad)
}

// Baggage crosses too, as with any propagator.
func TestTraceReadsAllValuesOfAKey(t *testing.T) {
	inBubble(t, "baggage", func(t *testing.T) {
		w, _, _ := tracedWorld(t)
		var got []string
		w.server.before = func(ctx context.Context) { got = metadata.ValueFromIncomingContext(ctx, "baggage") }
		ctx := metadata.AppendToOutgoingContext(t.Context(), "baggage", "a=1", "baggage", "b=2")
		if err := w.do(ctx, interceptors.KindUnary, nil).wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, []string{"a=1", "b=2"}) {
			t.Errorf("the server received %q", got)
		}
	})
}
