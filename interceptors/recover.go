package interceptors

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/turret-go/turret"
)

// Recover returns a [Layer] that turns a panic inside it into INTERNAL. Nothing
// of the panic leaves the process: its value and its stack go to each f, or to
// slog's default logger if there is none. rpc is valid while f runs. f may be
// called concurrently, and a panic of f goes on outwards.
//
// Put it outermost, so that it covers the other layers too. A
// runtime.Goexit is not a panic and passes.
func Recover(f ...func(ctx context.Context, rpc *RPC, p any, stack []byte)) Layer {
	if len(f) == 0 {
		f = append(f, logPanic)
	}
	for i := range f {
		if f[i] == nil {
			misused("Recover", fmt.Sprintf("functions[%d]", i), nil, "non-nil")
		}
	}
	return func(inner Service) Service { return &recoverService{Service: inner, told: f} }
}

type recoverService struct {
	Service

	// The functions that get each panic, in the order given.
	told   []func(ctx context.Context, rpc *RPC, p any, stack []byte)
	panics atomic.Uint64
}

// recover returns nil for a runtime.Goexit and for no panic, so that both go on. A
// panic with nil is a *runtime.PanicNilError since Go 1.21.
func (s *recoverService) Call(ctx context.Context, rpc *RPC) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.caught(ctx, rpc, p)
			reply, err = nil, errPanic
		}
	}()
	return s.Service.Call(ctx, rpc)
}

// caught reports the panic p. It runs on the goroutine that panicked, before its stack
// is unwound, so that debug.Stack shows where that was. Observers come last: a panic
// of one must not keep the functions from being called.
func (s *recoverService) caught(ctx context.Context, rpc *RPC, p any) {
	s.panics.Add(1)
	stack := debug.Stack()
	for _, f := range s.told {
		f(ctx, rpc, p, stack)
	}
	rpc.tell(ctx, &Event{Kind: EventPanic, Layer: "recover", Err: errPanic, Panic: p})
}

func (s *recoverService) String() string { return "recover" }

// logPanic is the function of a Recover without one. It writes one line.
func logPanic(ctx context.Context, rpc *RPC, p any, stack []byte) {
	slog.Default().ErrorContext(ctx, "panic in an RPC", "method", rpc.Method, "side", rpc.Side.String(),
		"panic", fmt.Sprint(p), "stack", string(stack))
}

// Describe says how many panics were caught.
func (s *recoverService) Describe(d *turret.Description) {
	d.Is("recover", s.String())
	d.Count("panics", "{panic}", "", s.panics.Load())
}
