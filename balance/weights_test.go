package balance_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// weighted returns an endpoint for each of the weights.
func weighted(weights ...uint32) []resolver.Endpoint {
	endpoints := fakeconn.Endpoints(len(weights))
	for i, w := range weights {
		endpoints[i] = weight.Set(endpoints[i], weight.EndpointInfo{Weight: w})
	}
	return endpoints
}

// traffic sends calls of about 10 ms at random instants, so many that inFlight
// are in flight on average, and returns how many each endpoint got.
func (f *fleet) traffic(calls int, inFlight float64) map[string]int {
	random := rand.New(rand.NewPCG(1, 2))
	counts := map[string]int{}
	var wg sync.WaitGroup
	for range calls {
		p := f.pick()
		counts[p.address]++
		takes := time.Duration((0.5 + random.Float64()) * float64(10*time.Millisecond))
		wg.Go(func() {
			time.Sleep(takes)
			p.done(answered)
		})
		time.Sleep(time.Duration(random.ExpFloat64() * float64(10*time.Millisecond) / inFlight))
		synctest.Wait() // the order of what happens at one instant is that of the goroutines
	}
	wg.Wait()
	return counts
}

// TestWeightsAreKept holds the shares of endpoints with weights: whether they are
// idle or busy, each gets the share of the calls that its weight says.
func TestWeightsAreKept(t *testing.T) {
	for _, weights := range [][]uint32{{1, 9}, {1, 1, 8}} {
		for _, inFlight := range []float64{0.1, 1, 10} {
			t.Run(fmt.Sprint(weights, inFlight), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					f := newFleet(t, balance.Config{}, weighted(weights...))
					const calls = 20_000
					counts := f.traffic(calls, inFlight)
					const most = 0.02
					for i, w := range weights {
						want := float64(w) / 10
						got := float64(counts[fmt.Sprintf("e%05d", i)]) / calls
						t.Logf("weight %d: %.3f", w, got)
						if got < want-most || got > want+most {
							t.Errorf("the endpoint of weight %d has a share of %.3f, want %.2f, %.2f more or less", w, got, want, most)
						}
					}
				})
			})
		}
	}
}

// TestWeightsAreKeptBesideABan has three endpoints of which the heaviest is
// banned: the others keep their ratio.
func TestWeightsAreKeptBesideABan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{Failures: balance.Failures{BanFor: 1000 * time.Hour, MaxBanFor: 1000 * time.Hour}}, weighted(5, 2, 3))
		f.serve(100, sick(down))
		counts := f.traffic(20_000, 1)
		if counts[first] != 0 {
			t.Fatalf("%d calls to a banned endpoint", counts[first])
		}
		if got := float64(counts["e00001"]) / 20_000; got < 0.38 || got > 0.42 {
			t.Errorf("the endpoint of weight 2 beside one of weight 3 has a share of %.3f, want 0.40", got)
		}
	})
}

// TestWeightsDoNotHideASickEndpoint has an endpoint of great weight that is ten
// times slower than the others: it gets the calls for which it is its own rival,
// the square of its weight.
func TestWeightsDoNotHideASickEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, weighted(8, 1, 1, 1, 1, 1))
		slow := 0
		for range 5000 {
			p := f.pick()
			takes := 10 * time.Millisecond
			if p.address == first {
				takes *= 10
				slow++
			}
			time.Sleep(takes)
			p.done(answered)
		}
		if share := float64(slow) / 5000; share > 0.45 {
			t.Errorf("the slow endpoint has a share of %.2f of the calls, its weight is %.2f", share, 8./13)
		}
	})
}
