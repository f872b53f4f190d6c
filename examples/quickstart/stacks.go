package main

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// roundRobin is gRPC's own policy that uses all servers.
const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// names are those of the three servers.
var names = []string{"steady", "slow", "flaky"}

// fleetOf returns the servers, each behind the options that protect makes.
func fleetOf(protect func() []grpc.ServerOption) []demo.Server {
	servers := []demo.Server{
		{Name: "steady", Delay: 3 * time.Millisecond},
		{Name: "slow", Delay: 400 * time.Millisecond},
		{Name: "flaky", Delay: 3 * time.Millisecond, FailShare: 0.3},
	}
	for i := range servers {
		if protect != nil {
			servers[i].Options = protect()
		}
	}
	return servers
}

// serverStack is what stands in front of each server.
func serverStack() []grpc.ServerOption {
	return interceptors.New(
		interceptors.Recover(),
		interceptors.ConcurrencyLimit(100, limit.Queue{}),
		interceptors.Timeout(time.Second),
	).ServerOptions()
}

func dialBare(f *demo.Fleet) (*grpc.ClientConn, error) {
	return f.Dial(grpc.WithDefaultServiceConfig(roundRobin))
}

// dialStack dials through the client's stack.
func dialStack(f *demo.Fleet, seen *events) (*grpc.ClientConn, error) {
	stack := interceptors.New(
		interceptors.Observe(seen.add),
		interceptors.Timeout(1500*time.Millisecond), // the whole RPC
		interceptors.Retry(retry.Config{
			Backoff:   retry.Backoff{Base: 5 * time.Millisecond},
			Retryable: interceptors.RetryCodes(codes.Unavailable, codes.ResourceExhausted),
		}),
		interceptors.Named("attempt", interceptors.Timeout(200*time.Millisecond)), // each attempt; the streams here are short
		interceptors.ConcurrencyLimit(200, limit.Queue{Max: 100}),
	)
	return f.Dial(append(stack.DialOptions(), balance.WithP2C(balance.Config{}))...)
}

// events counts what happened inside the client's stack.
type events struct {
	mu       sync.Mutex
	retries  map[string]int // by reason
	refusals map[string]int // by reason
}

func newEvents() *events { return &events{retries: map[string]int{}, refusals: map[string]int{}} }

func (e *events) add(_ context.Context, event interceptors.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch event.Kind {
	case interceptors.EventRetry:
		e.retries[event.Reason]++
	case interceptors.EventRefused:
		e.refusals[event.Reason]++
	case interceptors.EventTimeout, interceptors.EventHedge, interceptors.EventPanic:
		// A timeout shows as the retry that follows it; the others do not happen here.
	}
}
