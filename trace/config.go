package trace

import (
	"fmt"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/turret-go/turret"
)

// A Config says where spans go and how their context travels. The zero Config
// uses what the process has set with the otel package, and is what most
// programs want.
type Config struct {
	// TracerProvider makes the spans. Nil: that of otel.SetTracerProvider, which
	// may be called later.
	TracerProvider oteltrace.TracerProvider

	// Propagator writes a span's context to the metadata of an RPC and reads it
	// there. Nil: that of otel.SetTextMapPropagator, which may be called later.
	// OpenTelemetry's default carries nothing, so that every process starts
	// traces of its own: set propagation.TraceContext.
	Propagator propagation.TextMapPropagator

	// Attributes are put on every span, behind those of the conventions. Nil:
	// none. The key of each must not be empty. What differs from RPC to RPC is
	// set on the span in the context, by the code that knows it.
	Attributes []attribute.KeyValue

	// Public says that the callers of a server are strangers: its spans start
	// traces of their own, each with a link to the caller's, so that the callers
	// decide neither what is sampled nor which trace a span belongs to. It means
	// nothing on a client.
	Public bool
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	for i, a := range c.Attributes {
		if !a.Valid() {
			return &turret.FieldError{
				Package: "trace", Field: fmt.Sprintf("Attributes[%d]", i),
				Value: string(a.Key) + "=" + a.Value.String(), Bound: "a pair of a key and a value",
			}
		}
	}
	return nil
}

// withDefaults returns c with its nil fields filled and nothing of the caller's
// kept that may change.
func (c Config) withDefaults() Config {
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	if c.Propagator == nil {
		c.Propagator = otel.GetTextMapPropagator()
	}
	c.Attributes = slices.Clone(c.Attributes)
	return c
}
