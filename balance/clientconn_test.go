package balance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/ready"
	"github.com/turret-go/turret/retry"
)

// A site is a network of echo servers and a ClientConn over those of them that the
// test inserts.
type site struct {
	*testing.T
	*balance.ClientConn
	echov1.EchoServiceClient

	changes chan discover.Change[string, string]

	mu        sync.Mutex
	listeners map[string]*bufconn.Listener // of the servers that accept connections
	servers   map[string]*grpc.Server
	saw       []string         // the servers that RPCs came to
	fails     map[string]error // what they answer
	conns     map[string]int   // connections that are open
}

// newSite is to be called in a bubble.
func newSite(t *testing.T, c balance.ClientConfig, options ...grpc.DialOption) *site {
	t.Helper()
	changes := make(chan discover.Change[string, string])
	s := newSiteOver(t, discover.Channel(changes), c, options...)
	s.changes = changes
	return s
}

// newSiteOver is newSite over another source than that of insert and remove.
func newSiteOver(t *testing.T, source discover.Source[string, string], c balance.ClientConfig, options ...grpc.DialOption) *site {
	t.Helper()
	s := &site{
		T: t, listeners: map[string]*bufconn.Listener{},
		servers: map[string]*grpc.Server{}, fails: map[string]error{}, conns: map[string]int{},
	}
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(s.dial)}, options...)
	conn, err := balance.NewClientConn(source, c, options...)
	if err != nil {
		t.Fatal(err)
	}
	s.ClientConn, s.EchoServiceClient = conn, echov1.NewEchoServiceClient(conn)
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		for _, server := range s.servers {
			server.Stop()
		}
	})
	return s
}

func (s *site) dial(ctx context.Context, name string) (net.Conn, error) {
	s.mu.Lock()
	l := s.listeners[name]
	s.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	conn, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[name]++
	return &counted{Conn: conn, end: sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns[name]--
	})}, nil
}

type counted struct {
	net.Conn

	end func()
}

func (c *counted) Close() error {
	c.end()
	return c.Conn.Close()
}

// start starts servers.
func (s *site) start(names ...string) {
	for _, name := range names {
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer(grpc.WaitForHandlers(true),
			grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				if err := s.seen(name); err != nil {
					return nil, err
				}
				return handler(ctx, req)
			}),
			grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				if err := s.seen(name); err != nil {
					return err
				}
				return handler(srv, stream)
			}))
		echov1.RegisterEchoServiceServer(server, echo.New(name))
		go func() { _ = server.Serve(l) }()
		s.mu.Lock()
		s.listeners[name], s.servers[name] = l, server
		s.mu.Unlock()
	}
}

// stop stops a server: its connections break, and it cannot be reached.
func (s *site) stop(name string) {
	s.closed(name).Stop()
	synctest.Wait()
}

// closed returns a server that accepts no more connections.
func (s *site) closed(name string) *grpc.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, name)
	return s.servers[name]
}

func (s *site) seen(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saw = append(s.saw, name)
	return s.fails[name]
}

// insert inserts servers, and starts them.
func (s *site) insert(names ...string) {
	s.start(names...)
	for _, name := range names {
		s.changes <- discover.Insert(name, name)
	}
	synctest.Wait()
}

func (s *site) remove(name string) {
	s.changes <- discover.Remove[string](name)
	synctest.Wait()
}

// log returns the servers that RPCs came to since it was asked last.
func (s *site) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.saw = nil }()
	return s.saw
}

func (s *site) open(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[name]
}

// unary is a call that waits a second at most.
func (s *site) unary(opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	res, err := s.Unary(ctx, &echov1.UnaryRequest{Payload: []byte("hello")}, opts...)
	if err == nil && string(res.GetPayload()) != "hello" {
		s.Errorf("the answer is %q", res.GetPayload())
	}
	return err
}

