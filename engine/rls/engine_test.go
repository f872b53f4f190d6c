package rls_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	service "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/engine/rls"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// A server counts in fixed windows of a second: 100 of each descriptor.
type server struct {
	service.UnimplementedRateLimitServiceServer

	mu     sync.Mutex
	window time.Time
	used   map[string]int
	asked  []*service.RateLimitRequest
	code   service.RateLimitResponse_Code // if not UNKNOWN, the answer
	err    error                          // if not nil, the answer
}

func (s *server) ShouldRateLimit(_ context.Context, r *service.RateLimitRequest) (*service.RateLimitResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	if s.err != nil {
		return nil, s.err
	}
	if now := time.Now().Truncate(time.Second); now.After(s.window) {
		s.window, s.used = now, map[string]int{}
	}
	name := r.GetDomain() + "/" + r.GetDescriptors()[0].String()
	s.used[name] += int(r.GetHitsAddend())
	code := service.RateLimitResponse_OK
	if s.used[name] > 100 {
		code = service.RateLimitResponse_OVER_LIMIT
	}
	return &service.RateLimitResponse{OverallCode: max(code, s.code), Statuses: []*service.RateLimitResponse_DescriptorStatus{{
		Code: code, DurationUntilReset: durationpb.New(time.Until(s.window.Add(time.Second))),
	}}}, nil
}

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// dial serves s in memory and returns a connection to it.
func dial(t *testing.T, s *server) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	service.RegisterRateLimitServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
	})
	return conn
}

// take takes tokens and checks how many they are, and when there will be more.
func take(t *testing.T, e *rls.Engine, key string, n, want int, after time.Duration) {
	t.Helper()
	got, retryAfter, err := e.Take(t.Context(), key, n, limit.PerSecond(100))
	if err != nil || got != want || retryAfter != after {
		t.Fatalf("Take(%q, %d) = %d, %v, %v; want %d, %v", key, n, got, retryAfter, err, want, after)
	}
}

func TestTakesAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		e := rls.New(dial(t, s), rls.Config{Domain: "shop"})
		take(t, e, "orders", 60, 60, 0)
		time.Sleep(200 * time.Millisecond)
		take(t, e, "orders", 41, 0, 800*time.Millisecond)
		take(t, e, "carts", 100, 100, 0)
		time.Sleep(800 * time.Millisecond)
		take(t, e, "orders", 100, 100, 0)
	})
}

func TestNamesTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		conn := dial(t, s)
		take(t, rls.New(conn, rls.Config{Domain: "shop"}), "orders", 7, 7, 0)
		take(t, rls.New(conn, rls.Config{Domain: "shop", Entry: "tenant"}), "acme", 1, 1, 0)
		for i, want := range []struct {
			entry, value string
			hits         uint32
		}{{"turret", "orders", 7}, {"tenant", "acme", 1}} {
			r := s.asked[i]
			entry := r.GetDescriptors()[0].GetEntries()[0]
			if r.GetDomain() != "shop" || r.GetHitsAddend() != want.hits || entry.GetKey() != want.entry || entry.GetValue() != want.value {
				t.Errorf("request %d is %v, want %v in domain shop", i, r, want)
			}
		}
	})
}

func TestSaysWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		e := rls.New(dial(t, s), rls.Config{Domain: "shop"})
		s.fail(status.Error(codes.Unavailable, "no store"))
		_, _, err := e.Take(t.Context(), "k", 1, limit.PerSecond(1))
		if status.Code(err) != codes.Unavailable || !strings.HasPrefix(err.Error(), "rls: taking tokens: ") {
			t.Errorf("Take fails with %v, want UNAVAILABLE", err)
		}
		s.fail(nil)
		s.code = 9
		if _, _, err := e.Take(t.Context(), "k", 1, limit.PerSecond(1)); err == nil || !strings.Contains(err.Error(), "answered 9") {
			t.Errorf("Take fails with %v, want the answer named", err)
		}
	})
}

func TestNewRefusesWhatIsInvalid(t *testing.T) {
	for name, tt := range map[string]struct {
		conn   grpc.ClientConnInterface
		config rls.Config
		want   string
	}{
		"no connection": {nil, rls.Config{Domain: "d"}, "rls: New: conn is nil, must be a connection"},
		"no domain":     {&grpc.ClientConn{}, rls.Config{}, `rls: New: Domain is "", must be not empty`},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				err, _ := recover().(error)
				var field *turret.FieldError
				if !errors.As(err, &field) || err.Error() != tt.want {
					t.Errorf("New panics with %v, want %q", err, tt.want)
				}
			}()
			rls.New(tt.conn, tt.config)
		})
	}
}

// TestLimitOverTheServer lets a limit see its server fail and come back.
func TestLimitOverTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		l := shared.New(rls.New(dial(t, s), rls.Config{Domain: "shop"}), shared.Config{
			Key: "k", Rate: limit.PerSecond(100), Local: limit.Rate{N: 50, Per: time.Second, Burst: 5},
		})
		second := func() (in int) { // 200 calls are asked for
			for range 200 {
				if _, err := l.Enter(t.Context()); err == nil {
					in++
				}
				time.Sleep(5 * time.Millisecond)
			}
			return in
		}
		second()
		for range 3 {
			if in := second(); in < 50 || in > 130 {
				t.Errorf("%d calls were let in in a second, want at most 100 and what was leased before", in)
			}
		}
		s.fail(status.Error(codes.Unavailable, "no store"))
		second()
		if in := second(); in < 40 || in > 60 || !l.Stats().Away {
			t.Errorf("%d calls were let in without the server, want 50", in)
		}
		s.fail(nil)
		time.Sleep(time.Second)
		second()
		if in := second(); in < 50 || in > 130 || l.Stats().Away {
			t.Errorf("%d calls were let in after the server's return, want 100", in)
		}
	})
}

// TestBackAfterALongAbsence has a server that cannot be reached for ten minutes: a
// connection with DialOptions and a limit in front of it use it within a second.
func TestBackAfterALongAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := bufconn.Listen(1 << 20)
		var down atomic.Bool
		down.Store(true)
		g := grpc.NewServer()
		service.RegisterRateLimitServiceServer(g, &server{})
		go func() { _ = g.Serve(memory) }()
		conn, err := grpc.NewClient("passthrough:memory", append(rls.DialOptions(),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				if down.Load() {
					return nil, errors.New("connection refused")
				}
				return memory.DialContext(ctx)
			}),
			grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		l := shared.New(rls.New(conn, rls.Config{Domain: "shop"}), shared.Config{Key: "k", Rate: limit.PerSecond(100)})
		enter := func(from time.Time, lasts time.Duration) {
			for time.Since(from) < lasts {
				_, _ = l.Enter(t.Context())
				time.Sleep(20 * time.Millisecond)
			}
		}
		enter(time.Now(), 10*time.Minute)
		if s := l.Stats(); !s.Away || s.Entered > 0 {
			t.Errorf("without a server: %+v", s)
		}
		down.Store(false)
		enter(time.Now(), time.Second)
		if s := l.Stats(); s.Away || s.Entered == 0 {
			t.Errorf("a second after the server's return: %+v", s)
		}
		time.Sleep(time.Second) // until the last question is answered
		_ = conn.Close()
		g.Stop()
	})
}
