package traffic

import (
	"bytes"
	"context"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Await waits until condition holds, and returns how long that took. It fails the
// test with what say returns if the condition does not hold within the bound.
// While the process stands still the bound does too.
func Await(t testing.TB, what string, bound time.Duration, condition func() bool, say func() string) time.Duration {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	waited := time.Duration(0)
	for last := began; ; <-tick.C {
		now := time.Now()
		waited += min(now.Sub(last), pause)
		last = now
		switch {
		case condition():
			return time.Since(began)
		case waited > bound:
			t.Fatalf("after %v: still not: %s. %s", bound, what, say())
		}
	}
}

// Goroutines returns the stacks of all goroutines.
func Goroutines() string {
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // a buffer takes all
	return stacks.String()
}

// Spans counts the spans of a TracerProvider. The zero value is ready.
type Spans struct{ started, ended atomic.Int64 }

// Count returns how many spans were started, and how many have ended.
func (s *Spans) Count() (started, ended int64) {
	ended = s.ended.Load() // first, so that it is never the larger one
	return s.started.Load(), ended
}

// OnStart counts a span that starts.
func (s *Spans) OnStart(context.Context, sdk.ReadWriteSpan) { s.started.Add(1) }

// OnEnd counts a span that ends.
func (s *Spans) OnEnd(sdk.ReadOnlySpan) { s.ended.Add(1) }

// Shutdown does nothing.
func (s *Spans) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (s *Spans) ForceFlush(context.Context) error { return nil }
