package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A server is one endpoint of a fleet.
type server struct {
	echov1.UnimplementedEchoServiceServer

	address string // with the port
	host    netip.Addr
	sick    atomic.Bool // answers DATA_LOSS, which nothing else in these tests does
	grpc    *grpc.Server
	served  chan error
}

// Unary answers at once.
func (s *server) Unary(context.Context, *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	if s.sick.Load() {
		return nil, status.Error(codes.DataLoss, "sick")
	}
	return new(echov1.UnaryResponse), nil
}

// newFleet starts n servers with one port at different addresses, as pods of a
// service and hosts of a name in DNS have it.
func newFleet(t *testing.T, n int) []*server {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8 to be loopback addresses, as on Linux")
	}
	const tries = 100 // another program may have the port at one of the addresses
	for range tries {
		listeners, err := listen(t, n)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var fleet []*server
		for _, l := range listeners {
			fleet = append(fleet, serve(t, l))
		}
		return fleet
	}
	t.Fatal("found no port that is free at all addresses")
	return nil
}

// listen listens at the addresses from 127.0.1.1 on, all with one port.
func listen(t *testing.T, n int) (listeners []net.Listener, err error) {
	t.Helper()
	host, port := netip.MustParseAddr("127.0.1.1"), 0
	for range n {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host.String(), strconv.Itoa(port)))
		if err != nil {
			for _, other := range listeners {
				_ = other.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
		port = int(netip.MustParseAddrPort(l.Addr().String()).Port())
		host = host.Next()
	}
	return listeners, nil
}

// serve starts a server, which stops when the test ends.
func serve(t *testing.T, l net.Listener) *server {
	s := &server{
		address: l.Addr().String(), host: netip.MustParseAddrPort(l.Addr().String()).Addr(),
		grpc: grpc.NewServer(), served: make(chan error, 1),
	}
	echov1.RegisterEchoServiceServer(s.grpc, s)
	go func() { s.served <- s.grpc.Serve(l) }()
	t.Cleanup(func() {
		s.grpc.Stop()
		<-s.served //nolint:errcheck // the server was stopped
	})
	return s
}

// port returns the port that all servers of a fleet have.
func port(fleet []*server) string {
	_, port, err := net.SplitHostPort(fleet[0].address)
	if err != nil {
		panic(err)
	}
	return port
}

// addresses returns the addresses of servers.
func addresses(fleet ...*server) []string {
	all := make([]string, 0, len(fleet))
	for _, s := range fleet {
		all = append(all, s.address)
	}
	return all
}
