package interceptors_test

import (
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/fakemeter"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/metrics"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// embedding is a layer that does nothing, as a struct.
type embedding struct{ interceptors.Service }

func (e embedding) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return e.Service.Call(ctx, rpc)
}

func embedded(inner interceptors.Service) interceptors.Service { return embedding{inner} }

// five are the layers of the comparison with other libraries.
func five(bound time.Duration) []interceptors.Layer {
	return []interceptors.Layer{
		interceptors.Timeout(bound),
		interceptors.LoadShed(),
		interceptors.ConcurrencyLimit(100, limit.Queue{}),
		interceptors.RateLimit(limit.PerSecond(1_000_000), limit.Queue{}),
		interceptors.Retry(retry.Config{}),
	}
}

// allocations is how often f allocates, at least, to the nearest whole number: on
// a connection some of it is done by goroutines that go on after f, and may be
// counted with the next one or not at all. (testing.AllocsPerRun rounds down: one
// that is missing in twenty calls is missing in each.) The collector must not
// empty the pools of others meanwhile. Where they cannot be counted f runs all the
// same.
func allocations(f func()) float64 {
	f()
	if !exact {
		return 0
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const calls = 20
	least := uint64(math.MaxUint64)
	for range 5 {
		before := mallocs()
		for range calls {
			f()
		}
		least = min(least, mallocs()-before)
	}
	return math.Round(float64(least) / calls)
}

// mallocs is how often the process has allocated so far.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// What an RPC costs in a stack over nothing.
func TestAllocations(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	open := context.Background()
	timer := allocations(func() {
		ctx, cancel := context.WithTimeout(open, time.Minute)
		_ = ctx.Done()
		cancel()
	})
	refused := &turret.Refusal{Layer: "gate", Reason: "R", Err: errMine}
	later := &turret.Refusal{Layer: "gate", Reason: "R", Err: errMine, RetryAfter: time.Second}
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		layers  []interceptors.Layer
		most    float64
		trailer float64 // more on a server, for the trailer
	}{
		{"a layer that does nothing", ctx, []interceptors.Layer{embedded}, 1, 0},
		{"ten of them", ctx, []interceptors.Layer{embedded, embedded, embedded, embedded, embedded, passing, passing, passing, passing, passing}, 1, 0},
		{"concurrency limit", ctx, []interceptors.Layer{interceptors.ConcurrencyLimit(1, limit.Queue{})}, 1, 0},
		{"concurrency limit with a line", ctx, []interceptors.Layer{interceptors.ConcurrencyLimit(1, limit.Queue{Max: 9})}, 1, 0},
		{"rate limit", ctx, []interceptors.Layer{interceptors.RateLimit(limit.PerSecond(1_000_000), limit.Queue{})}, 1, 0},
		{"Retry", ctx, []interceptors.Layer{interceptors.Retry(retry.Config{})}, 1, 0},
		{"Recover", ctx, []interceptors.Layer{interceptors.Recover()}, 1, 0},
		{"Filter", ctx, []interceptors.Layer{interceptors.Filter(admitting)}, 1, 0},
		{"For", ctx, []interceptors.Layer{interceptors.For("/package.Service/*", embedded), interceptors.Except("/*", embedded)}, 1, 0},
		{"Named", ctx, []interceptors.Layer{interceptors.Named("n", embedded)}, 1, 0},
		{"LoadShed", ctx, []interceptors.Layer{interceptors.LoadShed(), interceptors.ConcurrencyLimit(1, limit.Queue{})}, 1, 0},
		{"Metrics", ctx, []interceptors.Layer{interceptors.Metrics(metrics.New(metrics.Config{MeterProvider: &fakemeter.Provider{}})), embedded}, 1, 0},
		{"InContext", ctx, []interceptors.Layer{interceptors.InContext()}, 2, 0},
		{"Timeout, earlier deadline", ctx, []interceptors.Layer{interceptors.Timeout(time.Hour)}, 1, 0},
		{"Timeout, timer", open, []interceptors.Layer{interceptors.Timeout(time.Minute)}, 1 + timer, 0},
		{"five layers, earlier deadline", ctx, five(time.Hour), 1, 0},
		{"five layers, timer", open, five(time.Minute), 6, 0},
		{"refusal", ctx, []interceptors.Layer{interceptors.Admit(refusing{refused})}, 6, 0},
		{"refusal, named", ctx, []interceptors.Layer{interceptors.Named("n", interceptors.Admit(refusing{refused}))}, 7, 0},
		{"refusal of a limit", ctx, []interceptors.Layer{full()}, 6, 0},
		{"refusal with RetryInfo", ctx, []interceptors.Layer{interceptors.Admit(refusing{later})}, 12, 4},
		{"refusal of a rate limit", ctx, []interceptors.Layer{interceptors.RateLimit(limit.Rate{N: 1, Per: time.Hour}, limit.Queue{})}, 12, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := interceptors.New(tt.layers...)
			client, server := s.UnaryClient(), s.UnaryServer()
			req, reply := new(request), new(response)
			var invoker grpc.UnaryInvoker = succeeds
			handler := func(ctx context.Context, _ any) (any, error) { return reply, ctx.Err() }
			info := &grpc.UnaryServerInfo{FullMethod: "/package.Service/Method"}
			ctx := grpc.NewContextWithServerTransportStream(tt.ctx, deaf{})
			wantAllocations(t, tt.most, allocations(func() { _ = client(tt.ctx, "/package.Service/Method", req, reply, nil, invoker) }))
			wantAllocations(t, tt.most+tt.trailer, allocations(func() { _, _ = server(ctx, req, info, handler) }))
		})
	}
}

