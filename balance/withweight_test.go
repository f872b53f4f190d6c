package balance_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
)

func wantShare(t *testing.T, got, of int, want float64) {
	t.Helper()
	if share := float64(got) / float64(of); share < want-0.05 || share > want+0.05 {
		t.Errorf("the endpoint has %d of %d calls, a share of %.3f, want %.2f", got, of, share, want)
	}
}

// A service with the method Weight gets its share of a Balancer's calls.
func TestBalancerHeedsWeights(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		calls := map[string]int{}
		serve := func(name string) service {
			return turret.ServiceFunc(func(context.Context, string) (string, error) {
				calls[name]++
				time.Sleep(10 * time.Millisecond)
				return name, nil
			})
		}
		c.insert("light", serve("light"))
		c.insert("heavy", &weightedService{serve("heavy"), 3})
		c.insert("zero", &weightedService{serve("zero"), 0})
		const all = 5000
		for range all {
			if _, err := c.Call(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
		}
		wantShare(t, calls["heavy"], all, 0.6)
		wantShare(t, calls["zero"], all, 0.2)
	})
}

type weightedService struct {
	service

	weight uint32
}

func (s *weightedService) Weight() uint32 { return s.weight }

// The weight of an address is what ClientConfig.Weight says.
func TestClientConnHeedsWeights(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{
			Balance: balance.Config{Seed: 1},
			Weight: func(address string) uint32 {
				if address == "heavy" {
					return 3
				}
				return 1
			},
		})
		s.insert("heavy", "light")
		time.Sleep(5 * time.Second) // connected, and warm
		synctest.Wait()
		const all = 1000
		for range all {
			if err := s.unary(); err != nil {
				t.Fatal(err)
			}
		}
		heavy := 0
		for _, name := range s.log() {
			if name == "heavy" {
				heavy++
			}
		}
		wantShare(t, heavy, all, 0.75)
	})
}

// A resolver gives weights to addresses, or to endpoints.
func TestResolversGiveWeights(t *testing.T) {
	inWorld(t, 2, balance.ServiceConfig(balance.Config{Seed: 1}), func(w *world) {
		before := w.backends[0].count()
		for _, state := range []resolver.State{
			{Addresses: []resolver.Address{balance.WithAddressWeight(resolver.Address{Addr: "b0"}, 4), {Addr: "b1"}}},
			{Endpoints: []resolver.Endpoint{balance.WithWeight(w.endpoints()[0], 4), w.endpoints()[1]}},
		} {
			w.resolver.UpdateState(state)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			w.mustCall(1000)
			wantShare(w.T, w.backends[0].count()-before, 1000, 0.8)
			before = w.backends[0].count()
		}
	})
}
