package balance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/randomsubsetting"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/attempts"
)

// A backend is a real server on an in-memory connection.
type backend struct {
	testpb.UnimplementedTestServiceServer

	server   *grpc.Server
	listener *bufconn.Listener
	health   *health.Server

	mu    sync.Mutex
	calls int
	fail  error
	block chan struct{} // calls wait for it
}

func (b *backend) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	b.mu.Lock()
	b.calls++
	fail, block := b.fail, b.block
	b.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
		}
	}
	return &testpb.SimpleResponse{}, fail
}

func (b *backend) FullDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		if _, err := s.Recv(); err != nil {
			return nil //nolint:nilerr // the client has closed
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// A world is some backends and a client in a synctest bubble.
type world struct {
	*testing.T

	backends []*backend
	resolver *manual.Resolver
	conn     *grpc.ClientConn
	client   testpb.TestServiceClient
	options  []grpc.DialOption // of conn
}

// inWorld runs f; nothing may be left running after it.
func inWorld(t *testing.T, backends int, serviceConfig string, f func(w *world), opts ...grpc.DialOption) {
	t.Helper()
	inWorldOf(t, backends, func(int) *grpc.Server { return grpc.NewServer() }, serviceConfig, f, opts...)
}

// inWorldOf is inWorld with servers that newServer makes.
func inWorldOf(t *testing.T, backends int, newServer func(i int) *grpc.Server, serviceConfig string, f func(w *world), opts ...grpc.DialOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, resolver: manual.NewBuilderWithScheme("test")}
		for i := range backends {
			b := &backend{server: newServer(i), listener: bufconn.Listen(1 << 16), health: health.NewServer()}
			testpb.RegisterTestServiceServer(b.server, b)
			healthpb.RegisterHealthServer(b.server, b.health)
			go func() { _ = b.server.Serve(b.listener) }()
			w.backends = append(w.backends, b)
		}
		w.resolver.InitialState(resolver.State{Endpoints: w.endpoints()})
		opts = append(slices.Clip(opts),
			grpc.WithResolvers(w.resolver), grpc.WithDefaultServiceConfig(serviceConfig),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(_ context.Context, a string) (net.Conn, error) {
				var i int
				if _, err := fmt.Sscanf(a, "b%d", &i); err != nil || i >= len(w.backends) {
					return nil, errors.New("connection refused")
				}
				return w.backends[i].listener.Dial()
			}))
		conn, err := grpc.NewClient("test:///backends", opts...)
		if err != nil {
			t.Fatal(err)
		}
		w.conn, w.client, w.options = conn, testpb.NewTestServiceClient(conn), opts
		conn.Connect()
		time.Sleep(time.Second)
		f(w)
		_ = conn.Close()
		for _, b := range w.backends {
			b.server.Stop()
		}
		time.Sleep(time.Minute)
	})
}

