package surge

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/test/experiments/memory"
)

// clients is how many connections there are.
const clients = 10

// RunWire plays a scenario as [Run] does, with a gRPC server, or two in a row, and
// ten gRPC clients over connections in memory. It has no streams.
func RunWire(t *testing.T, sc Scenario, l *Limit, seed uint64) (r *Result) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(sc, l, seed)
		server := memory.Serve(w.serve, w.options()...)
		defer server.Close()
		if sc.Front > 0 {
			front, dial := w.limit.Front(sc)
			w.behind = server.Dial(append(dial, grpc.WithDisableRetry())...)
			server = memory.Serve(w.front, front...)
			defer server.Close()
		}
		var conns []*grpc.ClientConn
		for range clients {
			opts := []grpc.DialOption{grpc.WithDisableRetry()}
			if w.limit.Dial != nil {
				opts = append(opts, w.limit.Dial()...)
			}
			conns = append(conns, server.Dial(opts...))
		}
		time.Sleep(time.Until(w.begin))
		w.load(func(ctx context.Context, c *Call) { w.invoke(ctx, conns, c) })
		r = &Result{Scenario: sc, Calls: w.calls}
	})
	return r
}

// options install the limit.
func (w *world) options() []grpc.ServerOption {
	counted := grpc.ChainUnaryInterceptor(w.reached)
	if w.limit.Options != nil {
		return append([]grpc.ServerOption{counted}, w.limit.Options(w.Scenario)...)
	}
	return []grpc.ServerOption{counted, grpc.ChainUnaryInterceptor(w.intercept)}
}

// reached notes that a call has come to the server.
func (w *world) reached(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	w.calls[memory.Number(req)].Reached = true
	return next(ctx, req)
}

// front is the handler of the server in front, which has room for all.
func (w *world) front(ctx context.Context, number uint64) error {
	c := w.calls[number]
	time.Sleep(w.Front)
	c.Fronted = true
	if c.Alone {
		return status.FromContextError(ctx.Err()).Err()
	}
	return memory.Call(ctx, w.behind, number)
}

// intercept is a door as an interceptor.
func (w *world) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	leave, err := w.door.Enter(ctx, w.calls[memory.Number(req)])
	if err != nil {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	res, err := next(ctx, req)
	if err != nil {
		leave(turret.Failure)
		return nil, err
	}
	leave(turret.Success)
	return res, nil
}

// invoke makes a call over gRPC.
func (w *world) invoke(ctx context.Context, conns []*grpc.ClientConn, c *Call) {
	if w.Levels {
		text, _ := (criticality.CriticalPlus + criticality.Level(c.Level)).MarshalText()
		ctx = metadata.AppendToOutgoingContext(ctx, criticality.Key, string(text))
	}
	call := memory.Call
	if c.Alone {
		call = memory.CallOther
	}
	switch err := call(ctx, conns[c.number%clients], uint64(c.number)); {
	case err == nil:
		c.Answered = w.now()
	case c.Hangs || status.Code(err) == codes.ResourceExhausted:
	default:
		c.Late = true
	}
}

// serve is the handler.
func (w *world) serve(ctx context.Context, number uint64) error {
	c := w.calls[number]
	if c.Hangs {
		<-ctx.Done()
	} else {
		w.server.Do(ctx, c)
	}
	return status.FromContextError(ctx.Err()).Err()
}