// deaf is the stream of a server whose trailer is not read.
type deaf struct{ grpc.ServerTransportStream }

func (deaf) SetTrailer(metadata.MD) error { return nil }

func wantAllocations(t *testing.T, most, got float64) {
	t.Helper()
	if got > most {
		t.Errorf("%v allocations, want at most %v", got, most)
	}
}

// What an RPC costs in stacks on a connection, beyond what it costs without.
func TestAllocationsOnConnection(t *testing.T) {
	of := func(layers ...interceptors.Layer) *interceptors.Stack { return interceptors.New(layers...) }
	for _, tt := range []struct {
		name           string
		client, server *interceptors.Stack
		kind           interceptors.Kind
		most           float64
		growth         float64 // of the list of messages that are kept until the stream is committed
	}{
		{"unary, client", of(embedded), nil, interceptors.KindUnary, 1, 0},
		{"unary, server", nil, of(embedded), interceptors.KindUnary, 2, 0}, // one is gRPC's, for another interceptor in its chain
		{"unary, Retry", of(interceptors.Retry(retry.Config{})), nil, interceptors.KindUnary, 3, 0},
		{"unary, five layers on both sides", of(five(time.Hour)...), of(five(time.Hour)...), interceptors.KindUnary, 15, 0},
		{"client stream, client", of(embedded), nil, interceptors.KindClientStream, 6, 0},
		{"server stream, client", of(embedded), nil, interceptors.KindServerStream, 6, 0},
		{"bidi stream, client", of(embedded), nil, interceptors.KindBidiStream, 6, 0},
		{"bidi stream, client, five layers", of(five(time.Hour)[:4]...), nil, interceptors.KindBidiStream, 6, 0},
		{"client stream, client, Retry", of(interceptors.Retry(retry.Config{})), nil, interceptors.KindClientStream, 16, 3},
		{"server stream, client, Retry", of(interceptors.Retry(retry.Config{})), nil, interceptors.KindServerStream, 16, 0},
		{"bidi stream, client, Retry", of(interceptors.Retry(retry.Config{})), nil, interceptors.KindBidiStream, 16, 0},
		{"client stream, server", nil, of(embedded), interceptors.KindClientStream, 3, 0},
		{"server stream, server", nil, of(embedded), interceptors.KindServerStream, 3, 0},
		{"bidi stream, server", nil, of(embedded), interceptors.KindBidiStream, 3, 0},
		{"bidi stream, server, five layers", nil, of(five(time.Hour)...), interceptors.KindBidiStream, 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			bare, stacked := newWorld(t, worldOf{}), newWorld(t, worldOf{client: tt.client, server: tt.server})
			more := func(messages int) float64 {
				was := allocations(func() { bare.talk(ctx, t, tt.kind, messages) })
				is := allocations(func() { stacked.talk(ctx, t, tt.kind, messages) })
				return is - was
			}
			wantAllocations(t, tt.most, more(1))
			if tt.kind != interceptors.KindUnary {
				wantAllocations(t, tt.most+tt.growth, more(20)) // messages cost nothing
			}
		})
	}
}

// Attempts copy the RPC, and so do layers that change it.
func TestSizeOfRPC(t *testing.T) {
	if size := unsafe.Sizeof(interceptors.RPC{}); size > 112 {
		t.Errorf("an RPC has %d bytes, want at most 112", size)
	}
}

// talk makes an RPC that sends and receives this many messages.
func (w *world) talk(ctx context.Context, t *testing.T, k interceptors.Kind, messages int) {
	t.Helper()
	req := new(request)
	if k == interceptors.KindServerStream {
		req.Plan = &echov1.Plan{Responses: new(int32(messages))}
		messages = 1
	}
	if k == interceptors.KindUnary {
		if err := w.Conn.Invoke(ctx, method(k), req, new(response)); err != nil {
			t.Fatal(err)
		}
		return
	}
	s, err := w.open(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	res := new(response)
	for range messages {
		if err := s.SendMsg(req); err != nil {
			t.Fatal(err)
		}
		if k == interceptors.KindBidiStream {
			if err := s.RecvMsg(res); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = s.CloseSend()
	for {
		if err := s.RecvMsg(res); errors.Is(err, io.EOF) || err == nil && !serverStreams(k) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
