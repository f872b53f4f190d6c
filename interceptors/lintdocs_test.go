package interceptors_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/metrics"
	"github.com/turret-go/turret/retry"
)

// TestLintFindsNothingInDocumentedStacks holds the stacks of the documents to Lint, in
// the order in which they are there. Interceptors that a document adopts are ones that do
// nothing.
func TestLintFindsNothingInDocumentedStacks(t *testing.T) {
	const client, server = interceptors.SideClient, interceptors.SideServer
	type layers = []interceptors.Layer
	log := func() interceptors.Layer {
		return interceptors.Observe(interceptors.Log(slog.Default(), interceptors.LogConfig{}))
	}
	adopted := func() interceptors.Layer {
		return interceptors.FromServer(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return next(ctx, req)
			},
			func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				return next(srv, s)
			})
	}
	tenant := func(context.Context, *interceptors.RPC) string { return "" }
	perTenant := limit.KeyedConfig{New: func(string) turret.Gate { return limit.NewTokenBucket(limit.PerSecond(100), limit.Queue{}) }}
	for name, tt := range map[string]struct {
		side   interceptors.Side
		layers layers
	}{
		"the server of doc/production.md": {server, layers{
			interceptors.Recover(), log(),
			interceptors.Except("/grpc.health.v1.Health/*",
				adopted(), interceptors.PerKey(tenant, perTenant),
				interceptors.Criticality(interceptors.CriticalityConfig{Methods: map[string]criticality.Level{"/turret.echo.v1.EchoService/*": criticality.Critical}}),
				interceptors.AdaptiveLimit(adaptive.Config{}),
				interceptors.ForUnary(interceptors.Timeout(5*time.Second)),
				interceptors.ForStreams(interceptors.ConcurrencyLimit(1000, limit.Queue{}))),
		}},
		"the client of doc/production.md": {client, layers{
			log(), interceptors.ForUnary(interceptors.Timeout(2 * time.Second)),
			interceptors.ExceptAny([]string{"/pay.Payments/Charge"}, interceptors.Retry(retry.Config{})),
			interceptors.ForUnary(interceptors.Timeout(500 * time.Millisecond)),
			interceptors.Breaker(breaker.Config{}), interceptors.ConcurrencyLimit(100, limit.Queue{Max: 100, Timeout: 200 * time.Millisecond}),
		}},
		"around all endpoints, in doc/balancing.md": {client, layers{
			interceptors.ForUnary(interceptors.Timeout(2 * time.Second)), interceptors.Retry(retry.Config{}),
		}},
		"around each endpoint, in doc/balancing.md": {client, layers{
			interceptors.ForUnary(interceptors.Timeout(500 * time.Millisecond)), interceptors.Breaker(breaker.Config{}),
			interceptors.ConcurrencyLimit(100, limit.Queue{}),
		}},
		"the server of doc/overload.md": {server, layers{
			interceptors.Recover(), interceptors.Criticality(interceptors.CriticalityConfig{}), interceptors.AdaptiveLimit(adaptive.Config{}),
		}},
		"metrics in doc/operating.md": {server, layers{
			interceptors.Recover(), interceptors.Metrics(metrics.New(metrics.Config{})),
			interceptors.Named("capacity", interceptors.ConcurrencyLimit(200, limit.Queue{Max: 50})),
		}},
		"an adopted interceptor in README.md": {server, layers{
			interceptors.Recover(), adopted(), interceptors.ConcurrencyLimit(200, limit.Queue{Max: 50}),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range interceptors.New(tt.layers...).Lint(tt.side) {
				if name != "around all endpoints, in doc/balancing.md" || f.Check != "no-attempt-timeout" { // that is around each endpoint
					t.Error(f)
				}
			}
		})
	}
}
