package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/bench/measure"
)

// refusedInTap refuses all RPCs in gRPC's tap handle, with the status that the
// interceptor has: before the message is read and decoded.
func refusedInTap() side {
	gate := limit.NewConcurrency(0, limit.Queue{})
	return side{server: []grpc.ServerOption{grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
		if _, err := gate.TryEnter(ctx); err != nil {
			return nil, interceptors.Status(err).Err()
		}
		return ctx, nil
	})}}
}

// BenchmarkRefusalOverLoopback is a unary RPC that a full server refuses, in an
// interceptor and in gRPC's tap handle, and one that it answers. Client and server
// are in one process: a part of each row is the client's.
func BenchmarkRefusalOverLoopback(b *testing.B) {
	for _, size := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("%d bytes", size), onOne(func(b *testing.B) {
			ctx := deadline(b, time.Hour)
			full := interceptors.New(interceptors.ConcurrencyLimit(0, limit.Queue{}))
			measure.Compare(b,
				measure.Row{Name: "refused by an interceptor", F: refused(ctx, b, stacks(nil, full), size)},
				measure.Row{Name: "refused by an interceptor, again", F: refused(ctx, b, stacks(nil, full), size)},
				measure.Row{Name: "refused in the tap handle", F: refused(ctx, b, refusedInTap(), size)},
				measure.Row{Name: "answered", F: unary(ctx, b, side{})},
			)
		}))
	}
}

// refused returns a unary RPC of size bytes that must be refused.
func refused(ctx context.Context, b *testing.B, s side, size int) func() {
	c, req := connected(b, s), &echov1.UnaryRequest{Payload: make([]byte, size)}
	return func() {
		if _, err := c.Unary(ctx, req); status.Code(err) != codes.ResourceExhausted {
			b.Error(err)
		}
	}
}
