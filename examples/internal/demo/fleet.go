// Package demo is what the example programs share: a fleet of Echo servers that
// misbehave, and a load on them that is measured.
package demo

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret/internal/echo"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A Server says how one server of a fleet behaves.
type Server struct {
	Name string
	// Delay is how long each RPC takes.
	Delay time.Duration
	// FailShare is the share of RPCs that fail with UNAVAILABLE, at once.
	FailShare float64
	// Options are further options of the server: its stack.
	Options []grpc.ServerOption
}

// A Fleet is a number of servers on loopback TCP.
type Fleet struct {
	servers   []*grpc.Server
	addresses []resolver.Address
	behaviors map[string]*behavior
	inMemory  map[string]*bufconn.Listener // by address
}

type inMemoryKey struct{}

// InMemory returns a context whose fleets are connected in memory, not by TCP.
// With it programs run in the virtual time of testing/synctest, in which nothing
// is late because the machine is busy.
func InMemory(ctx context.Context) context.Context {
	return context.WithValue(ctx, inMemoryKey{}, true)
}

// behavior is how a server behaves at the moment.
type behavior struct {
	name      string
	delay     atomic.Int64
	failShare atomic.Uint64 // its bits
}

func (b *behavior) set(delay time.Duration, failShare float64) {
	b.delay.Store(int64(delay))
	b.failShare.Store(math.Float64bits(failShare))
}

// Change makes the server of that name behave differently from now on.
func (f *Fleet) Change(name string, delay time.Duration, failShare float64) {
	f.behaviors[name].set(delay, failShare)
}

// StartFleet starts the servers. They run until Stop.
func StartFleet(ctx context.Context, servers ...Server) (*Fleet, error) {
	f := &Fleet{behaviors: map[string]*behavior{}, inMemory: map[string]*bufconn.Listener{}}
	for _, s := range servers {
		listener, address, err := f.listen(ctx, s.Name)
		if err != nil {
			f.Stop()
			return nil, fmt.Errorf("listen for server %s: %w", s.Name, err)
		}
		b := &behavior{name: s.Name}
		b.set(s.Delay, s.FailShare)
		f.behaviors[s.Name] = b
		server := grpc.NewServer(append(s.Options, b.options()...)...)
		echov1.RegisterEchoServiceServer(server, echo.New(s.Name))
		go func() { _ = server.Serve(listener) }() // returns nil after Stop
		f.servers = append(f.servers, server)
		f.addresses = append(f.addresses, resolver.Address{Addr: address})
	}
	return f, nil
}

// listen returns a listener for a server, and its address.
func (f *Fleet) listen(ctx context.Context, name string) (listener net.Listener, address string, err error) {
	if ctx.Value(inMemoryKey{}) != nil {
		l := bufconn.Listen(1 << 16)
		f.inMemory[name] = l
		return l, name, nil
	}
	if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, "", err
	}
	return listener, listener.Addr().String(), nil
}

// Stop stops all servers.
func (f *Fleet) Stop() {
	for _, s := range f.servers {
		s.Stop()
	}
}

// Dial connects to all servers of the fleet.
func (f *Fleet) Dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	r := manual.NewBuilderWithScheme("fleet")
	r.InitialState(resolver.State{Addresses: f.addresses})
	if len(f.inMemory) > 0 {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return f.inMemory[address].DialContext(ctx)
		}))
	}
	return grpc.NewClient(r.Scheme()+":///echo", append([]grpc.DialOption{
		grpc.WithResolvers(r),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), // gRPC's own, which would multiply with ours
	}, options...)...)
}

// options are the interceptors, innermost on the server, that make it slow or
// flaky.
func (b *behavior) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := b.misbehave(ctx); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := b.misbehave(stream.Context()); err != nil {
				return err
			}
			return handler(srv, stream)
		}),
	}
}

func (b *behavior) misbehave(ctx context.Context) error {
	if rand.Float64() < math.Float64frombits(b.failShare.Load()) {
		return status.Errorf(codes.Unavailable, "server %s is flaky", b.name)
	}
	timer := time.NewTimer(time.Duration(b.delay.Load()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
