package trace

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/turret-go/turret/internal/boundedmap"
	"github.com/turret-go/turret/internal/misuse"
)

// SchemaURL is the version of the semantic conventions that spans follow.
const SchemaURL = semconv.SchemaURL

// scope is the instrumentation scope of all spans.
const scope = "github.com/turret-go/turret/trace"

// A Tracer makes the spans of RPCs. Make it with [New]. Its methods may be
// called concurrently.
type Tracer struct {
	tracer     oteltrace.Tracer
	propagator propagation.TextMapPropagator
	attributes []attribute.KeyValue
	public     bool
	starts     boundedmap.Map[Call, *start]
}

// A Call is what there is to say of an RPC when it starts. Calls that are equal
// share what is made of them, so a Call is of a method, not of one RPC.
type Call struct {
	// Method is the full name: "/package.Service/Method".
	Method string
	// Server says that the RPC is served here; otherwise it is sent from here.
	Server bool
	// Target is what the client dialed, such as "dns:///example.com:443". Empty:
	// not known. It means nothing on a server.
	Target string
}

// Attributes returns the attributes by which the semantic conventions identify
// what is called: rpc.system.name, rpc.method ("package.Service/Method") and, on a
// client, server.address and server.port as far as Target names them.
func (c Call) Attributes() []attribute.KeyValue {
	method := strings.TrimPrefix(c.Method, "/")
	attributes := []attribute.KeyValue{semconv.RPCSystemNameGRPC, semconv.RPCMethod(method)}
	if c.Server {
		return attributes
	}
	return appendServer(attributes, c.Target)
}

// start is what all spans of a Call have in common.
type start struct {
	name    string
	options []oteltrace.SpanStartOption
}

// New returns a Tracer of c. It panics with the error of c.Validate if there is
// one.
func New(c Config) *Tracer {
	misuse.Check("trace: New", c.Validate())
	c = c.withDefaults()
	return &Tracer{
		tracer:     c.TracerProvider.Tracer(scope, oteltrace.WithSchemaURL(SchemaURL)),
		propagator: c.Propagator,
		attributes: c.Attributes,
		public:     c.Public,
	}
}

// Start starts the span of an RPC, as a child of the span that ctx carries. The
// context that it returns carries the new one. The caller must End the span.
func (t *Tracer) Start(ctx context.Context, c Call) (context.Context, Span) {
	s := t.startOf(c)
	options := s.options
	if parent := oteltrace.SpanContextFromContext(ctx); t.public && c.Server && parent.IsRemote() {
		options = append(slices.Clip(options), oteltrace.WithNewRoot())
		if parent.IsValid() {
			options = append(options, oteltrace.WithLinks(oteltrace.Link{SpanContext: parent}))
		}
	}
	ctx, span := t.tracer.Start(ctx, s.name, options...)
	return ctx, Span{span, c.Server}
}

// longest is how long a name is, in bytes, that is remembered. Names may come
// from a peer, and their number is bounded, but they may be megabytes long.
const longest = 1 << 10

func (t *Tracer) startOf(c Call) *start {
	if len(c.Method)+len(c.Target) > longest {
		return t.start(c)
	}
	return t.starts.Get(c, t.start)
}

func (t *Tracer) start(c Call) *start {
	name := c.Method
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	kind := oteltrace.SpanKindServer
	if !c.Server {
		kind = oteltrace.SpanKindClient
	}
	attributes := append(c.Attributes(), t.attributes...)
	return &start{name, []oteltrace.SpanStartOption{
		oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(attributes...),
	}}
}

// Inject writes the span that ctx carries, and whatever else the propagator
// knows, to the carrier: for the other side's Extract.
func (t *Tracer) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	t.propagator.Inject(ctx, carrier)
}

// Extract returns a context with what the other side injected: the parent of
// the span that Start makes. If ctx carries a span of this process already,
// that is the parent, and ctx is returned as it is.
func (t *Tracer) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	if here := oteltrace.SpanContextFromContext(ctx); here.IsValid() && !here.IsRemote() {
		return ctx
	}
	return t.propagator.Extract(ctx, carrier)
}
