package balance_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// BenchmarkPick is a pick and the end of its call.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			conn, policy, err := fakeconn.Start(balance.Name, "{}", fakeconn.Endpoints(n))
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
