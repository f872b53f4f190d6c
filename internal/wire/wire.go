// Package wire puts a gRPC client and server on a connection for tests: in
// memory, so that it works inside a testing/synctest bubble, or on loopback TCP.
package wire

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// A Pair is a server and a client that is connected to it.
type Pair struct {
	Server *grpc.Server
	Conn   *grpc.ClientConn

	listener net.Listener
	dial     func(context.Context, string) (net.Conn, error)
	serving  chan struct{}
	mu       sync.Mutex
	conns    []net.Conn // dialed so far
}

// Config configures a Pair. The zero value is a server without
// services on an in-memory connection.
type Config struct {
	// Register registers services on the server.
	Register func(s grpc.ServiceRegistrar)
	Server   []grpc.ServerOption
	Dial     []grpc.DialOption
	// Retry leaves gRPC's own retry on.
	Retry bool
	// TCP uses loopback TCP, outside of bubbles only.
	TCP bool
}

// Start starts the server and dials it. Both end with the test, the client
// first; the server waits for its handlers. Inside a bubble call it with the
// bubble's t.
func Start(t testing.TB, c Config) *Pair {
	t.Helper()
	p := &Pair{serving: make(chan struct{})}
	p.dial = p.listen(t, c.TCP)
	p.Server = grpc.NewServer(append(c.Server, grpc.WaitForHandlers(true))...)
	if c.Register != nil {
		c.Register(p.Server)
	}
	go func() {
		defer close(p.serving)
		_ = p.Server.Serve(p.listener) // ends with Stop
	}()
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.remember(p.dial)),
		grpc.WithDisableServiceConfig(),
	}
	if !c.Retry {
		options = append(options, grpc.WithDisableRetry()) // transparent retries stay
	}
	conn, err := grpc.NewClient("passthrough:///test", append(options, c.Dial...)...)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	p.Conn = conn
	t.Cleanup(p.Stop)
	return p
}

func (p *Pair) listen(t testing.TB, tcp bool) (dial func(context.Context, string) (net.Conn, error)) {
	if !tcp {
		l := bufconn.Listen(1 << 16)
		p.listener = l
		return func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	p.listener = l
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func (p *Pair) remember(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := dial(ctx, address)
		if err == nil {
			p.mu.Lock()
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
		}
		return conn, err
	}
}

// Dial connects to the server without a client, for tests that write their own
// frames. The connection is the caller's to close.
func (p *Pair) Dial(ctx context.Context) (net.Conn, error) { return p.dial(ctx, "") }

// Cut closes the connections that the client has made so far, as a network that
// fails. The client connects again when it is used.
func (p *Pair) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

// Stop closes the client and stops the server, once its handlers have returned.
// It may be called more than once.
func (p *Pair) Stop() {
	_ = p.Conn.Close()
	p.Server.Stop()
	<-p.serving
}
