package adaptive_test

import (
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/limit"
)

// go test ./adaptive -run '^$' -bench . -cpu 1,2 compares the adaptive limit with
// limit.Concurrency.
func BenchmarkEnterLeave(b *testing.B) {
	gates := map[string]turret.Gate{
		"Concurrency": limit.NewConcurrency(1000, limit.Queue{}),
		"Adaptive":    adaptive.New(adaptive.Config{Start: 1000}),
	}
	for _, name := range []string{"Concurrency", "Adaptive"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := b.Context()
				for pb.Next() {
					ticket, _ := gates[name].Enter(ctx)
					gates[name].Leave(ticket, turret.Success)
				}
			})
		})
	}
}

func BenchmarkRefusal(b *testing.B) {
	gates := map[string]turret.Gate{
		"Concurrency": limit.NewConcurrency(1, limit.Queue{}),
		"Adaptive":    adaptive.New(adaptive.Config{Max: 1}),
	}
	for _, name := range []string{"Concurrency", "Adaptive"} {
		if _, err := gates[name].Enter(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := b.Context()
				for pb.Next() {
					_, _ = gates[name].TryEnter(ctx)
				}
			})
		})
	}
}