// rpcKinds are RPCs of all kinds; each sends one message and gets it back.
var rpcKinds = map[string]func(ctx context.Context, s *site) error{
	"unary": func(_ context.Context, s *site) error { return s.unary() },
	"client stream": func(ctx context.Context, s *site) error {
		stream, err := s.ClientStream(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&echov1.ClientStreamRequest{Payload: []byte("hello")}); err != nil {
			return err
		}
		res, err := stream.CloseAndRecv()
		return echoed(res.GetPayload(), err)
	},
	"server stream": func(ctx context.Context, s *site) error {
		stream, err := s.ServerStream(ctx, &echov1.ServerStreamRequest{Payload: []byte("hello")})
		if err != nil {
			return err
		}
		res, err := stream.Recv()
		if err := echoed(res.GetPayload(), err); err != nil {
			return err
		}
		return theEnd(stream.Recv())
	},
	"bidi stream": func(ctx context.Context, s *site) error { return s.bidi(ctx) },
}

// bidi is a bidirectional stream that sends one message and gets it back.
func (s *site) bidi(ctx context.Context, opts ...grpc.CallOption) error {
	stream, err := s.BidiStream(ctx, opts...)
	if err != nil {
		return err
	}
	if err := stream.Send(&echov1.BidiStreamRequest{Payload: []byte("hello")}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	res, err := stream.Recv()
	if err := echoed(res.GetPayload(), err); err != nil {
		return err
	}
	_ = stream.CloseSend()
	return theEnd(stream.Recv())
}

func echoed(payload []byte, err error) error {
	if err == nil && string(payload) != "hello" {
		return fmt.Errorf("the answer is %q", payload)
	}
	return err
}

func theEnd[T any](_ T, err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("after the last message: %w", err)
}

// limited makes stacks with a limit for each endpoint.
func limited(n int) func(string) *interceptors.Stack {
	return func(string) *interceptors.Stack {
		return interceptors.New(interceptors.ConcurrencyLimit(n, limit.Queue{}), interceptors.Timeout(time.Hour))
	}
}

// RPCs of all kinds pass through, with and without stacks, spread over the
// endpoints; with room for one at each, one after the other is never refused: what
// shows the caller the end comes after the room was given back.
func TestClientConnKinds(t *testing.T) {
	patient := interceptors.New(interceptors.Retry(retry.Config{MaxAttempts: 1}))
	for name, c := range map[string]balance.ClientConfig{
		"bare":      {},
		"no stack":  {Endpoint: func(string) *interceptors.Stack { return nil }},
		"limit":     {Balance: balance.Config{Limit: 1}},
		"stacks":    {Stack: interceptors.New(interceptors.Timeout(time.Minute)), Endpoint: limited(1)},
		"both ways": {Stack: patient, Endpoint: limited(1), Balance: balance.Config{Limit: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, c)
				s.insert("a", "b")
				for kind, rpc := range rpcKinds {
					for i := range 50 {
						if err := rpc(t.Context(), s); err != nil {
							t.Fatalf("%s %d: %v", kind, i, err)
						}
					}
					if saw := strings.Join(s.log(), ""); len(saw) != 50 || !strings.Contains(saw, "a") || !strings.Contains(saw, "b") {
						t.Errorf("%s came to %s", kind, saw)
					}
				}
			})
		})
	}
}

// A stream is in flight until it ends, and counts for no latency.
func TestClientConnStreamsInFlight(t *testing.T) {
	for name, c := range map[string]balance.ClientConfig{
		"limit of the balancer":   {Balance: balance.Config{Limit: 1}, WaitForReady: true},
		"limits of the endpoints": {Endpoint: limited(1)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, c)
				s.insert("a", "b")
				ctx, cancel := context.WithCancel(t.Context())
				for range 2 {
					if _, err := s.BidiStream(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Ready(endedContext(t)); !errors.Is(err, turret.ErrNotReady) {
					t.Errorf("Ready with two streams open: %v, want not ready", err)
				}
				err := s.unary()
				if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.ResourceExhausted {
					t.Errorf("an RPC with two streams open: %v", err)
				}
				time.Sleep(time.Hour)
				cancel()
				synctest.Wait()
				for range 10 {
					if err := s.unary(); err != nil {
						t.Errorf("after the streams were cancelled: %v", err)
					}
				}
				if st := s.Stats(); st.Ready != 2 || st.Bans != 0 {
					t.Errorf("%+v, want two that are well", st)
				}
			})
		})
	}
}

