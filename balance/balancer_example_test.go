package balance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

// A Service is what is behind an address.
type Service = turret.Service[string, string]

// dial returns the service at an address. One of them has no server.
func dial(address string) Service {
	if address == "10.0.0.2:80" {
		return unreachable{}
	}
	return turret.ServiceFunc(func(context.Context, string) (string, error) { return address, nil })
}

type unreachable struct{ Service }

func (unreachable) Ready(context.Context) error { return errors.New("connection refused") }

// A balancer over services with layers of their own: discover.Map calls the
// function for each that comes, so that each has a limit for itself.
func ExampleNew() {
	addresses := discover.List("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
	endpoints := discover.Map(addresses, func(_ int, address string) Service {
		layers := turret.Stack(
			timeout.Layer[string, string](time.Second),
			turret.Gated[string, string](limit.NewConcurrency(100, limit.Queue{}), nil),
		)
		return layers(dial(address))
	})
	balancer := balance.New(endpoints, balance.Config{}, nil)
	defer balancer.Close()

	answered := map[string]bool{}
	for len(answered) < 2 {
		from, err := balancer.Call(context.Background(), "who are you?")
		if err != nil {
			fmt.Println(err)
			return
		}
		answered[from] = true
	}
	fmt.Println(slices.Sorted(maps.Keys(answered)))
	// Output: [10.0.0.1:80 10.0.0.3:80]
}

// The same for generated stubs: a connection and a stack for each address, and a
// stack around all of them, whose retries go to endpoints that were not tried.
func ExampleNewClientConn() {
	servers, stop := startServers("server-1", "server-2")
	defer stop()
	conn, err := balance.NewClientConn(discover.List("server-1", "server-2", "server-3"),
		balance.ClientConfig{
			Stack: interceptors.New(interceptors.Retry(retry.Config{})),
			Endpoint: func(string) *interceptors.Stack {
				return interceptors.New(
					interceptors.Breaker(breaker.Config{}),
					interceptors.ConcurrencyLimit(100, limit.Queue{}),
				)
			},
		},
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(servers))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	client := healthpb.NewHealthClient(conn)
	res, err := client.Check(context.Background(), new(healthpb.HealthCheckRequest))
	fmt.Println(res.GetStatus(), err)
	// Output: SERVING <nil>
}

// The addresses come from a resolver of gRPC. Here it is one that is set by hand;
// "dns:///orders.example:443" alone would ask DNS.
func ExampleResolve() {
	servers, stop := startServers("server-1", "server-2")
	defer stop()
	registry := manual.NewBuilderWithScheme("registry")
	registry.InitialState(resolver.State{Endpoints: []resolver.Endpoint{
		{Addresses: []resolver.Address{{Addr: "server-1"}}},
		{Addresses: []resolver.Address{{Addr: "server-2"}}},
	}})
	source, err := balance.Resolve("registry:///health", balance.ResolveConfig{Builder: registry})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	conn, err := balance.NewClientConn(source, balance.ClientConfig{},
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(source.Authority()), // the name that the servers have
		grpc.WithContextDialer(servers))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	client := healthpb.NewHealthClient(conn)
	res, err := client.Check(context.Background(), new(healthpb.HealthCheckRequest))
	fmt.Println(res.GetStatus(), err)
	// Output: SERVING <nil>
}

// startServers starts servers in memory, and returns how to reach them.
func startServers(names ...string) (dial func(ctx context.Context, name string) (net.Conn, error), stop func()) {
	listeners := map[string]*bufconn.Listener{}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	for _, name := range names {
		l := bufconn.Listen(1 << 16)
		listeners[name] = l
		go func() { _ = server.Serve(l) }()
	}
	return func(ctx context.Context, name string) (net.Conn, error) {
		if l, ok := listeners[name]; ok {
			return l.DialContext(ctx)
		}
		return nil, errors.New("connection refused")
	}, server.Stop
}
