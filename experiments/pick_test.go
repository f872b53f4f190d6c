package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-kratos/kratos/v2/selector"
	kratosp2c "github.com/go-kratos/kratos/v2/selector/p2c"
	"github.com/zeromicro/go-zero/core/logx"
	"google.golang.org/grpc/balancer"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// The policies whose picks are measured, by the names that they are registered
// with.
var picked = []string{balance.Name, "round_robin", "least_request_experimental", "weighted_round_robin", "p2c_ewma", "selector"}

func start(tb testing.TB, name string, endpoints int) balancer.Picker {
	tb.Helper()
	logx.Disable()
	selector.SetGlobalSelector(kratosp2c.NewBuilder())
	conn, policy, err := fakeconn.Start(name, "{}", fakeconn.Endpoints(endpoints))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(policy.Close)
	state, _ := conn.State()
	return state.Picker
}

// BenchmarkPick is a pick and the end of its call, on one goroutine and on all
// processors.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, name := range picked {
			picker := start(b, name, n)
			info := balancer.PickInfo{FullMethodName: "/bench.Bench/Unary", Ctx: context.Background()}
			call := func() {
				r, err := picker.Pick(info)
				if err != nil {
					b.Error(err)
					return
				}
				if r.Done != nil {
					r.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
				}
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					call()
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", name, n), func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						call()
					}
				})
			})
		}
	}
}

// BenchmarkReady brings 1,000 endpoints up, one after the other.
func BenchmarkReady(b *testing.B) {
	for _, name := range picked[:4] {
		b.Run(name, func(b *testing.B) {
			endpoints := fakeconn.Endpoints(1000)
			for b.Loop() {
				_, policy, err := fakeconn.Start(name, "{}", endpoints)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				policy.Close()
				b.StartTimer()
			}
		})
	}
}
