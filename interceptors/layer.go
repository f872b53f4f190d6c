package interceptors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/turret-go/turret"
)

// A Layer is a layer around RPCs of all kinds, on both sides. The result of its
// service is the reply message of a unary RPC, and nil for a stream.
//
// What this package says of a layer holds for many RPCs at once: the services
// that its layers make may be called concurrently, and so are the functions,
// matchers, gates and interceptors that the layers are given. One Layer value
// may be used in several stacks, which then share its state.
type Layer = turret.Layer[*RPC, any]

// A Service runs RPCs. Its Call is one RPC from opening to end, streams
// included.
type Service = turret.Service[*RPC, any]

// stacked puts layers around inner, and returns the outermost service and what
// each layer made, outermost first. It panics, naming constructor, if a layer
// makes nothing.
func stacked(constructor string, layers []Layer, inner Service) (outermost Service, made []Service) {
	for i, layer := range slices.Backward(layers) {
		if layer == nil {
			continue
		}
		s := layer(inner)
		if s == nil {
			misused(constructor, fmt.Sprintf("service of layer %d", i), nil, "non-nil")
		}
		inner = prepared(s, inner)
		made = append(made, inner)
	}
	slices.Reverse(made)
	return inner, made
}

// describe returns what s prints, or else its type.
func describe(s Service) string {
	if d, ok := s.(fmt.Stringer); ok {
		return d.String()
	}
	return fmt.Sprintf("%T", s)
}

// describeInside describes layers behind a heading, each indented.
func describeInside(heading string, layers []Service) string {
	var b strings.Builder
	b.WriteString(heading)
	for _, layer := range layers {
		b.WriteString("\n  ")
		b.WriteString(strings.ReplaceAll(describe(layer), "\n", "\n  "))
	}
	return b.String()
}
