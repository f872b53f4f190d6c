package balance_test

import (
	"context"
	"github.com/turret-go/turret/internal/fakeconn"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	"testing"
)

func BenchmarkLR(b *testing.B) {
	conn, policy, err := fakeconn.Start("least_request_experimental", "{}", fakeconn.Endpoints(10))
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
}
