package retry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

// A storm notes the instants of all calls and retries of layers that share a
// budget, while nothing that they send succeeds.
type storm struct {
	mu     sync.Mutex
	start  time.Time
	ledger *ledger
}

// layer returns a layer over a service that fails, and notes its retries.
func (s *storm) layer(b *Budget, base time.Duration) turret.Service[string, string] {
	return Layer[string, string](Config{
		MaxAttempts: 4,
		Backoff:     Backoff{Base: base},
		Budget:      b,
		OnRetry: func(context.Context, int, error, time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ledger.retries = append(s.ledger.retries, time.Since(s.start))
		},
	})(turret.ServiceFunc(func(context.Context, string) (string, error) { return "", errLost }))
}

// calls makes a call every so often until length has passed, one after the
// other.
func (s *storm) calls(ctx context.Context, service turret.Service[string, string], every, length time.Duration) {
	for time.Since(s.start) < length {
		s.mu.Lock()
		s.ledger.calls = append(s.ledger.calls, time.Since(s.start))
		s.mu.Unlock()
		_, _ = service.Call(ctx, "a")
		time.Sleep(every - time.Since(s.start)%every) // the next beat
	}
}

// The bound of a budget holds while everything fails: at every retry, at any
// rate, from one caller and from many at the same instant, through one layer
// and through several; and what it leaves room for is retried.
func TestBudgetUnderTotalFailure(t *testing.T) {
	const length = 40 * time.Second
	tests := []struct {
		callers int
		each    time.Duration // between the calls of a caller
		backoff time.Duration
	}{
		{1, time.Second, -1}, // 1 a second
		{8, 8 * time.Second, 10 * ms},
		{1, 100 * ms, -1}, // 10 a second
		{5, 500 * ms, 10 * ms},
		{1, ms, -1}, // 1,000 a second
		{100, 100 * ms, 10 * ms},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d callers every %v", tt.callers, tt.each), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewBudget(BudgetConfig{})
				s := &storm{start: time.Now(), ledger: newLedger(200_000, BudgetConfig{})}
				var wg sync.WaitGroup
				for range tt.callers {
					wg.Go(func() { s.calls(t.Context(), s.layer(b, tt.backoff), tt.each, length) })
				}
				wg.Wait()
				slices.Sort(s.ledger.calls)
				slices.Sort(s.ledger.retries)
				s.ledger.check(t)
				calls, retries := len(s.ledger.calls), len(s.ledger.retries)
				if want := int(length/tt.each) * tt.callers; calls != want {
					t.Fatalf("%d calls, want %d", calls, want)
				}
				// A fifth of the calls and one a second, and a whole Window's
				// reserve at the start. Few calls, or all at once, cannot use it all.
				most := calls/5 + 40 + 10
				if retries > most || retries < most*6/10 {
					t.Errorf("%d retries for %d calls, want %d or a little less", retries, calls, most)
				}
			})
		})
	}
}

// Each call of NewBudget is a budget of its own; one given to two layers bounds
// the sum of them.
func TestBudgetIsShared(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shared bool
		want   int
	}{{"shared", true, 10}, {"not shared", false, 20}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &storm{start: time.Now(), ledger: newLedger(0, BudgetConfig{})}
				reserve := func() *Budget { return NewBudget(BudgetConfig{Ratio: -1}) }
				b := reserve()
				first := s.layer(b, -1)
				if !tt.shared {
					b = reserve()
				}
				second := s.layer(b, -1)
				for range 10 {
					_, _ = first.Call(t.Context(), "a")
					_, _ = second.Call(t.Context(), "a")
				}
				if got := len(s.ledger.retries); got != tt.want {
					t.Errorf("%d retries of 20 calls, want %d", got, tt.want)
				}
			})
		})
	}
}