// The lifetime of streams bans no endpoint.
func TestClientConnLongStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{Balance: balance.Config{MaxBanned: 1}})
		s.insert("a")
		for range 100 {
			if _, err := s.Unary(t.Context(), &echov1.UnaryRequest{Plan: &echov1.Plan{Delay: durationpb.New(time.Millisecond)}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for range 10 {
			stream, err := s.BidiStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			_ = stream.CloseSend()
			if err := theEnd(stream.Recv()); err != nil {
				t.Fatal(err)
			}
		}
		if st := s.Stats(); st.Bans != 0 {
			t.Errorf("%+v, want no ban", st)
		}
	})
}

// Retries in the stack around all endpoints go to endpoints that were not tried.
func TestClientConnRetriesGoElsewhere(t *testing.T) {
	for kind, rpc := range rpcKinds {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, balance.ClientConfig{
					Balance: balance.Config{MaxBanned: -1},
					Stack:   interceptors.New(interceptors.Retry(retry.Config{MaxAttempts: 4, Budget: retry.Unlimited})),
				}, grpc.WithDisableRetry())
				s.insert("a", "b", "c", "d")
				for _, name := range []string{"a", "b", "c"} {
					s.fails[name] = status.Error(codes.Unavailable, "down")
				}
				for range 20 {
					if err := rpc(t.Context(), s); err != nil {
						t.Fatalf("%v, came to %v", err, s.log())
					}
				}
			})
		})
	}
}

// Hedges go to endpoints that were not tried, and the loser leaves nothing behind.
func TestClientConnHedgesGoElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{
			Balance: balance.Config{MaxBanned: -1, Limit: 1},
			Stack: interceptors.New(interceptors.Hedge(hedge.Config{
				Delay: 50 * time.Millisecond, MaxHedges: 2, MaxRise: -1, Budget: retry.Unlimited,
			})),
		})
		s.insert("a", "b", "c")
		for range 20 {
			_, err := s.Unary(t.Context(), &echov1.UnaryRequest{Plan: &echov1.Plan{Delay: durationpb.New(110 * time.Millisecond)}})
			saw := s.log()
			slices.Sort(saw)
			if err != nil || strings.Join(saw, "") != "abc" {
				t.Fatalf("%v, attempts came to %v", err, saw)
			}
			synctest.Wait()
		}
	})
}

// A server that says when to come back is full, not unwell, in its trailer too.
func TestClientConnPushback(t *testing.T) {
	for pushback, bans := range map[string]uint64{"1000": 0, "": 1} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, balance.ClientConfig{Balance: balance.Config{MaxBanned: 1}})
			s.insert("a")
			plan := &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable)}}
			if pushback != "" {
				plan.Trailers = []*echov1.MetadataEntry{{Key: "grpc-retry-pushback-ms", Values: []string{pushback}}}
			}
			for range 3 {
				var trailer metadata.MD
				_, err := s.Unary(t.Context(), &echov1.UnaryRequest{Plan: plan}, grpc.Trailer(&trailer))
				if status.Code(err) != codes.Unavailable || strings.Join(trailer["grpc-retry-pushback-ms"], "") != pushback {
					t.Errorf("%v, %v, want UNAVAILABLE and the trailer", err, trailer)
				}
			}
			if st := s.Stats(); st.Bans != bans {
				t.Errorf("pushback %q: %+v, want %d bans", pushback, st, bans)
			}
		})
	}
}

