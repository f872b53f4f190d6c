package balance_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// An elsewhere is a fleet of servers and a client that balances over them. The
// nth attempt of an RPC ends as the nth letter of the script says, whichever
// server it comes to: a answers, f fails after 10 ms, h hangs.
type elsewhere struct {
	echov1.EchoServiceClient

	script string
	mu     sync.Mutex
	saw    []string // the servers that attempts came to
}

func newElsewhere(t *testing.T, script string, layers ...interceptors.Layer) *elsewhere {
	e := &elsewhere{script: script}
	listeners := map[string]*bufconn.Listener{}
	var endpoints []resolver.Endpoint
	for i := range script {
		name := fmt.Sprint("server", i)
		l := bufconn.Listen(1 << 16)
		listeners[name] = l
		endpoints = append(endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: name}}})
		s := grpc.NewServer(grpc.WaitForHandlers(true), grpc.UnaryInterceptor(e.serve(name)))
		echov1.RegisterEchoServiceServer(s, echo.New(name))
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
	}
	r := manual.NewBuilderWithScheme("fleet")
	r.InitialState(resolver.State{Endpoints: endpoints})
	conn, err := grpc.NewClient("fleet:///", append(interceptors.New(layers...).DialOptions(),
		grpc.WithResolvers(r),
		balance.WithP2C(balance.Config{MaxBanned: -1}), // a server that hangs would be banned
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, name string) (net.Conn, error) {
			return listeners[name].DialContext(ctx)
		}),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	e.EchoServiceClient = echov1.NewEchoServiceClient(conn)
	conn.Connect()
	synctest.Wait() // until all endpoints are there to choose from
	return e
}

func (e *elsewhere) serve(name string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		e.mu.Lock()
		end := e.script[len(e.saw)]
		e.saw = append(e.saw, name)
		e.mu.Unlock()
		switch end {
		case 'a':
			return handler(ctx, req)
		case 'f':
			time.Sleep(10 * time.Millisecond)
			return nil, status.Error(codes.Unavailable, "as planned")
		default:
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
}

// Every attempt of an RPC goes to an endpoint that no other one was sent to, as
// long as there is one: hedges, retries, and both in either order.
func TestHedgesGoElsewhere(t *testing.T) {
	hedges := func(n int) interceptors.Layer {
		return interceptors.Hedge(hedge.Config{Delay: 50 * time.Millisecond, MaxHedges: n, MaxRise: -1, Budget: retry.Unlimited})
	}
	retries := interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: retry.Unlimited})
	for _, tt := range []struct {
		name   string
		script string
		layers []interceptors.Layer
	}{
		{"one hedge", "ha", []interceptors.Layer{hedges(1)}},
		{"four hedges", "hhhha", []interceptors.Layer{hedges(4)}},
		{"hedges of a retry", "fhfha", []interceptors.Layer{retries, interceptors.Timeout(75 * time.Millisecond), hedges(1)}},
		{"retries in a hedge", "hffa", []interceptors.Layer{hedges(1), retries}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newElsewhere(t, tt.script, tt.layers...)
				for range 50 {
					if _, err := e.Unary(t.Context(), new(echov1.UnaryRequest)); err != nil {
						t.Fatalf("%v, attempts came to %v", err, e.saw)
					}
					synctest.Wait()
					slices.Sort(e.saw)
					if distinct := len(slices.Compact(slices.Clone(e.saw))); distinct != len(tt.script) || len(e.saw) != len(tt.script) {
						t.Fatalf("the attempts came to %v", e.saw)
					}
					e.saw = nil
				}
			})
		})
	}
}
