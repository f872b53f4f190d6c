package bench

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/interceptors"
	echoserver "github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

func insecurely() grpc.DialOption { return grpc.WithTransportCredentials(insecure.NewCredentials()) }

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

// chains is gRPC's own chain of n interceptors that do nothing, on each side.
func chains(n int) (s side) {
	for range n {
		s.dial = append(s.dial, grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		}))
		s.server = append(s.server, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, req)
		}))
	}
	return s
}

// BenchmarkEndToEnd is a unary echo of 100 bytes over loopback, client and
// server in one process.
func BenchmarkEndToEnd(b *testing.B) {
	ctx := withDeadline(b)
	failsafe := side{
		dial:   []grpc.DialOption{grpc.WithChainUnaryInterceptor(failsafegrpc.NewUnaryClientInterceptor(failsafeFive()...))},
		server: []grpc.ServerOption{grpc.ChainUnaryInterceptor(failsafegrpc.NewUnaryServerInterceptor(failsafeFive()...))},
	}
	one := interceptors.New(pass)
	five := func() *interceptors.Stack { return interceptors.New(fiveLayers(time.Hour)...) }
	timers := func() *interceptors.Stack { return interceptors.New(fiveLayers(time.Second)...) }
	var rows []row
	for _, r := range []struct {
		name string
		side side
	}{
		{"bare", side{}},
		{"bare, again", side{}},
		{"a layer that does nothing", stacks(one, one)},
		{"five layers", stacks(five(), five())},
		{"five layers, with timers", stacks(timers(), timers())},
		{"gRPC: chains of 10", chains(10)},
		{"failsafegrpc: five policies", failsafe},
	} {
		c, req := connected(b, r.side), &echov1.UnaryRequest{Payload: make([]byte, 100)}
		rows = append(rows, row{r.name, func() {
			if _, err := c.Unary(ctx, req); err != nil {
				b.Fatal(err)
			}
		}})
	}
	compare(b, rows...)
}

// BenchmarkStream is an empty stream that both sides send nothing on, and a
// message there and back on one that is open.
func BenchmarkStream(b *testing.B) {
	one, four := interceptors.New(pass), interceptors.New(fiveLayers(time.Hour)[:4]...)
	sides := []struct {
		name string
		side side
	}{
		{"bare", side{}},
		{"bare, again", side{}},
		{"client", stacks(one, nil)},
		{"client, four layers", stacks(four, nil)},
		{"server", stacks(nil, one)},
		{"server, four layers", stacks(nil, four)},
		{"both", stacks(one, one)},
	}
	b.Run("Empty", func(b *testing.B) {
		ctx := withDeadline(b)
		var rows []row
		for _, s := range sides {
			c := connected(b, s.side)
			rows = append(rows, row{s.name, func() {
				stream, err := c.BidiStream(ctx)
				if err != nil {
					b.Fatal(err)
				}
				_ = stream.CloseSend()
				if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
			}})
		}
		compare(b, rows...)
	})
	b.Run("Message", func(b *testing.B) {
		ctx := withDeadline(b)
		var rows []row
		for _, s := range sides {
			stream, err := connected(b, s.side).BidiStream(ctx)
			if err != nil {
				b.Fatal(err)
			}
			req := &echov1.BidiStreamRequest{Payload: make([]byte, 100)}
			rows = append(rows, row{s.name, func() {
				if err := stream.Send(req); err != nil {
					b.Fatal(err)
				}
				if _, err := stream.Recv(); err != nil {
					b.Fatal(err)
				}
			}})
		}
		compare(b, rows...)
	})
}