// While no endpoint can be reached, RPCs that fail fast do so, and others wait;
// before that is known all wait.
func TestClientConnUnreachable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{})
		wants := func(when string, err error, code codes.Code, text string) {
			t.Helper()
			if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) || !errors.Is(err, turret.ErrNotReady) {
				t.Errorf("%s: %v, want %v: %s", when, err, code, text)
			}
		}
		wants("before the source has said anything", s.unary(), codes.DeadlineExceeded, "no service is ready, 0 pending")
		s.changes <- discover.Insert("a", "a")
		s.changes <- discover.Insert("b", "b")
		start := time.Now()
		wants("nobody can be reached", s.unary(), codes.Unavailable, "balance: no endpoint can be reached: ")
		if time.Since(start) >= time.Second {
			t.Error("an RPC that fails fast has waited")
		}
		r, ok := errors.AsType[*turret.Refusal](s.unary())
		if !ok || r.Reason != turret.ReasonNoEndpoint || !errors.Is(r, balance.ErrUnreachable) {
			t.Errorf("%v, want a refusal with NO_ENDPOINT", r)
		}
		wants("wait for ready", s.unary(grpc.WaitForReady(true)), codes.DeadlineExceeded, "no service is ready, 2 pending")
		_, err := s.BidiStream(t.Context())
		wants("a stream", err, codes.Unavailable, "no endpoint can be reached")
		time.AfterFunc(time.Minute, func() { s.start("b") })
		if _, err := s.Unary(t.Context(), nil, grpc.WaitForReady(true)); err != nil || time.Since(start) < time.Minute {
			t.Errorf("%v, want it to wait for the server", err)
		}
		s.remove("a")
		s.remove("b")
		wants("all have left", s.unary(), codes.Unavailable, "no endpoint can be reached")
		s.insert("c")
		if err := s.unary(); err != nil {
			t.Errorf("one has come: %v", err)
		}
	})
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{WaitForReady: true})
		s.changes <- discover.Insert("a", "a")
		if err := s.unary(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("ClientConfig.WaitForReady: %v, want it to wait", err)
		}
		if err := s.unary(grpc.WaitForReady(false)); status.Code(err) != codes.Unavailable {
			t.Errorf("an RPC that says otherwise: %v, want it to fail", err)
		}
	})
}

// An RPC that ends because no endpoint can be reached says of one, that failed last
// or still does, why: also one that has waited for it in vain. What it says is a
// text and matches nothing.
func TestClientConnSaysWhyUnreachable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var failure atomic.Pointer[error]
		fails := func(err error) { failure.Store(&err) }
		fails(fmt.Errorf("no route: %w", context.DeadlineExceeded))
		refuses := func(context.Context, string) (net.Conn, error) { return nil, *failure.Load() }
		s := newSite(t, balance.ClientConfig{}, grpc.WithContextDialer(refuses))
		text := func(opts ...grpc.CallOption) string { return status.Convert(s.unary(opts...)).Message() }
		wants := func(when, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		because := func(address, why string) string {
			return address + `: connection error: desc = "transport: Error while dialing: ` + why + `"`
		}
		s.changes <- discover.Insert("a", "a")
		synctest.Wait()
		wants("one", text(), "balance: no endpoint can be reached: "+because("a", "no route: context deadline exceeded"))
		err := s.unary()
		if status.Code(err) != codes.Unavailable || !errors.Is(err, balance.ErrUnreachable) || !errors.Is(err, turret.ErrNotReady) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want ErrUnreachable, and nothing of what gRPC has said", err)
		}
		wants("in vain", text(grpc.WaitForReady(true)), "context deadline exceeded: no service is ready, 1 pending, no connection to "+because("a", "no route: context deadline exceeded"))
		if got := fmt.Sprint(s.Ready(endedContext(t))); !strings.HasSuffix(got, "no connection to "+because("a", "no route: context deadline exceeded")) {
			t.Errorf("Ready: %s", got)
		}
		fails(errors.New("connection refused"))
		time.Sleep(10 * time.Minute)
		wants("it has tried again", text(), "balance: no endpoint can be reached: "+because("a", "connection refused"))
		fails(errors.New("no such host"))
		s.changes <- discover.Insert("b", "b")
		synctest.Wait()
		wants("the last to fail", text(), "balance: no endpoint can be reached: "+because("b", "no such host"))
		s.remove("b")
		wants("it has left", text(), "balance: no endpoint can be reached: "+because("a", "connection refused"))
		s.remove("a")
		wants("all have left", text(), "balance: no endpoint can be reached")
	})
}

