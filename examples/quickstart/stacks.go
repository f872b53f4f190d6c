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
	"github.com/turret-go/turret/statusz"
)

// roundRobin is gRPC's own policy that uses all servers.
const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// names are those of the three servers.
var names = []string{"steady", "slow", "flaky"}

// What is wrong with two of the servers.
const (
	quick     = 3 * time.Millisecond
	slow      = 400 * time.Millisecond
	failShare = 0.3
)

// fleetOf returns the servers, each behind its own stack; behind none if servers
// is nil.
func fleetOf(servers []*interceptors.Stack) []demo.Server {
	fleet := []demo.Server{
		{Name: "steady", Delay: quick},
		{Name: "slow", Delay: slow},
		{Name: "flaky", Delay: quick, FailShare: failShare},
	}
	for i, stack := range servers {
		fleet[i].Options = stack.ServerOptions()
	}
	return fleet
}

// stacks are those of the right column: one of the client, and one of each server.
type stacks struct {
	client  *interceptors.Stack
	servers []*interceptors.Stack
}

// newStacks makes the stacks. If there is a page, they are on it.
func newStacks(seen *events, page *statusz.Page) *stacks {
	var shown interceptors.Layer
	if page != nil {
		shown = page.Layer()
	}
	s := &stacks{client: clientStack(seen, shown)}
	for range names {
		s.servers = append(s.servers, serverStack(shown))
	}
	if page != nil {
		page.Add("client", s.client)
		for i, name := range names {
			page.Add("server "+name, s.servers[i])
		}
	}
	return s
}

// serverStack is what stands in front of each server. shown may be nil.
func serverStack(shown interceptors.Layer) *interceptors.Stack {
	return interceptors.New(
		interceptors.Recover(),
		shown,
		interceptors.ConcurrencyLimit(100, limit.Queue{}),
		interceptors.Timeout(time.Second),
	)
}

// clientStack is what the client's RPCs go through. shown may be nil.
func clientStack(seen *events, shown interceptors.Layer) *interceptors.Stack {
	return interceptors.New(
		shown,
		interceptors.Observe(seen.add),
		interceptors.Timeout(1500*time.Millisecond), // the whole RPC
		interceptors.Retry(retry.Config{
			Backoff:   retry.Backoff{Base: 5 * time.Millisecond},
			Retryable: interceptors.RetryCodes(codes.Unavailable, codes.ResourceExhausted),
		}),
		interceptors.Named("attempt", interceptors.Timeout(200*time.Millisecond)), // each attempt; the streams here are short
		interceptors.ConcurrencyLimit(200, limit.Queue{Max: 100}),
	)
}

func dialBare(f *demo.Fleet) (*grpc.ClientConn, error) {
	return f.Dial(grpc.WithDefaultServiceConfig(roundRobin))
}

// dial dials through the client's stack, and balances with turret.P2C.
func (s *stacks) dial(f *demo.Fleet) (*grpc.ClientConn, error) {
	return f.Dial(append(s.client.DialOptions(), balance.WithP2C(balance.Config{}))...)
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
	case interceptors.EventTimeout, interceptors.EventHedge, interceptors.EventPanic, interceptors.EventShadow, interceptors.EventWarning, interceptors.EventEnd:
		// A timeout shows as the retry that follows it; the others do not happen here.
	}
}
