package rls

import (
	"cmp"
	"context"
	"fmt"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	service "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

var _ shared.Engine = (*Engine)(nil)

// A Config says how an [Engine] names a limit to the server. Domain is required.
type Config struct {
	// Domain is the domain of the server's configuration. Not empty.
	Domain string
	// Entry is the key of the descriptor's only entry; the key of the limit is
	// its value. Empty: "turret".
	Entry string
}

const defaultEntry = "turret"

// Validate returns a [*turret.FieldError] if Domain is empty.
func (c Config) Validate() error {
	if c.Domain == "" {
		return &turret.FieldError{Package: "rls", Field: "Domain", Value: c.Domain, Bound: "not empty"}
	}
	return nil
}

// Engine is a [shared.Engine] whose tokens are kept by a server of Envoy's rate
// limit protocol. Its methods may be called concurrently. Use [New].
type Engine struct {
	client service.RateLimitServiceClient
	config Config
}

// New returns an engine that asks through conn, which the caller closes. It
// panics if conn is nil or c is invalid.
func New(conn grpc.ClientConnInterface, c Config) *Engine {
	if conn == nil {
		misuse.Check("rls: New", &turret.FieldError{Package: "rls", Field: "conn", Value: nil, Bound: "a connection"})
	}
	misuse.Check("rls: New", c.Validate())
	c.Entry = cmp.Or(c.Entry, defaultEntry)
	return &Engine{service.NewRateLimitServiceClient(conn), c}
}

// DialOptions returns the options of a connection that is ready soon after its
// server is back: it tries again after 180 ms at most, and gives up an attempt
// after a second. gRPC's default pause grows to two minutes in a long absence.
// Options of the caller that follow them win.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 150 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})}
}

// Take takes n tokens of the limit key or none; [shared.Engine] has the rules.
// The rate is not sent. retryAfter is the longest time until a window of the
// server ends. The error wraps the status of the RPC.
func (e *Engine) Take(ctx context.Context, key string, n int, _ limit.Rate) (granted int, retryAfter time.Duration, err error) {
	answer, err := e.client.ShouldRateLimit(ctx, &service.RateLimitRequest{
		Domain: e.config.Domain,
		Descriptors: []*ratelimit.RateLimitDescriptor{{
			Entries: []*ratelimit.RateLimitDescriptor_Entry{{Key: e.config.Entry, Value: key}},
		}},
		HitsAddend: uint32(min(n, 1<<32-1)),
	})
	if err != nil {
		return 0, 0, fmt.Errorf("rls: taking tokens: %w", err)
	}
	switch code := answer.GetOverallCode(); code {
	case service.RateLimitResponse_OK:
		return n, 0, nil
	case service.RateLimitResponse_OVER_LIMIT:
		for _, s := range answer.GetStatuses() {
			retryAfter = max(retryAfter, s.GetDurationUntilReset().AsDuration())
		}
		return 0, retryAfter, nil
	default:
		return 0, 0, fmt.Errorf("rls: the server answered %v, want OK or OVER_LIMIT", code)
	}
}