// An endpoint that is connected has not failed, however often it had.
func TestClientConnFailureIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{Endpoint: limited(1)})
		s.changes <- discover.Insert("a", "a")
		if err := s.unary(); !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%v, want the failure", err)
		}
		s.start("a")
		time.Sleep(10 * time.Minute)
		if _, err := s.BidiStream(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Ready(endedContext(t)); err == nil || !strings.HasSuffix(err.Error(), "1 pending") {
			t.Errorf("Ready: %v, want it to say nothing of the failure", err)
		}
	})
}

// A service config of the dial options is in force, and costs the reason. (No
// connection has the number 0.)
func TestClientConnServiceConfig(t *testing.T) {
	for name, config := range map[string]string{
		"another policy": `{"loadBalancingConfig":[{"round_robin":{}}]}`,
		"ours, unasked":  `{"loadBalancingConfig":[{"turret.reporting_pick_first":{"connection":0}}]}`,
	} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, balance.ClientConfig{}, grpc.WithDefaultServiceConfig(config))
			s.changes <- discover.Insert("a", "a")
			if got := status.Convert(s.unary()).Message(); got != "balance: no endpoint can be reached" {
				t.Errorf("%s: %s", name, got)
			}
			s.start("a")
			time.Sleep(10 * time.Minute)
			if err := s.unary(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// What has failed under the default service config has not when it is connected under
// one that a resolver brings later.
func TestClientConnServiceConfigComesLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		named := resolver.State{Addresses: []resolver.Address{{Addr: "a"}}}
		r := manual.NewBuilderWithScheme("named")
		r.InitialState(named)
		s := newSite(t, balance.ClientConfig{Endpoint: limited(1)}, grpc.WithResolvers(r))
		s.changes <- discover.Insert("a", "named:///a")
		wants := func(when string, err error, text string) {
			t.Helper()
			if err == nil || !strings.HasSuffix(err.Error(), text) {
				t.Errorf("%s: %v, want it to end with %q", when, err, text)
			}
		}
		wants("the default", s.unary(), `connection refused"`)
		named.ServiceConfig = r.CC().ParseServiceConfig(`{}`)
		r.UpdateState(named)
		s.start("a")
		time.Sleep(10 * time.Minute)
		if _, err := s.BidiStream(t.Context()); err != nil {
			t.Fatal(err)
		}
		wants("connected, and full", s.Ready(endedContext(t)), "1 pending")
	})
}

// A server that is lost gets no RPCs until it is connected again, which happens in
// the background.
func TestClientConnReconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{Balance: balance.Config{SlowStart: time.Hour, Seed: 1}})
		came := func(n int, to string) int {
			t.Helper()
			s.log()
			for range n {
				if _, err := s.Unary(t.Context(), &echov1.UnaryRequest{Plan: &echov1.Plan{Delay: durationpb.New(time.Millisecond)}}); err != nil {
					t.Fatal(err)
				}
			}
			return strings.Count(strings.Join(s.log(), ""), to)
		}
		s.insert("a", "b")
		if n := came(200, "a"); n < 50 || n > 150 {
			t.Errorf("%d of 200 RPCs came to one of two", n)
		}
		time.Sleep(2 * time.Hour) // both are warm
		s.stop("a")
		if n := came(20, "a"); n != 0 {
			t.Errorf("%d RPCs came to the server that was lost", n)
		}
		s.start("a")
		time.Sleep(time.Minute)
		if s.open("a") != 1 {
			t.Error("nobody has connected to the server that is back")
		}
		if n := came(100, "a"); n > 10 {
			t.Errorf("%d of 100 RPCs came to the server that is back, want it to start slowly", n)
		}
		s.stop("b")
		if n := came(20, "a"); n != 20 {
			t.Errorf("%d of 20 RPCs came to the one that is left", n)
		}
	})
}

