package drain

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// Layer returns the layer through which d counts RPCs, cancels streams and
// refuses what comes too late. Put it outermost in the stack of the server, once.
//
// Unary RPCs are counted, and nothing else: no context is made for them, and
// Stop ends those that outlast Cutting. A stream gets a context that Cutting
// cancels with the cause [ErrDraining]; it also ends a blocked RecvMsg and
// SendMsg. A stream that then fails ends with UNAVAILABLE and reason DRAINING,
// whatever error its handler returns. One whose handler returns nil has
// succeeded.
//
// An RPC that begins in Cutting is refused with the same code and reason before
// its handler runs. Ready returns that refusal from LameDuck on.
func (d *Drainer) Layer() interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return &service{inner, d} }
}

type service struct {
	interceptors.Service

	drainer *Drainer
}

var refusal = &turret.Refusal{Kind: turret.KindUnavailable, Layer: "drain", Reason: ReasonDraining, Err: ErrDraining}

func (s *service) Ready(ctx context.Context) error {
	if s.drainer.Phase() != Serving {
		return refusal
	}
	return s.Service.Ready(ctx)
}

func (s *service) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	if rpc.Kind != interceptors.KindUnary {
		return s.drainer.stream(ctx, rpc, s.Service)
	}
	// Counted before the phase is read, so that no RPC is in neither.
	s.drainer.unary.Add(1)
	defer s.drainer.unary.Add(-1)
	if s.drainer.Phase() >= Cutting {
		s.drainer.refused.Add(1)
		return nil, refusal
	}
	return s.Service.Call(ctx, rpc)
}

func (s *service) String() string { return s.drainer.String() }

func (s *service) Describe(d *turret.Description) { s.drainer.Describe(d) }

// A stream is the context of a stream that runs.
type stream struct {
	context.Context //nolint:containedctx // it is a context

	drainer *Drainer
	cancel  context.CancelCauseFunc
}

type streamKey struct{}

// Value finds the stream itself, without a context of its own for it.
func (s *stream) Value(key any) any {
	if key == (streamKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// Notice returns a channel that is closed when the server wants to stop, from
// Stopping on: a handler of a stream should then end it, within Config.Notice.
// It is nil, which is never ready, in unary RPCs, and where no layer of a
// [Drainer] is around the handler.
func Notice(ctx context.Context) <-chan struct{} {
	s, ok := ctx.Value(streamKey{}).(*stream)
	if !ok {
		return nil
	}
	return s.drainer.notice
}

// stream runs rpc with a context that d can cancel.
func (d *Drainer) stream(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
	s := &stream{drainer: d}
	s.Context, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	if !d.begin(s) {
		d.refused.Add(1)
		return nil, refusal
	}
	defer d.end(s)
	reply, err := inner.Call(s, rpc)
	if err != nil && errors.Is(context.Cause(s), ErrDraining) {
		d.cut.Add(1)
		return nil, &cutError{err}
	}
	return reply, err
}

// begin adds s to the streams that run, unless it is too late for it.
func (d *Drainer) begin(s *stream) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Phase() >= Cutting {
		return false
	}
	d.streams[s] = struct{}{}
	return true
}

func (d *Drainer) end(s *stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.streams, s)
}

// A cutError is the error of a stream that Cutting ended.
type cutError struct{ err error }

// Error returns the text of [ErrDraining]; that of the handler's error says that
// a context was cancelled.
func (*cutError) Error() string { return ErrDraining.Error() }

// GRPCStatus returns UNAVAILABLE with reason DRAINING.
func (*cutError) GRPCStatus() *status.Status { return cutStatus }

// Is reports whether target is [ErrDraining].
func (*cutError) Is(target error) bool { return target == ErrDraining }

// Unwrap returns the error of the handler.
func (e *cutError) Unwrap() error { return e.err }

var cutStatus = func() *status.Status {
	st := status.New(codes.Unavailable, ErrDraining.Error())
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Domain: interceptors.Domain, Reason: ReasonDraining}); err == nil {
		return with
	}
	return st
}()