func (w *world) endpoints(other ...string) (all []resolver.Endpoint) {
	for i := range w.backends {
		other = append(other, fmt.Sprintf("b%d", i))
	}
	for _, a := range other {
		all = append(all, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	return all
}

func (w *world) call(opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	_, err := w.client.UnaryCall(ctx, &testpb.SimpleRequest{}, opts...)
	return err
}

func (w *world) mustCall(n int) {
	w.Helper()
	for range n {
		if err := w.call(); err != nil {
			w.Fatalf("call: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestGRPC(t *testing.T) {
	inWorld(t, 4, balance.ServiceConfig(balance.Config{Seed: 1}), func(w *world) {
		w.mustCall(400)
		for i, b := range w.backends {
			if n := b.count(); n < 60 || n > 140 {
				w.Errorf("backend %d had %d of 400 calls", i, n)
			}
		}
	})
}

// Without an endpoint a call fails at once and clearly, and one that waits for
// readiness waits.
func TestNoEndpoints(t *testing.T) {
	inWorld(t, 1, balance.ServiceConfig(balance.Config{}), func(w *world) {
		w.resolver.UpdateState(resolver.State{})
		time.Sleep(time.Second)
		err := w.call()
		if want := "balance: there is no endpoint: the resolver names none"; status.Code(err) != codes.Unavailable || status.Convert(err).Message() != want {
			w.Errorf("error %v, want UNAVAILABLE: %s", err, want)
		}
		time.AfterFunc(10*time.Second, func() { w.resolver.UpdateState(resolver.State{Endpoints: w.endpoints()}) })
		start := time.Now()
		if err := w.call(grpc.WaitForReady(true)); err != nil || time.Since(start) < 10*time.Second {
			w.Errorf("wait-for-ready: %v after %v", err, time.Since(start))
		}
	})
}

// Endpoints that cannot be reached are left out; if all are, the status says
// why.
func TestUnreachable(t *testing.T) {
	inWorld(t, 2, balance.ServiceConfig(balance.Config{}), func(w *world) {
		w.resolver.UpdateState(resolver.State{Endpoints: w.endpoints("nowhere", "elsewhere")})
		time.Sleep(time.Second)
		w.mustCall(100)
		w.resolver.UpdateState(resolver.State{Endpoints: w.endpoints("nowhere", "elsewhere")[:2]})
		time.Sleep(10 * time.Second)
		if err := w.call(); status.Code(err) != codes.Unavailable {
			w.Errorf("error %v, want UNAVAILABLE", err)
		}
	})
}

// The refusal of a pick reaches the caller as it is.
func TestRefusalReachesTheCaller(t *testing.T) {
	inWorld(t, 1, balance.ServiceConfig(balance.Config{Limit: 1}), func(w *world) {
		w.backends[0].block = make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			if err := w.call(); err != nil {
				w.Errorf("first call: %v", err)
			}
		})
		synctest.Wait()
		for _, wait := range []bool{false, true} {
			err := w.call(grpc.WaitForReady(wait))
			r, ok := errors.AsType[*turret.Refusal](err)
			if status.Code(err) != codes.ResourceExhausted || !ok || r.Reason != turret.ReasonLimitFull {
				w.Errorf("wait-for-ready %v: %v, want a refusal with RESOURCE_EXHAUSTED", wait, err)
			}
		}
		close(w.backends[0].block)
		all.Wait()
	})
}

// The policy works as the child of one that writes its config and parses it
// again.
func TestRandomSubsetting(t *testing.T) {
	child := balance.PolicyConfig(balance.Config{SlowStart: 1500 * time.Millisecond, Limit: 5})
	inWorld(t, 5, `{"loadBalancingConfig":[{"random_subsetting_experimental":{"subsetSize":2,"childPolicy":[`+child+`]}}]}`, func(w *world) {
		w.mustCall(100)
		used := 0
		for _, b := range w.backends {
			if b.count() > 0 {
				used++
			}
		}
		if used != 2 {
			w.Errorf("%d backends were used, want 2", used)
		}
	})
}

// An endpoint that says it is not serving gets no calls.
func TestHealthChecks(t *testing.T) {
	sc := `{"healthCheckConfig":{"serviceName":"x"},"loadBalancingConfig":[` + balance.PolicyConfig(balance.Config{Seed: 1}) + `]}`
	inWorld(t, 3, sc, func(w *world) {
		for _, b := range w.backends[1:] {
			b.health.SetServingStatus("x", healthpb.HealthCheckResponse_SERVING)
		}
		w.backends[0].health.SetServingStatus("x", healthpb.HealthCheckResponse_NOT_SERVING)
		time.Sleep(time.Second)
		w.mustCall(50)
		if n := w.backends[0].count(); n != 0 {
			w.Errorf("%d calls to a backend that does not serve", n)
		}
		w.backends[0].health.SetServingStatus("x", healthpb.HealthCheckResponse_SERVING)
		time.Sleep(5 * time.Second)
		w.mustCall(50)
		if w.backends[0].count() == 0 {
			w.Error("no calls to a backend that serves again")
		}
	})
}

// gRPC's own retries avoid the backends that the RPC has tried.
func TestRetriesGoElsewhere(t *testing.T) {
	sc := `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.001s","maxBackoff":"0.001s",` +
		`"backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}],"loadBalancingConfig":[` + balance.PolicyConfig(balance.Config{}) + `]}`
	recorded := grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, _ = attempts.NewContext(ctx, attempts.Unary)
		return invoke(ctx, method, req, reply, cc, opts...)
	})
	inWorld(t, 4, sc, func(w *world) {
		for _, b := range w.backends[:3] {
			b.fail = status.Error(codes.Unavailable, "down")
		}
		w.mustCall(50)
	}, recorded)
}

// A connection that is cut in the middle of streams ends them with a clear
// status, gives their room back, and takes the endpoint out.
func TestCutConnection(t *testing.T) {
	inWorld(t, 2, balance.ServiceConfig(balance.Config{Limit: 4}), func(w *world) {
		var streams []grpc.BidiStreamingClient[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]
		for range 8 {
			s, err := w.client.FullDuplexCall(w.Context())
			if err != nil {
				w.Fatal(err)
			}
			if err := s.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
				w.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				w.Fatal(err)
			}
			streams = append(streams, s)
		}
		if err := w.call(); status.Code(err) != codes.ResourceExhausted {
			w.Errorf("with 8 streams open: %v, want RESOURCE_EXHAUSTED", err)
		}
		w.backends[0].server.Stop()
		cut := 0
		for _, s := range streams {
			if err := s.CloseSend(); err != nil {
				w.Fatal(err)
			}
			switch _, err := s.Recv(); {
			case status.Code(err) == codes.Unavailable:
				cut++
			case !errors.Is(err, io.EOF):
				w.Errorf("stream ended with %v", err)
			}
		}
		if cut != 4 {
			w.Errorf("%d of 8 streams were cut, want the 4 of one backend", cut)
		}
		time.Sleep(time.Second)
		w.mustCall(20)
	})
}