// An endpoint that leaves gets no further RPC, and its connection is closed when
// the last one on it is over.
func TestClientConnRemoval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{Endpoint: limited(10)})
		s.insert("a")
		stream, err := s.BidiStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.insert("b")
		s.remove("a")
		s.log()
		for range 20 {
			if err := s.unary(); err != nil {
				t.Fatal(err)
			}
		}
		if saw := strings.Join(s.log(), ""); strings.Contains(saw, "a") {
			t.Errorf("RPCs came to %s after the removal of a", saw)
		}
		for range 3 {
			time.Sleep(time.Minute)
			if err := stream.Send(&echov1.BidiStreamRequest{Payload: []byte("hello")}); err != nil {
				t.Fatalf("Send: %v", err)
			}
			if res, err := stream.Recv(); echoed(res.GetPayload(), err) != nil {
				t.Fatalf("Recv: %v", err)
			}
		}
		if s.open("a") != 1 {
			t.Fatal("the connection was closed with a stream on it")
		}
		_ = stream.CloseSend()
		if err := theEnd(stream.Recv()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s.open("a") != 0 || s.open("b") != 1 {
			t.Errorf("%v connections are open, want that of b", s.conns)
		}
		s.changes <- discover.Insert("b", "b") // replaced by itself
		synctest.Wait()
		if err := s.unary(); err != nil || s.open("b") != 1 {
			t.Errorf("%v, with %v connections to b", err, s.open("b"))
		}
	})
}

// Close ends RPCs in flight and those that wait, and leaves nothing behind.
func TestClientConnClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{Endpoint: limited(2)})
		s.insert("a")
		stream, err := s.BidiStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other, err := s.BidiStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.remove("a") // with streams on it
		ended := make(chan error)
		go func() {
			_, err := s.Unary(t.Context(), nil, grpc.WaitForReady(true))
			ended <- err
		}()
		synctest.Wait()
		_ = s.Close()
		if err := <-ended; status.Code(err) != codes.Unavailable || !errors.Is(err, ready.ErrClosed) {
			t.Errorf("an RPC that waited: %v", err)
		}
		for _, stream := range []grpc.BidiStreamingClient[echov1.BidiStreamRequest, echov1.BidiStreamResponse]{stream, other} {
			if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("a stream: %v, want CANCELLED", err)
			}
		}
		for range 200 { // it has no endpoint either, which must not be the answer of any
			if err := s.unary(); status.Code(err) != codes.Unavailable || !errors.Is(err, ready.ErrClosed) {
				t.Fatalf("a later RPC: %v", err)
			}
		}
		if err := s.Ready(t.Context()); !turret.IsFinal(err) {
			t.Errorf("Ready: %v, want a final error", err)
		}
		if s.open("a") != 0 {
			t.Error("a connection is open")
		}
	})
}

// A panic in a stack of an endpoint gives back what the RPC has taken.
func TestClientConnPanics(t *testing.T) {
	for kind, rpc := range rpcKinds {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var faulty atomic.Bool
				faulty.Store(true)
				s := newSite(t, balance.ClientConfig{
					Balance: balance.Config{Limit: 1, Failures: balance.Failures{Consecutive: -1, Ratio: -1}},
					Endpoint: func(string) *interceptors.Stack {
						return interceptors.New(turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
							if faulty.Load() {
								panic("a fault")
							}
							return inner.Call(ctx, rpc)
						}))
					},
				})
				s.insert("a")
				for range 3 {
					func() {
						defer func() {
							if p := recover(); p != "a fault" {
								t.Errorf("panic %v", p)
							}
						}()
						_ = rpc(t.Context(), s)
					}()
				}
				synctest.Wait()
				faulty.Store(false)
				if err := rpc(t.Context(), s); err != nil {
					t.Errorf("after the panics: %v", err)
				}
				if _, err := s.BidiStream(t.Context()); err != nil {
					t.Errorf("a stream: %v", err)
				}
				if err := s.unary(); !errors.Is(err, balance.ErrFull) {
					t.Errorf("beside the stream: %v, want it to be refused", err)
				}
			})
		})
	}
}

