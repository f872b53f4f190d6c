package interop

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/testdata"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// A transport is what connects client and servers.
type transport struct {
	name string
	tcp  bool
	tls  bool
}

var transports = []transport{{name: "bufconn"}, {name: "tcp", tcp: true}, {name: "tls", tcp: true, tls: true}}

// TestFleet runs the test cases through everything that a stack usually has, on
// both sides, to two servers among which turret.P2C chooses.
func TestFleet(t *testing.T) {
	for _, tr := range transports {
		for _, w := range weaknesses {
			t.Run(tr.name+"/"+w.name, func(t *testing.T) {
				if os.Getenv(inChild) == "" {
					runInChild(t)
					return
				}
				f := startFleet(t, tr, &w, balance.WithP2C(balance.Config{}))
				for range rounds {
					f.run(t, w.without)
				}
				f.stop(t)
				for i, r := range f.rooms {
					if r.Stats().Entered == 0 {
						t.Errorf("server %d had nothing to do", i)
					}
				}
				t.Log(allPassed)
			})
		}
	}
}

// TestORCA runs a test case that has a balancing policy of its own, to which the
// case speaks through the context of the RPC and the servers through trailers.
func TestORCA(t *testing.T) {
	if os.Getenv(inChild) == "" {
		runInChild(t)
		return
	}
	healthy := weaknesses[0]
	f := startFleet(t, transports[0], &healthy,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	interop.DoORCAPerRPCTest(ctx, testgrpc.NewTestServiceClient(f.Conn))
	f.stop(t)
	t.Log(allPassed)
}

// A fleet is two servers with a full stack each, and a client with one.
type fleet struct {
	*wire.Fleet

	circuit *breaker.Breaker
	places  *limit.Concurrency // of the client
	rooms   [2]*limit.Concurrency
	spans   *tracetest.SpanRecorder
}

func startFleet(t *testing.T, tr transport, w *weakness, policy grpc.DialOption) *fleet {
	t.Helper()
	f := &fleet{
		circuit: breaker.New(breaker.Config{}),
		places:  limit.NewConcurrency(10, limit.Queue{Max: 10, Timeout: time.Minute}),
		spans:   tracetest.NewSpanRecorder(),
	}
	for i := range f.rooms {
		f.rooms[i] = limit.NewConcurrency(100, limit.Queue{})
	}
	tracing := trace.Config{TracerProvider: sdk.NewTracerProvider(sdk.WithSpanProcessor(f.spans))}
	dial := append(f.clientStack(tracing).DialOptions(), policy)
	var secure []grpc.ServerOption
	if tr.tls {
		server, client := certificates(t)
		secure = append(secure, grpc.Creds(server))
		dial = append(dial, grpc.WithTransportCredentials(client))
	}
	f.Fleet = wire.StartFleet(t, wire.FleetConfig{
		Servers: len(f.rooms),
		TCP:     tr.tcp,
		Register: func(_ int, s grpc.ServiceRegistrar) {
			testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
		},
		Server: func(i int) []grpc.ServerOption {
			options := append(slices.Clone(secure), f.serverStack(i, tracing).ServerOptions()...)
			return append(options, orca.CallMetricsServerOption(nil),
				grpc.ChainUnaryInterceptor(w.unary), grpc.ChainStreamInterceptor(w.stream))
		},
		Dial: dial,
	})
	return f
}

func (f *fleet) clientStack(tracing trace.Config) *interceptors.Stack {
	return interceptors.New(
		interceptors.Trace(tracing),
		interceptors.Timeout(time.Minute),
		interceptors.Admit(f.circuit),
		interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: retry.Unlimited}),
		interceptors.Trace(tracing),
		interceptors.Timeout(30*time.Second),
		interceptors.Admit(f.places),
	)
}

func (f *fleet) serverStack(i int, tracing trace.Config) *interceptors.Stack {
	return interceptors.New(
		interceptors.Recover(),
		interceptors.Trace(tracing),
		interceptors.LoadShed(),
		interceptors.Admit(f.rooms[i]),
		interceptors.Timeout(time.Minute),
	)
}

// certificates returns credentials with gRPC's own test certificates.
func certificates(t *testing.T) (server, client credentials.TransportCredentials) {
	t.Helper()
	server, err := credentials.NewServerTLSFromFile(testdata.Path("x509/server1_cert.pem"), testdata.Path("x509/server1_key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	client, err = credentials.NewClientTLSFromFile(testdata.Path("x509/server_ca_cert.pem"), "x.test.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// run runs all test cases but some, once.
func (f *fleet) run(t *testing.T, without []string) {
	t.Helper()
	for _, c := range testCases {
		if slices.Contains(without, c.name) {
			continue
		}
		t.Log(c.name)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		c.do(ctx, testgrpc.NewTestServiceClient(f.Conn), f.Conn)
		cancel()
		// Every case has seen the end of each of its RPCs.
		if s := f.places.Stats(); s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("after %s, the client's limit: %+v", c.name, s)
		}
		if s := f.circuit.Stats(); s.InFlight != 0 || s.Opened != 0 {
			t.Errorf("after %s, the client's breaker: %+v", c.name, s)
		}
	}
}

// stop stops client and servers, and asserts that nothing is held.
func (f *fleet) stop(t *testing.T) {
	t.Helper()
	f.Stop()
	for i, r := range f.rooms {
		if s := r.Stats(); s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("the limit of server %d: %+v", i, s)
		}
	}
	if started, ended := len(f.spans.Started()), len(f.spans.Ended()); started != ended || started == 0 {
		t.Errorf("%d spans were started, and %d ended", started, ended)
	}
}
