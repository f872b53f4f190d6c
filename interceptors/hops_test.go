package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// A hop is a server whose handler calls the next one.
type hop struct {
	echov1.UnimplementedEchoServiceServer

	next    echov1.EchoServiceClient
	returns func(error) error // what the handler makes of the error of its call
}

func (h *hop) Unary(ctx context.Context, req *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	res, err := h.next.Unary(ctx, req)
	if err != nil {
		return nil, h.returns(err)
	}
	return res, nil
}

// A sick server fails while the test wants it, and counts what it gets in each half
// second.
type sick struct {
	echov1.UnimplementedEchoServiceServer

	mu    sync.Mutex
	began time.Time
	fails bool
	seen  map[int]int
}

func (s *sick) Unary(context.Context, *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[int(time.Since(s.began)/(500*time.Millisecond))]++
	if s.fails {
		return nil, status.Error(codes.Unavailable, "sick")
	}
	return &echov1.UnaryResponse{}, nil
}

// Three hops that each try three times must not send a backend that fails for ten
// seconds much more than it gets without retries, whatever the handlers between
// them make of the errors.
func TestRetriesDoNotMultiplyOverHops(t *testing.T) {
	for name, returns := range map[string]func(error) error{
		"relayed":  func(err error) error { return err },
		"wrapped":  func(err error) error { return fmt.Errorf("the next hop: %w", err) },
		"replaced": func(error) error { return status.Error(codes.Unavailable, "sorry") },
	} {
		inBubble(t, name, func(t *testing.T) {
			const perSecond, healthy, failing = 100, 11, 10 // seconds
			backend := &sick{began: time.Now(), seen: map[int]int{}}
			client := hops(t, backend, 2, returns)
			var wg sync.WaitGroup
			failed := 0 // in the last second
			var mu sync.Mutex
			for i := range perSecond * (healthy + failing + 2) {
				second := i / perSecond
				backend.mu.Lock()
				backend.fails = second >= healthy && second < healthy+failing
				backend.mu.Unlock()
				wg.Go(func() {
					if _, err := client.Unary(t.Context(), &echov1.UnaryRequest{}); err != nil && second > healthy+failing {
						mu.Lock()
						failed++
						mu.Unlock()
					}
				})
				time.Sleep(time.Second / perSecond)
			}
			wg.Wait()
			total, worst := 0, 0 // while it failed
			for half := 2 * healthy; half < 2*(healthy+failing); half++ {
				total += backend.seen[half]
				worst = max(worst, backend.seen[half])
			}
			t.Logf("the backend got %.2f times the calls while it failed, %.2f times in the worst half second",
				float64(total)/(perSecond*failing), float64(worst)/(perSecond/2))
			if most := perSecond * failing * 125 / 100; total > most {
				t.Errorf("the backend got %d RPCs while it failed, want at most %d", total, most)
			}
			if most := perSecond / 2 * 150 / 100; worst > most {
				t.Errorf("the backend got %d RPCs in the worst half second, want at most %d", worst, most)
			}
			if total < perSecond*failing*110/100 || failed > 0 {
				t.Errorf("the backend got %d RPCs, so hardly anything was tried again; %d RPCs failed after it was well", total, failed)
			}
		})
	}
}

// hops returns a client of a chain of n hops before backend. All but the backend
// try three times.
func hops(t *testing.T, backend echov1.EchoServiceServer, n int, returns func(error) error) echov1.EchoServiceClient {
	server := backend
	for i := range n + 1 {
		stack := interceptors.New(interceptors.Retry(retry.Config{}))
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, server) },
			Dial:     stack.DialOptions(),
		})
		client := echov1.NewEchoServiceClient(p.Conn)
		if i == n {
			return client
		}
		server = &hop{next: client, returns: returns}
	}
	panic("unreachable")
}

// A handler that answers in spite of a call in vain, and one whose Retry has a
// single attempt, tell their callers nothing.
func TestNothingIsToldOfNoRetries(t *testing.T) {
	lost := status.Error(codes.Unavailable, "lost")
	for _, tt := range []struct {
		name     string
		config   retry.Config
		returns  error
		attempts int // of the caller
	}{
		{"several attempts", retry.Config{}, lost, 1},
		{"one attempt", retry.Config{MaxAttempts: 1}, lost, 3},
		{"an answer", retry.Config{}, nil, 1},
		{"not retryable", retry.Config{Retryable: func(context.Context, error) bool { return false }}, lost, 3},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			back := newWorld(t, worldOf{
				client: interceptors.New(interceptors.Retry(tt.config)),
				server: interceptors.New(interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, lost })),
			})
			attempts := 0
			handler := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
				attempts++
				for range 500 { // a fan-out must not make the trailer too large
					if err := back.do(ctx, interceptors.KindUnary, nil).wants(codes.Unavailable, ""); err != nil {
						return nil, err
					}
				}
				if tt.returns != nil {
					return nil, tt.returns
				}
				return inner.Call(ctx, rpc)
			})
			front := newWorld(t, worldOf{
				client: interceptors.New(interceptors.Retry(retry.Config{Budget: retry.Unlimited})),
				server: interceptors.New(handler),
			})
			r := front.do(t.Context(), interceptors.KindUnary, nil)
			if status.Code(r.err) != status.Code(tt.returns) || attempts != tt.attempts || len(r.trailer.Get(pushbackKey)) > 1 {
				t.Errorf("%v after %d attempts with trailer %v, want %v after %d", r.err, attempts, r.trailer, tt.returns, tt.attempts)
			}
		})
	}
}

// A breaker before a server whose own retries are in vain counts its failures.
func TestBreakerOpensOnRetriesInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &sick{began: time.Now(), seen: map[int]int{}, fails: true}
		h := &hop{next: hops(t, backend, 0, nil), returns: func(err error) error { return err }}
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, h) },
			Dial:     interceptors.New(interceptors.Breaker(breaker.Config{}), interceptors.Retry(retry.Config{})).DialOptions(),
		})
		client := echov1.NewEchoServiceClient(p.Conn)
		var err error
		for range 10 {
			_, err = client.Unary(t.Context(), &echov1.UnaryRequest{})
		}
		if !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("the tenth RPC: %v, want the refusal of an open breaker", err)
		}
	})
}
