package discovery

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// service is the name under which the endpoints are in etcd.
const service = "orders"

// An etcd is an etcd server in this process that can be stopped and started again,
// with a client for the registrar and the resolver.
type etcd struct {
	t       *testing.T
	dir     string
	server  *embed.Etcd  // nil: stopped
	address atomic.Value // a string; "" while the server is stopped

	mu    sync.Mutex
	conns []net.Conn // of the client

	*clientv3.Client
	endpoints.Manager
}

// newEtcd starts etcd, and stops it when the test ends.
func newEtcd(t *testing.T) *etcd {
	t.Helper()
	e := &etcd{t: t, dir: t.TempDir()}
	e.start()
	t.Cleanup(e.stop)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://etcd.test:2379"}, // e.connect knows better
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(e.connect),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
				MinConnectTimeout: patience,
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	e.Client = client
	if e.Manager, err = endpoints.NewManager(client, service); err != nil {
		t.Fatal(err)
	}
	return e
}

// start starts the server, with the data that it had.
func (e *etcd) start() {
	e.t.Helper()
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c := embed.NewConfig()
	c.Dir = e.dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{loopback}, []url.URL{loopback}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{loopback}, []url.URL{loopback}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UnsafeNoFsync = true
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(c)
	if err != nil {
		e.t.Fatal(err)
	}
	e.server = server
	<-server.Server.ReadyNotify()
	e.address.Store(server.Clients[0].Addr().String())
}

// stop cuts the client's connections and stops the server, if it runs. (With
// connections the server would wait for the end of the watches, for seconds.)
func (e *etcd) stop() {
	if e.server == nil {
		return
	}
	e.cut()
	e.server.Close()
	e.server = nil
}

// cut closes the client's connections, and lets it make no other.
func (e *etcd) cut() {
	e.address.Store("")
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		_ = c.Close()
	}
	e.conns = nil
}

// part calls f, with a client of its own, while the other client cannot reach the
// server.
func (e *etcd) part(f func(other *clientv3.Client)) {
	e.t.Helper()
	e.cut()
	address := e.server.Clients[0].Addr().String()
	other, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + address}, Logger: zap.NewNop()})
	if err != nil {
		e.t.Fatal(err)
	}
	f(other)
	_ = other.Close()
	e.address.Store(address)
}

// connect connects to the server, which has another port each time that it is started.
func (e *etcd) connect(ctx context.Context, _ string) (net.Conn, error) {
	address, _ := e.address.Load().(string)
	if address == "" {
		return nil, errors.New("etcd is stopped")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.conns = append(e.conns, conn)
	}
	return conn, err
}

// do calls f until it succeeds: etcd answers with an error where it was too slow.
func (e *etcd) do(what string, f func() error) {
	e.t.Helper()
	eventually(e.t, what, func() bool { return f() == nil })
}

// put registers a server.
func (e *etcd) put(s *server, metadata any) {
	e.t.Helper()
	e.do("put", func() error {
		return e.AddEndpoint(e.t.Context(), key(s), endpoints.Endpoint{Addr: s.address, Metadata: metadata})
	})
}

// remove takes a server out.
func (e *etcd) remove(s *server) {
	e.t.Helper()
	e.do("delete", func() error { return e.DeleteEndpoint(e.t.Context(), key(s)) })
}

// key returns the key of a server in etcd.
func key(s *server) string { return service + "/" + s.address }

// lend registers a server with a lease of about ttl that nothing keeps alive, and
// returns the lease.
func (e *etcd) lend(s *server, ttl time.Duration) (id clientv3.LeaseID) {
	e.t.Helper()
	e.do("put with a lease", func() error {
		lease, err := e.Grant(e.t.Context(), int64(ttl/time.Second))
		if err != nil {
			return err
		}
		id = lease.ID
		return e.AddEndpoint(e.t.Context(), key(s), endpoints.Endpoint{Addr: s.address}, clientv3.WithLease(id))
	})
	return id
}

// revoke ends a lease, as a server does that shuts down.
func (e *etcd) revoke(id clientv3.LeaseID) {
	e.t.Helper()
	e.do("revoke", func() error {
		_, err := e.Revoke(e.t.Context(), id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil // an attempt of before did it
		}
		return err
	})
}

// expires registers a server with a short lease, and waits until it has expired.
func (e *etcd) expires(s *server) {
	e.t.Helper()
	e.lend(s, time.Second)
	eventually(e.t, "the lease has expired", func() bool {
		there, err := e.List(e.t.Context())
		_, listed := there[key(s)]
		return err == nil && !listed
	})
}
