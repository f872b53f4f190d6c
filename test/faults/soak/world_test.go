package soak

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/metrics"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/faults/internal/traffic"
	"github.com/turret-go/turret/trace"
)

const (
	servers = 3
	callers = 64
	// clientRoom is less than there are callers, and serverRoom less than an
	// equal share of it: both sides refuse now and then.
	clientRoom = 48
	serverRoom = 10
)

var (
	unary   = []interceptors.Kind{interceptors.KindUnary}
	streams = []interceptors.Kind{interceptors.KindClientStream, interceptors.KindServerStream, interceptors.KindBidiStream}
)

// A world is servers and a client with full stacks, and what they count.
type world struct {
	tally  tally
	client echov1.EchoServiceClient
	fleet  *wire.Fleet

	circuit *breaker.Breaker
	places  *limit.Concurrency // of the client
	rooms   [servers]*limit.Concurrency
	spans   traffic.Spans
	panics  atomic.Uint64 // that were recovered

	counters counters

	goroutines int // after the first round
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		circuit: breaker.New(breaker.Config{Consecutive: 12, Ratio: 0.9}),
		places:  limit.NewConcurrency(clientRoom, limit.Queue{Max: 8, Timeout: 20 * time.Millisecond}),
	}
	w.counters.meter = metrics.New(metrics.Config{MeterProvider: &w.counters.exporter})
	tracing := trace.Config{TracerProvider: sdk.NewTracerProvider(sdk.WithSpanProcessor(&w.spans))}
	for i := range w.rooms {
		w.rooms[i] = limit.NewConcurrency(serverRoom, limit.Queue{Max: 8, Timeout: 20 * time.Millisecond})
	}
	w.fleet = wire.StartFleet(t, wire.FleetConfig{
		Servers: servers,
		TCP:     true,
		Register: func(i int, s grpc.ServiceRegistrar) {
			echov1.RegisterEchoServiceServer(s, echo.New(string(rune('a'+i))))
		},
		Server: func(i int) []grpc.ServerOption {
			options := append(w.tally.outside(), w.serverStack(i, tracing).ServerOptions()...)
			return append(options, w.tally.inside()...)
		},
		Dial: append(w.clientStack(tracing).DialOptions(), balance.WithP2C(balance.Config{
			Limit: 40,
			// Where one RPC in ten fails at every server, the usual three failures in
			// a row come every second, and say nothing about a server.
			Failures: balance.Failures{Consecutive: 12},
		})),
	})
	w.client = echov1.NewEchoServiceClient(w.fleet.Conn)
	return w
}

func (w *world) serverStack(i int, tracing trace.Config) *interceptors.Stack {
	room := interceptors.Named(nameOfRoom, interceptors.Admit(w.rooms[i]))
	stack := interceptors.New(
		interceptors.Metrics(w.counters.meter),
		interceptors.Observe(w.counters.server.observe),
		interceptors.Recover(func(context.Context, *interceptors.RPC, any, []byte) { w.panics.Add(1) }),
		interceptors.Trace(tracing),
		interceptors.ForKind(streams, interceptors.LoadShed(), room),
		interceptors.ForKind(unary, room, interceptors.Timeout(100*time.Millisecond)),
	)
	w.counters.meter.Watch(fmt.Sprint("server ", i), stack)
	return stack
}

func (w *world) clientStack(tracing trace.Config) *interceptors.Stack {
	stack := interceptors.New(
		interceptors.Metrics(w.counters.meter),
		interceptors.Observe(w.counters.client.observe),
		interceptors.Trace(tracing),
		interceptors.ForKind(unary, interceptors.Timeout(time.Second)),
		interceptors.Named(nameOfCircuit, interceptors.Admit(w.circuit)),
		interceptors.Retry(retry.Config{MaxAttempts: maxAttempts, Backoff: retry.Backoff{Base: 2 * time.Millisecond}}),
		w.tally.client(),
		interceptors.Metrics(w.counters.meter),
		interceptors.Trace(tracing),
		interceptors.ForKind(unary, interceptors.Timeout(200*time.Millisecond)),
		interceptors.Named(nameOfPlaces, interceptors.Admit(w.places)),
	)
	w.counters.meter.Watch("client", stack)
	return stack
}

// atRest reports whether nothing of any RPC is held anywhere.
func (w *world) atRest() bool {
	for _, r := range w.rooms {
		if s := r.Stats(); s.InFlight != 0 || s.Waiting != 0 {
			return false
		}
	}
	c, p := w.circuit.Stats(), w.places.Stats()
	started, ended := w.spans.Count()
	return w.tally.running.Load() == 0 && c.InFlight == 0 && p.InFlight == 0 && p.Waiting == 0 && started == ended
}
