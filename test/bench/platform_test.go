package bench

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turret-go/turret/test/bench/measure"
)

type valueKey struct{}

// BenchmarkPlatform is what layers are made of: the clock, locks, contexts,
// timers and goroutines of this machine, beside which all other figures are to
// be read.
func BenchmarkPlatform(b *testing.B) {
	ctx, start := b.Context(), time.Now()
	var mu sync.Mutex
	var count atomic.Int64
	var sum uint64
	measure.Compare(b,
		measure.Row{Name: "context.WithTimeout and cancel", F: withTimeout(ctx)},
		measure.Row{Name: "context.WithValue", F: func() { sink = context.WithValue(ctx, valueKey{}, ctx) }},
		measure.Row{Name: "time.AfterFunc and Stop", F: func() { time.AfterFunc(bound, func() {}).Stop() }},
		measure.Row{Name: "goroutine and one hand-off", F: func() {
			done := make(chan struct{})
			go close(done)
			<-done
		}},
		measure.Row{Name: "iter.Pull, one value and stop", F: func() {
			next, stop := iter.Pull(ones)
			next()
			stop()
		}},
		measure.Row{Name: "time.Now", F: func() { _ = time.Now() }},
		measure.Row{Name: "time.Since", F: func() { _ = time.Since(start) }},
		measure.Row{Name: "sync.Mutex Lock and Unlock", F: func() {
			mu.Lock()
			mu.Unlock() //nolint:staticcheck // that is all
		}},
		measure.Row{Name: "atomic.Int64 Add", F: func() { count.Add(1) }},
		measure.Row{Name: "rand/v2 Uint64", F: func() { sum += rand.Uint64() }},
	)
}

// ones is a sequence without an end.
func ones(yield func(int) bool) {
	for yield(1) {
	}
}

// sink keeps what would otherwise not escape, and so not be allocated.
var sink any

// withTimeout is what a timeout costs without any library.
func withTimeout(ctx context.Context) func() {
	return func() {
		ctx, cancel := context.WithTimeout(ctx, bound)
		_ = ctx.Done()
		cancel()
	}
}