// An endpoint whose breaker is open is not ready, and RPCs go elsewhere.
func TestClientConnBreakers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{
			Balance: balance.Config{MaxBanned: -1, Load: balance.LoadPending},
			Endpoint: func(string) *interceptors.Stack {
				return interceptors.New(interceptors.Breaker(breaker.Config{Consecutive: 2, Backoff: retry.Backoff{Base: time.Hour}}))
			},
		})
		s.insert("a", "b")
		s.fails["a"] = status.Error(codes.Internal, "broken")
		failures := 0
		for range 100 {
			if s.unary() != nil {
				failures++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if st := s.Stats(); failures != 2 || st.Ready != 1 || st.Pending != 1 {
			t.Errorf("%d of 100 RPCs failed, %+v, want 2 until the breaker opens", failures, st)
		}
	})
}

// An address of which no connection can be made is dropped, with the reason.
func TestClientConnBadAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		conn, err := balance.NewClientConn(discover.List("dns://%zz/"), balance.ClientConfig{}, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		err = echoUnary(t.Context(), conn, grpc.WaitForReady(true))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the last one failed: 0:") || !strings.Contains(err.Error(), "%zz") {
			t.Errorf("%v, want UNAVAILABLE and what is wrong with the address", err)
		}
		_ = conn.Close()
	})
	if _, err := balance.NewClientConn(discover.List("a"), balance.ClientConfig{}); err == nil || !strings.Contains(err.Error(), "no transport security set") {
		t.Errorf("without credentials: %v, want the error of gRPC", err)
	}
}

// What an address has is what is dialed, the zone of an IPv6 address too.
func TestClientConnAddresses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{})
		s.insert("[fe80::1%eth0]:80", "a/b?c#d", "unix:a")
		for range 100 {
			if err := s.unary(); err != nil {
				t.Fatal(err)
			}
		}
		if st := s.Stats(); st.Ready != 3 {
			t.Errorf("%+v, want three", st)
		}
	})
}

func echoUnary(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) error {
	_, err := echov1.NewEchoServiceClient(conn).Unary(ctx, new(echov1.UnaryRequest), opts...)
	return err
}

// The caller's OnFinish options run once for an RPC: not for the endpoints that
// refused it, and also for an RPC that was sent nowhere. The stack outside, which
// watches its streams in the same way, is not misled either.
func TestClientConnOnFinish(t *testing.T) {
	for name, outside := range map[string]*interceptors.Stack{"bare": nil, "in a stack": interceptors.New(interceptors.Timeout(time.Hour))} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var refusals atomic.Int64
				refuses := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					if refusals.Add(-1) >= 0 {
						return nil, turret.NotReady(errors.New("busy"))
					}
					return inner.Call(ctx, rpc)
				})
				s := newSite(t, balance.ClientConfig{Stack: outside, Endpoint: func(string) *interceptors.Stack { return interceptors.New(refuses) }})
				s.insert("a", "b")
				for kind, rpc := range kindsWith {
					for _, n := range []int64{0, 2, 4} {
						refusals.Store(n)
						s.wantFinish(fmt.Sprint(kind, ", refused ", n), rpc, n == 4)
					}
				}
				s.remove("a")
				s.remove("b")
				for kind, rpc := range kindsWith {
					s.wantFinish(kind+" to nobody", rpc, true)
				}
			})
		})
	}
}

// kindsWith are a unary RPC and a stream with call options.
var kindsWith = map[string]func(s *site, opts ...grpc.CallOption) error{
	"unary":  (*site).unary,
	"stream": func(s *site, opts ...grpc.CallOption) error { return s.bidi(s.Context(), opts...) },
}

func (s *site) wantFinish(what string, rpc func(s *site, opts ...grpc.CallOption) error, fails bool) {
	s.Helper()
	var told []error
	err := rpc(s, grpc.OnFinish(func(err error) { told = append(told, err) }))
	synctest.Wait()
	if (err != nil) != fails {
		s.Errorf("%s: got %v, want an error: %t", what, err, fails)
	}
	if len(told) != 1 || status.Code(told[0]) != status.Code(err) {
		s.Errorf("%s: told %q, want %v once", what, told, err)
	}
}
