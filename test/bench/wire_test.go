package bench

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"

	"github.com/turret-go/turret/interceptors"
	echoserver "github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/bench/measure"
)

// A side is what a connection has on both of its ends.
type side struct {
	dial   []grpc.DialOption
	server []grpc.ServerOption
}

func stacks(client, server *interceptors.Stack) (s side) {
	if client != nil {
		s.dial = client.DialOptions()
	}
	if server != nil {
		s.server = server.ServerOptions()
	}
	return s
}

// connected returns a client of an Echo server on loopback TCP.
func connected(b *testing.B, s side) echov1.EchoServiceClient {
	p := wire.Start(b, wire.Config{
		Register: func(r grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(r, echoserver.New("bench")) },
		Dial:     s.dial, Server: s.server, TCP: true,
	})
	return echov1.NewEchoServiceClient(p.Conn)
}

// unary returns a unary echo of 100 bytes over loopback.
func unary(ctx context.Context, b *testing.B, s side) func() {
	c, req := connected(b, s), &echov1.UnaryRequest{Payload: make([]byte, 100)}
	return func() {
		if _, err := c.Unary(ctx, req); err != nil {
			b.Error(err)
		}
	}
}

func failsafeSide() side {
	return side{
		dial:   []grpc.DialOption{grpc.WithChainUnaryInterceptor(failsafegrpc.NewUnaryClientInterceptor(failsafeFive()...))},
		server: []grpc.ServerOption{grpc.ChainUnaryInterceptor(failsafegrpc.NewUnaryServerInterceptor(failsafeFive()...))},
	}
}

func fiveSide(timeout time.Duration) side {
	return stacks(interceptors.New(fiveLayers(timeout)...), interceptors.New(fiveLayers(timeout)...))
}

// onOne runs f on one processor. With more, what an RPC costs depends on whether
// the goroutines that hand it on happen to wake each other across processors,
// which is more than most layers cost.
func onOne(f func(b *testing.B)) func(b *testing.B) {
	return func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		f(b)
	}
}

// BenchmarkEndToEnd is a unary echo of 100 bytes over loopback, client and
// server in one process. The caller has set a deadline.
func BenchmarkEndToEnd(b *testing.B) {
	b.Run("one processor", onOne(benchmarkEndToEnd))
	b.Run("all processors", benchmarkEndToEnd)
}

func benchmarkEndToEnd(b *testing.B) {
	ctx := deadline(b, time.Hour)
	one := interceptors.New(pass)
	var rows []measure.Row
	for _, s := range []struct {
		name string
		side side
	}{
		{"bare", side{}},
		{"bare, again", side{}},
		{"Turret: a layer that does nothing", stacks(one, one)},
		{"Turret: a layer that does nothing, on the client", stacks(one, nil)},
		{"Turret: Retry, on the client", stacks(interceptors.New(interceptors.Retry(retry.Config{})), nil)},
		{"Turret: five layers", fiveSide(2 * time.Hour)},
		{"Turret: five layers, with timers", fiveSide(bound / 2)},
		{"Turret: five layers, on the client", side{dial: fiveSide(2 * time.Hour).dial}},
		{"Turret: five layers, on the server", side{server: fiveSide(2 * time.Hour).server}},
		{"Turret: a layer that logs", stacks(interceptors.New(logged), interceptors.New(logged))},
		{"gRPC: chains of 10", chains(10)},
		{"failsafegrpc: five policies", failsafeSide()},
		{"go-grpc-middleware: logging", side{
			dial:   []grpc.DialOption{grpc.WithChainUnaryInterceptor(logging.UnaryClientInterceptor(discarding()))},
			server: []grpc.ServerOption{grpc.ChainUnaryInterceptor(logging.UnaryServerInterceptor(discarding()))},
		}},
		{"otelgrpc, no-op providers", otel(noSpans)},
	} {
		rows = append(rows, measure.Row{Name: s.name, F: unary(ctx, b, s.side)})
	}
	measure.Compare(b, rows...)
}
