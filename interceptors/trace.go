package interceptors

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/trace"
)

// Trace returns a [Layer] that makes an OpenTelemetry span of each RPC, streams
// included, from its opening to its end. It carries the span's context in the
// metadata of the RPC, so that the span of a server is the child of its
// client's. What the spans say is in the documentation of package trace. It
// panics with the error of c.Validate if there is one.
//
// Outside [Retry] and Hedge there is one span for the RPC; inside, one for each
// attempt, with its number. Both may be in one stack: the spans of the attempts
// are then children of the RPC's.
//
// The span has an event for each refusal, retry, hedge, timeout and panic
// inside the layer (named as by EventKind.String), with its reason and the name
// of the layer. What happens inside several Trace layers is an event of the
// innermost one's span. With [Named] the span carries the name as turret.layer.
//
// Inside the layer, and in a handler, trace.SpanFromContext of OpenTelemetry
// returns the span, to add to it what only the program knows. Leave out what is
// not worth a span with [Except]:
//
//	Except("/grpc.health.v1.Health/*", Trace(trace.Config{}))
func Trace(c trace.Config) Layer {
	misuse.Check("interceptors: Trace", c.Validate())
	tracer := trace.New(c)
	return func(inner Service) Service { return &traceService{Service: inner, tracer: tracer} }
}

type traceService struct {
	Service

	tracer *trace.Tracer
	name   string // given by Named; empty: none
}

// A span that is not recorded costs no more than its start: the RPC goes on as it is,
// and no event is looked at. One that is recorded also ends when a panic passes.
func (s *traceService) Call(ctx context.Context, rpc *RPC) (any, error) {
	ctx, span := s.start(ctx, rpc)
	if !span.IsRecording() {
		defer span.End("", "")
		return s.Service.Call(ctx, rpc)
	}
	if rpc.isAttempt() {
		span.SetAttempt(rpc.Attempt)
	}
	if s.name != "" {
		span.SetLayer(s.name)
	}
	t := &traced{span: span, outer: rpc.traced()}
	returned := false
	defer func() {
		if !returned {
			t.end(errPanic, true)
		}
	}()
	reply, err := s.Service.Call(ctx, rpc.with(func(x *extra) {
		x.observer = &observer{tell: t.tell, outer: x.observer}
		x.traced = t
	}))
	returned = true
	t.end(err, false)
	return reply, err
}

// start starts the span of rpc, and carries its context over the connection.
func (s *traceService) start(ctx context.Context, rpc *RPC) (context.Context, trace.Span) {
	call := trace.Call{Method: rpc.Method, Server: rpc.Side == SideServer, Target: rpc.end().target()}
	if call.Server {
		return s.tracer.Start(s.tracer.Extract(ctx, incoming{ctx}), call)
	}
	ctx, span := s.tracer.Start(ctx, call)
	return s.inject(ctx), span
}

// inject writes the span's context into the metadata that the client sends.
func (s *traceService) inject(ctx context.Context) context.Context {
	o := outgoing{ctx: ctx}
	s.tracer.Inject(ctx, &o)
	return o.context()
}

// rename is called by Named, before the first RPC.
func (s *traceService) rename(name string) { s.name = name }

func (s *traceService) String() string { return "trace" }

// traced is an RPC, or an attempt of one, whose span is being recorded.
type traced struct {
	span  trace.Span
	outer *traced // the span that this one is inside of, in the same stack
	// refused is the refusal that a span inside this one has an event of.
	refused atomic.Pointer[turret.Refusal]
}

// tell notes what happens inside, unless a span further inside does.
func (t *traced) tell(_ context.Context, e *Event) {
	if e.RPC.traced() != t || e.Kind == EventWarning || e.Kind == EventRefused && !t.firstToSee(e.Err) {
		return
	}
	t.span.Event(trace.Event{
		Name: e.Kind.String(), Layer: e.Layer, Reason: e.Reason, Attempt: e.Attempt, Delay: e.Delay, Panic: e.Panic,
	})
}

// firstToSee reports whether no span inside this one has an event of the
// refusal in err, and tells the spans outside that there is one now.
func (t *traced) firstToSee(err error) bool {
	r, _ := errors.AsType[*turret.Refusal](err)
	known := t.refused.Load() == r
	for o := t.outer; o != nil; o = o.outer {
		o.refused.Store(r)
	}
	return !known
}

// end ends the span of an RPC that ended with err, or passed by panicking.
func (t *traced) end(err error, panicked bool) {
	if panicked {
		t.span.Event(trace.Event{Name: EventPanic.String()})
	}
	if e, ok := refusedEvent(err); ok && t.firstToSee(err) {
		t.span.Event(trace.Event{Name: e.Kind.String(), Layer: e.Layer, Reason: e.Reason, Delay: e.Delay})
	}
	text := ""
	if err != nil {
		text = Status(err).Message()
	}
	t.span.End(codeName(Code(err)), text)
}

// Describe says that RPCs are traced.
func (s *traceService) Describe(d *turret.Description) { d.Is("trace", s.String()) }
