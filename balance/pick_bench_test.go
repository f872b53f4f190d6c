package balance_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/fakeconn"
	"github.com/turret-go/turret/limit"
)

// BenchmarkPick is a pick and the end of its call.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			conn, policy, err := fakeconn.StartInBulk(balance.Name, "{}", fakeconn.Endpoints(n))
			if err != nil {
				b.Fatal(err)
			}
			defer policy.Close()
			state, _ := conn.State()
			info := balancer.PickInfo{FullMethodName: "/bench.Bench/Unary", Ctx: context.Background()}
			answered := balancer.DoneInfo{BytesSent: true, BytesReceived: true}
			b.ReportAllocs()
			for b.Loop() {
				r, err := state.Picker.Pick(info)
				if err != nil {
					b.Fatal(err)
				}
				r.Done(answered)
			}
		})
	}
}

// BenchmarkBalancer is a call through a Balancer over services that do nothing:
// what BenchmarkPick does, and a question for readiness.
func BenchmarkBalancer(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			services := make([]turret.Service[int, int], n)
			for i := range services {
				services[i] = turret.ServiceFunc(func(context.Context, int) (int, error) { return i, nil })
			}
			balancer := balance.New(discover.List(services...), balance.Config{}, nil)
			defer balancer.Close()
			for balancer.Stats().Ready < n {
				runtime.Gosched()
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := balancer.Call(ctx, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBalancerBusy is BenchmarkBalancer over services with room for one call
// each, of which two thirds are taken at a time, so that they become full and have
// room again all the time.
func BenchmarkBalancerBusy(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			services := make([]turret.Service[int, int], n)
			for i := range services {
				one := turret.Gated[int, int](limit.NewConcurrency(1, limit.Queue{}), nil)
				services[i] = one(turret.ServiceFunc(func(context.Context, int) (int, error) {
					runtime.Gosched()
					return i, nil
				}))
			}
			balancer := balance.New(discover.List(services...), balance.Config{}, nil)
			defer balancer.Close()
			b.SetParallelism(max(1, n*2/3/runtime.GOMAXPROCS(0)))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := balancer.Call(context.Background(), 0); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
