package trace

import (
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// The keys of Turret's own attributes; see the package documentation.
const (
	AttemptKey = attribute.Key("turret.attempt")
	LayerKey   = attribute.Key("turret.layer")
	ReasonKey  = attribute.Key("turret.reason")
	DelayKey   = attribute.Key("turret.delay")
)

// A Span is the span of one RPC, or of one attempt of it, from [Tracer.Start].
// Its methods may be called concurrently; those that come after End do nothing.
type Span struct {
	span   oteltrace.Span
	server bool
}

// IsRecording reports whether s keeps what is set on it. A span that is not
// sampled keeps nothing.
func (s Span) IsRecording() bool { return s.span.IsRecording() }

// SetAttempt says that s stands for one attempt of an RPC: n is 0 for the first.
func (s Span) SetAttempt(n int) { s.span.SetAttributes(AttemptKey.Int(n)) }

// SetLayer gives s the name of the layer that made it.
func (s Span) SetLayer(name string) { s.span.SetAttributes(LayerKey.String(name)) }

// An Event is something that happened to an RPC on its way. Fields that are
// zero are left out.
type Event struct {
	Name    string        // what: "retry", "refused" ...
	Layer   string        // the layer where it happened
	Reason  string        // why: LIMIT_FULL, UNAVAILABLE ...
	Attempt int           // the attempt that a retry or a hedge begins
	Delay   time.Duration // until a retry is sent, or until a refused RPC may come back
	Panic   any           // the value of a panic
}

// Event notes e on s. The value of a panic becomes an exception.type and an
// exception.message.
func (s Span) Event(e Event) {
	attributes := make([]attribute.KeyValue, 0, 6)
	if e.Layer != "" {
		attributes = append(attributes, LayerKey.String(e.Layer))
	}
	if e.Reason != "" {
		attributes = append(attributes, ReasonKey.String(e.Reason))
	}
	if e.Attempt != 0 {
		attributes = append(attributes, AttemptKey.Int(e.Attempt))
	}
	if e.Delay != 0 {
		attributes = append(attributes, DelayKey.Float64(e.Delay.Seconds()))
	}
	if e.Panic != nil {
		attributes = append(attributes,
			semconv.ExceptionType(fmt.Sprintf("%T", e.Panic)), semconv.ExceptionMessage(fmt.Sprint(e.Panic)))
	}
	s.span.AddEvent(e.Name, oteltrace.WithAttributes(attributes...))
}

// End ends s with the code of the RPC's status, as the gRPC specification
// writes it ("OK", "NOT_FOUND"), and the text of the status. Whether the span
// counts as an error depends on the side: see the package documentation.
func (s Span) End(code, text string) {
	if s.span.IsRecording() {
		s.span.SetAttributes(semconv.RPCResponseStatusCode(code))
		if IsError(code, s.server) {
			s.span.SetAttributes(semconv.ErrorTypeKey.String(code))
			s.span.SetStatus(codes.Error, text)
		}
	}
	s.span.End()
}

// IsError reports whether an RPC that ended with code, as the gRPC specification
// writes it, failed on its server, or else on its client, by the semantic
// conventions: for a client that is every code but OK, for a server it is UNKNOWN,
// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
func IsError(code string, server bool) bool {
	if !server {
		return code != "OK"
	}
	switch code {
	case "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS":
		return true
	default:
		return false
	}
}
