package interceptors_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
)

// ends is an Observe that keeps the ends.
type ends struct {
	mu  sync.Mutex
	all []interceptors.Event
}

func (e *ends) layer() interceptors.Layer {
	return interceptors.Observe(func(_ context.Context, ev interceptors.Event) {
		if ev.Kind == interceptors.EventEnd {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.all = append(e.all, ev)
		}
	})
}

// TestEachRPCHasOneEnd runs RPCs that end in each way, and looks at the duration,
// the code and the outcome of their ends.
func TestEachRPCHasOneEnd(t *testing.T) {
	for _, tt := range []struct {
		name    string
		layers  []interceptors.Layer
		invoke  func(ctx context.Context) error
		code    codes.Code
		outcome turret.Outcome
	}{
		{"success", nil, func(context.Context) error { return nil }, codes.OK, turret.Success},
		{"answer", nil, func(context.Context) error { return status.Error(codes.NotFound, "") }, codes.NotFound, turret.Success},
		{"failure", nil, func(context.Context) error { return status.Error(codes.Internal, "") }, codes.Internal, turret.Failure},
		{"plain error", nil, func(context.Context) error { return errors.New("odd") }, codes.Unknown, turret.Failure},
		{
			"refusal",
			[]interceptors.Layer{interceptors.ConcurrencyLimit(0, limit.Queue{})},
			func(context.Context) error { return nil }, codes.ResourceExhausted, turret.Unused,
		},
		{
			"timeout",
			[]interceptors.Layer{interceptors.Timeout(time.Second)},
			func(ctx context.Context) error { <-ctx.Done(); return status.FromContextError(ctx.Err()).Err() }, codes.DeadlineExceeded, turret.Failure,
		},
		{"panic", nil, func(context.Context) error { panic("a bug") }, codes.Internal, turret.Failure},
		{"exit", nil, func(context.Context) error { runtime.Goexit(); return nil }, codes.Internal, turret.Failure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e ends
				stack := interceptors.New(append([]interceptors.Layer{e.layer()}, tt.layers...)...)
				invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					time.Sleep(time.Second)
					return tt.invoke(ctx)
				}
				over := make(chan struct{})
				go func() {
					defer close(over)
					defer func() { _ = recover() }()
					_ = stack.UnaryClient()(t.Context(), "/a.B/C", nil, nil, nil, invoke)
				}()
				<-over
				if len(e.all) != 1 {
					t.Fatalf("%d ends, want 1", len(e.all))
				}
				took := time.Second
				if tt.name == "refusal" {
					took = 0
				}
				if end := e.all[0]; end.Took != took || end.Code != tt.code || end.Outcome != tt.outcome || (end.Err == nil) != (tt.code == codes.OK) {
					t.Errorf("took %v, code %v, outcome %v, error %v; want %v, %v, %v", end.Took, end.Code, end.Outcome, end.Err, took, tt.code, tt.outcome)
				}
			})
		})
	}
}

// TestObserveAllocatesOnce holds what Observe costs an RPC that succeeds.
func TestObserveAllocatesOnce(t *testing.T) {
	ctx := context.Background()
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	allocs := func(layers ...interceptors.Layer) float64 {
		client := interceptors.New(layers...).UnaryClient()
		return testing.AllocsPerRun(1000, func() { _ = client(ctx, "/a.B/C", nil, nil, nil, invoke) })
	}
	pass := allocs(turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		return inner.Call(ctx, rpc)
	}))
	observe := interceptors.Observe(func(context.Context, interceptors.Event) {})
	if got := allocs(observe); got > pass+1 {
		t.Errorf("%v allocations with Observe, %v without, want one more at most", got, pass)
	}
	if got := allocs(observe, observe); got > pass+2 {
		t.Errorf("%v allocations with two Observe, %v without, want two more at most", got, pass)
	}
}
