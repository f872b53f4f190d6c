package wire

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// A Fleet is several servers and a client of all of them.
type Fleet struct {
	Servers []*grpc.Server
	Conn    *grpc.ClientConn

	serving sync.WaitGroup
}

// FleetConfig configures a Fleet.
type FleetConfig struct {
	// Servers is how many there are.
	Servers int
	// Register registers the services of server i.
	Register func(i int, s grpc.ServiceRegistrar)
	// Server returns the options of server i, if not nil.
	Server func(i int) []grpc.ServerOption
	// Dial are the options of the client: transport credentials other than
	// insecure ones, and the balancing policy, without which it is pick_first.
	Dial []grpc.DialOption
	// TCP uses loopback TCP, outside of bubbles only.
	TCP bool
}

// StartFleet starts the servers and a client, without gRPC's own retry. They end
// with the test, the client first; the servers wait for their handlers.
func StartFleet(t testing.TB, c FleetConfig) *Fleet {
	t.Helper()
	f := new(Fleet)
	dialers := map[string]func(context.Context, string) (net.Conn, error){}
	var state resolver.State
	for i := range c.Servers {
		var p Pair
		address := "server-" + strconv.Itoa(i)
		dialers[address] = p.listen(t, c.TCP)
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
		options := []grpc.ServerOption{grpc.WaitForHandlers(true)}
		if c.Server != nil {
			options = append(options, c.Server(i)...)
		}
		s := grpc.NewServer(options...)
		c.Register(i, s)
		f.Servers = append(f.Servers, s)
		f.serving.Go(func() { _ = s.Serve(p.listener) }) // ends with Stop
	}
	servers := manual.NewBuilderWithScheme("fleet")
	servers.InitialState(state)
	conn, err := grpc.NewClient("fleet:///test", append([]grpc.DialOption{
		grpc.WithResolvers(servers),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialers[address](ctx, address)
		}),
		grpc.WithDisableRetry(), // transparent retries stay
	}, c.Dial...)...)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	f.Conn = conn
	t.Cleanup(f.Stop)
	return f
}

// Stop closes the client and stops the servers, once their handlers have
// returned. It may be called more than once.
func (f *Fleet) Stop() {
	_ = f.Conn.Close()
	for _, s := range f.Servers {
		s.Stop()
	}
	f.serving.Wait()
}
