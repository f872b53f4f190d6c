//go:build unix

package faults

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/faults/internal/traffic"
	"github.com/turret-go/turret/trace"
)

const (
	unaryTimeout   = 3 * time.Second // of a unary RPC
	attemptTimeout = 2 * time.Second // of an attempt of one
	maxAttempts    = 4
	// roomPerServer is the limit of the balancer for each server.
	roomPerServer = 32
)

// A client is a channel to all servers, with a full stack.
type client struct {
	echov1.EchoServiceClient

	conn    *grpc.ClientConn
	places  *limit.Concurrency
	circuit *breaker.Breaker
	spans   traffic.Spans
	retries atomic.Int64
}

// dial returns a client of the servers at these addresses, whose balancer bans
// none of them for longer than maxBan.
func dial(t testing.TB, addresses []string, maxBan time.Duration) *client {
	t.Helper()
	c := &client{
		places:  limit.NewConcurrency(4*roomPerServer, limit.Queue{Max: 64, Timeout: time.Second}),
		circuit: breaker.New(breaker.Config{}),
	}
	unary := []interceptors.Kind{interceptors.KindUnary}
	tracing := trace.Config{TracerProvider: sdk.NewTracerProvider(sdk.WithSpanProcessor(&c.spans))}
	stack := interceptors.New(
		interceptors.Observe(c.observe),
		interceptors.Trace(tracing),
		interceptors.ForKind(unary, interceptors.Timeout(unaryTimeout)),
		interceptors.Admit(c.circuit),
		interceptors.ForMatch(selector.MatchFunc(repeatable), interceptors.Retry(retry.Config{
			MaxAttempts: maxAttempts,
			Backoff:     retry.Backoff{Base: 10 * time.Millisecond},
		})),
		interceptors.Trace(tracing),
		interceptors.ForKind(unary, interceptors.Timeout(attemptTimeout)),
		interceptors.Admit(c.places),
	)
	servers := manual.NewBuilderWithScheme("faults")
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	servers.InitialState(state)
	conn, err := grpc.NewClient("faults:///echo", append(stack.DialOptions(),
		balance.WithP2C(balance.Config{Limit: roomPerServer, Failures: balance.Failures{MaxBanFor: maxBan}}),
		grpc.WithResolvers(servers),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		// gRPC's default waits up to two minutes before it connects again, and 20
		// seconds for a connection.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// What notices a connection that loses everything. 10 s is the least that
		// gRPC allows.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	c.conn, c.EchoServiceClient = conn, echov1.NewEchoServiceClient(conn)
	return c
}

func (c *client) observe(_ context.Context, e interceptors.Event) {
	if e.Kind == interceptors.EventRetry {
		c.retries.Add(1)
	}
}

// onceKey marks the contexts of RPCs that must not be repeated.
type onceKey struct{}

func repeatable(ctx context.Context, _ middleware.CallMeta) bool { return ctx.Value(onceKey{}) == nil }
