package interceptors_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A watched gate is an adaptive limit with what it went through.
type watchedGate struct {
	*adaptive.Limit

	least, most, peak int // limits, and calls inside
}

func (g *watchedGate) look() {
	s := g.Stats()
	g.least, g.most, g.peak = min(g.least, s.Limit), max(g.most, s.Limit), max(g.peak, s.InFlight)
}

func watchGates(n int) []*watchedGate {
	gates := make([]*watchedGate, n)
	for i := range gates {
		gates[i] = &watchedGate{Limit: adaptive.New(adaptive.Config{}), least: 1 << 30}
	}
	return gates
}

// survives makes RPCs at 0.6 of capacity, at twice that of it for five seconds, and
// at 0.6 again, and demands that the server is used and that the limits stay near
// what is used.
func survives(t *testing.T, capacity int, client echov1.EchoServiceClient, gates []*watchedGate) {
	t.Helper()
	var answered, failed atomic.Int64
	var mu sync.Mutex
	play := func(perSecond int, d time.Duration) {
		answered.Store(0)
		failed.Store(0)
		surge(perSecond, d, func(int) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := client.Unary(ctx, &echov1.UnaryRequest{}); err != nil {
				failed.Add(1)
			} else {
				answered.Add(1)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, g := range gates {
				g.look()
			}
		})
	}
	play(capacity*6/10, time.Second)
	play(2*capacity, 3*time.Second)
	play(2*capacity, 2*time.Second)
	if got := float64(answered.Load()) / float64(2*capacity); got < 0.85 {
		t.Errorf("goodput %.3f of what the servers can do", got)
	}
	play(capacity*6/10, time.Second)
	play(capacity*6/10, time.Second)
	if failed.Load() > answered.Load()/50 {
		t.Errorf("%d of %d calls failed a second after the surge", failed.Load(), failed.Load()+answered.Load())
	}
	for i, g := range gates {
		t.Logf("gate %d: limit between %d and %d, at most %d inside", i, g.least, g.most, g.peak)
		if g.least < 2 || g.most > max(2*g.peak, 20) {
			t.Errorf("gate %d: limit between %d and %d although at most %d calls were inside", i, g.least, g.most, g.peak)
		}
	}
}

// A gate whose calls wait in another gate takes the wait for latency: neither may
// close, nor open without end.
func TestTwoAdaptiveLimitsInARow(t *testing.T) {
	inBubble(t, "server", func(t *testing.T) {
		gates := watchGates(2)
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) {
				echov1.RegisterEchoServiceServer(s, &busy{workers: make(chan struct{}, 16), work: 4 * busyWork})
			},
			Server: interceptors.New(interceptors.AdmitAdaptive(gates[0].Limit), interceptors.AdmitAdaptive(gates[1].Limit)).ServerOptions(),
		})
		survives(t, busyCapacity, echov1.NewEchoServiceClient(p.Conn), gates)
	})
	inBubble(t, "client and server", func(t *testing.T) {
		gates := watchGates(2)
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) {
				echov1.RegisterEchoServiceServer(s, &busy{workers: make(chan struct{}, 16), work: 4 * busyWork})
			},
			Server: interceptors.New(interceptors.AdmitAdaptive(gates[0].Limit)).ServerOptions(),
			Dial:   interceptors.New(interceptors.AdmitAdaptive(gates[1].Limit)).DialOptions(),
		})
		survives(t, busyCapacity, echov1.NewEchoServiceClient(p.Conn), gates)
	})
}

// On the client's side a gate limits what all servers behind a balancer get.
func TestAdaptiveLimitAroundABalancer(t *testing.T) {
	inBubble(t, "round_robin", func(t *testing.T) {
		gates := watchGates(1)
		fleet := wire.StartFleet(t, wire.FleetConfig{
			Servers: 2,
			Register: func(_ int, s grpc.ServiceRegistrar) {
				echov1.RegisterEchoServiceServer(s, &busy{workers: make(chan struct{}, 16), work: 4 * busyWork})
			},
			Dial: append(interceptors.New(interceptors.AdmitAdaptive(gates[0].Limit)).DialOptions(), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)),
		})
		survives(t, 2*busyCapacity, echov1.NewEchoServiceClient(fleet.Conn), gates)
	})
}
