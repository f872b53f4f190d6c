package bench

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/test/bench/measure"
)

const (
	bound  = time.Hour // never reached, by no call and no benchmark
	places = 1000      // never all taken
	often  = 1_000_000_000
)

// echo is the innermost service of the stacks without gRPC.
var echo = turret.ServiceFunc(func(_ context.Context, req *int) (any, error) { return req, nil })

type layer = turret.Layer[*int, any]

// through does nothing, as a layer that embeds its inner service.
type through struct{ turret.Service[*int, any] }

func (s through) Call(ctx context.Context, req *int) (any, error) { return s.Service.Call(ctx, req) }

func embedded(inner turret.Service[*int, any]) turret.Service[*int, any] { return through{inner} }

func wrapped() layer {
	return turret.Wrap(func(ctx context.Context, req *int, inner turret.Service[*int, any]) (any, error) {
		return inner.Call(ctx, req)
	})
}

// stacked returns a call through layers.
func stacked(ctx context.Context, layers ...layer) func() {
	s, req := turret.Stack(layers...)(echo), new(int)
	return func() { _, _ = s.Call(ctx, req) }
}

// BenchmarkLayer is what layers cost that do nothing, ten of them.
func BenchmarkLayer(b *testing.B) {
	ctx := b.Context()
	measure.Compare(b,
		measure.Row{Name: "Turret: 10 layers that embed", F: stacked(ctx, slices.Repeat([]layer{embedded}, 10)...)},
		measure.Row{Name: "Turret: 10 layers by Wrap", F: stacked(ctx, slices.Repeat([]layer{wrapped()}, 10)...)},
		measure.Row{Name: "no layer", F: stacked(ctx)},
		measure.Row{Name: "gRPC: chain of 10, client", F: chain(b, 10)},
		measure.Row{Name: "gRPC: chain of 10, server", F: serverChain(b, 10)},
	)
}
