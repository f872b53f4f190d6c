package turret

import (
	"context"
	"slices"
)

// A Layer wraps a [Service] in another one of the same type. It is called when
// a stack is built, once for each service that it wraps.
//
// A layer is usually a struct that embeds the inner Service and overrides
// Call; Ready is then forwarded by the language:
//
//	type latency[Req, Res any] struct{ turret.Service[Req, Res] }
//
// State belongs to the call that made the Layer value: one value used twice
// shares its limit, its budget and its window between both services. State of
// one endpoint comes from a function that makes layers.
//
// A Layer may be called concurrently, and what it makes is a Service, which may
// be too.
type Layer[Req, Res any] func(inner Service[Req, Res]) Service[Req, Res]

// Stack returns the layers as one [Layer]. The first one listed is outermost:
// Stack(a, b)(s) is a(b(s)). A nil layer is skipped, and an empty stack returns
// the service unchanged. The slice is not kept.
//
// Nothing is put around a(b(s)), so what is returned has the methods of what a
// makes (the Close of a buffer), and prints as that alone. A list of layers that
// is used in several places, and is to be printed there, is better kept as a
// slice.
func Stack[Req, Res any](layers ...Layer[Req, Res]) Layer[Req, Res] {
	layers = slices.Clone(layers)
	return func(s Service[Req, Res]) Service[Req, Res] {
		for _, layer := range slices.Backward(layers) {
			if layer != nil {
				s = layer(s)
			}
		}
		return s
	}
}

// Wrap returns a [Layer] made of f, which runs around each call of inner. Ready
// is forwarded. f may be called concurrently. It panics if f is nil.
//
// A limit is not to be written with Wrap: make it a [Gate], so that Ready tells
// the truth about it.
func Wrap[Req, Res any](f func(ctx context.Context, req Req, inner Service[Req, Res]) (Res, error)) Layer[Req, Res] {
	if f == nil {
		misused("Wrap", "function", nil, "non-nil")
	}
	return func(inner Service[Req, Res]) Service[Req, Res] {
		return &wrapped[Req, Res]{inner, f}
	}
}

type wrapped[Req, Res any] struct {
	Service[Req, Res]

	f func(ctx context.Context, req Req, inner Service[Req, Res]) (Res, error)
}

func (w *wrapped[Req, Res]) Call(ctx context.Context, req Req) (Res, error) {
	return w.f(ctx, req, w.Service)
}
