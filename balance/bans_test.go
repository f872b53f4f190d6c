package balance_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
)

var errChance = errors.New("failed by chance")

// unlucky is a service whose calls take 1 ms, and of which this share fails.
type unlucky struct {
	share  float64
	random *rand.Rand
	calls  int
}

func (*unlucky) Ready(context.Context) error { return nil }

func (u *unlucky) Call(context.Context, int) (int, error) {
	u.calls++
	time.Sleep(time.Millisecond)
	if u.random.Float64() < u.share {
		return 0, errChance
	}
	return 0, nil
}

// Where calls fail everywhere, rows of failures are chance: hardly any endpoint
// is banned for them. An endpoint that fails more than the others still is.
func TestFailuresOfAll(t *testing.T) {
	tests := []struct {
		name         string
		first, other float64 // the shares that fail
		bans         uint64  // at most
		calls        int     // of the first, at most
	}{
		{"one call in eight", 0.125, 0.125, 2, 8000},
		{"one call in three", 0.333, 0.333, 2, 8000},
		{"two calls in three", 0.667, 0.667, 20, 9000}, // with two of four banned for a while
		{"one endpoint fails", 1, 0.001, 20, 60},
		{"one endpoint fails, and the others now and then", 1, 0.125, 20, 60},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var services []turret.Service[int, int]
				for i := range 4 {
					services = append(services, &unlucky{tt.other, rand.New(rand.NewPCG(1, uint64(i))), 0})
				}
				first := services[0].(*unlucky)
				first.share = tt.first
				b := balance.New(discover.List(services...), balance.Config{Seed: 1}, nil)
				defer b.Close()
				synctest.Wait() // all are ready: the choices are the same every time
				for range 20_000 {
					if _, err := b.Call(t.Context(), 0); err != nil && !errors.Is(err, errChance) {
						t.Fatal(err)
					}
				}
				if s := b.Stats(); s.Bans > tt.bans || first.calls > tt.calls {
					t.Errorf("%d bans, %d of 20000 calls went to the first of 4; want at most %d and %d", s.Bans, first.calls, tt.bans, tt.calls)
				}
			})
		})
	}
}
