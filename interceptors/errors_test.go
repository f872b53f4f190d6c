package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/timeout"
)

// An errorRow is a row of the table of errors: what ends an RPC, and what the
// two sides see of it.
type errorRow struct {
	name  string
	layer interceptors.Layer
	slow  bool // what is inside the layer ends with its context
	ended func(ctx context.Context) (context.Context, context.CancelFunc)

	code       codes.Code
	reason     string        // of the ErrorInfo; empty: there is none
	retryAfter time.Duration // of the RetryInfo; 0: there is none
	pushback   string        // in the trailer of a server
	text       string        // of the status
	is         []error       // where the error arose
	refusal    bool          // a *turret.Refusal is found there
	sent       bool          // errors.Is(err, turret.ErrNotReady) is false there
	kinds      []interceptors.Kind
}

var errMine = errors.New("mine")

// refusing is a gate that refuses every call.
type refusing struct{ refusal *turret.Refusal }

func (g refusing) Ready(context.Context) error                         { return g.refusal }
func (g refusing) Enter(context.Context) (turret.Ticket, error)        { return turret.Ticket{}, g.refusal }
func (g refusing) TryEnter(context.Context) (t turret.Ticket, _ error) { return t, g.refusal }
func (g refusing) Leave(turret.Ticket, turret.Outcome)                 {}

// endsWith returns a layer that ends every RPC with err.
func endsWith(err error) interceptors.Layer {
	return turret.Wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) { return nil, err })
}

// waiting ends every RPC with its context.
func waiting(interceptors.Service) interceptors.Service {
	return turret.ServiceFunc(func(ctx context.Context, _ *interceptors.RPC) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
}

// refusalRow is the row of a refusal with this kind and reason.
func refusalRow(kind turret.Kind, reason string, code codes.Code) errorRow {
	return errorRow{
		name:  reason,
		layer: interceptors.Admit(refusing{&turret.Refusal{Kind: kind, Layer: "gate", Reason: reason, Err: errMine}}),
		code:  code, reason: reason, text: "gate: mine", is: []error{errMine, turret.ErrNotReady}, refusal: true,
	}
}

func errorRows(t *testing.T) []errorRow {
	t.Helper()
	detailed, err := status.New(codes.NotFound, "no such thing").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	cancelled := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(time.Second, cancel)
		return ctx, func() { timer.Stop(); cancel() }
	}
	expired := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, time.Second)
	}
	line := interceptors.ConcurrencyLimit(0, limit.Queue{Max: limit.Unbounded})
	return []errorRow{
		refusalRow(turret.KindOverloaded, turret.ReasonLimitFull, codes.ResourceExhausted),
		refusalRow(turret.KindOverloaded, turret.ReasonQueueFull, codes.ResourceExhausted),
		refusalRow(turret.KindOverloaded, turret.ReasonQueueTimeout, codes.ResourceExhausted),
		refusalRow(turret.KindOverloaded, turret.ReasonOverloaded, codes.ResourceExhausted),
		refusalRow(turret.KindOverloaded, turret.ReasonBufferFull, codes.ResourceExhausted),
		refusalRow(turret.KindRateLimited, turret.ReasonRateLimited, codes.ResourceExhausted),
		refusalRow(turret.KindUnavailable, turret.ReasonBufferClosed, codes.Unavailable),
		refusalRow(turret.KindUnavailable, turret.ReasonCircuitOpen, codes.Unavailable),
		refusalRow(turret.KindUnavailable, turret.ReasonNoEndpoint, codes.Unavailable),
		refusalRow(turret.Kind(99), "OF_ANOTHER_KIND", codes.ResourceExhausted),
		{
			name: "refusal with a delay",
			layer: interceptors.Admit(refusing{&turret.Refusal{
				Kind: turret.KindUnavailable, Reason: turret.ReasonCircuitOpen, RetryAfter: 1500*time.Millisecond + 1,
			}}),
			code: codes.Unavailable, reason: turret.ReasonCircuitOpen, retryAfter: 1500*time.Millisecond + 1, pushback: "1501",
			text: turret.ReasonCircuitOpen, is: []error{turret.ErrNotReady}, refusal: true,
		},
		{
			name:  "wrapped refusal",
			layer: endsWith(fmt.Errorf("around: %w", &turret.Refusal{Layer: "gate", Reason: "R", Err: errMine})),
			code:  codes.ResourceExhausted, reason: "R", text: "gate: mine", is: []error{errMine, turret.ErrNotReady}, refusal: true,
		},
		{
			name:  "refusal behind something sent",
			layer: endsWith(turret.Sent(&turret.Refusal{Layer: "gate", Reason: "R", Err: errMine})),
			code:  codes.ResourceExhausted, reason: "R", text: "gate: mine", is: []error{errMine}, refusal: true, sent: true,
		},
		{
			name: "Timeout", layer: interceptors.Timeout(time.Second), slow: true,
			code: codes.DeadlineExceeded, reason: "TIMEOUT", text: "turret: timeout of 1s exceeded",
			is: []error{timeout.ErrTimeout, context.DeadlineExceeded}, sent: true,
		},
		{
			name: "timeout.Layer", layer: turret.Stack(timeout.Layer[*interceptors.RPC, any](time.Second), waiting),
			code: codes.DeadlineExceeded, reason: "TIMEOUT", text: "turret: timeout of 1s exceeded",
			is: []error{timeout.ErrTimeout, context.DeadlineExceeded}, sent: true,
		},
		{
			name: "timeout.Error", layer: endsWith(&timeout.Error{After: time.Second, Err: errMine}),
			code: codes.DeadlineExceeded, reason: "TIMEOUT", text: "turret: timeout of 1s exceeded",
			is: []error{timeout.ErrTimeout, context.DeadlineExceeded, errMine}, sent: true,
		},
		{name: "caller cancels", ended: cancelled, slow: true, layer: interceptors.Filter(admitting), code: codes.Canceled, sent: true},
		{name: "caller's deadline", ended: expired, slow: true, layer: interceptors.Filter(admitting), code: codes.DeadlineExceeded, sent: true},
		{
			name: "caller's deadline under Timeout", ended: expired, slow: true, layer: interceptors.Timeout(time.Minute),
			code: codes.DeadlineExceeded, sent: true,
		},
		{
			name: "caller cancels in line", ended: cancelled, layer: line,
			code: codes.Canceled, text: "context canceled", is: []error{context.Canceled, turret.ErrNotReady},
		},
		{
			name: "caller's deadline in line", ended: expired, layer: line,
			code: codes.DeadlineExceeded, text: "context deadline exceeded", is: []error{context.DeadlineExceeded, turret.ErrNotReady},
		},
		{
			name:  "panic",
			layer: turret.Stack(interceptors.Recover(silently), turret.Wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) { panic("secret") })),
			code:  codes.Internal, text: "internal error", sent: true,
		},
		{
			name:  "Filter",
			layer: interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, errMine }),
			code:  codes.PermissionDenied, text: "mine", is: []error{errMine}, sent: true,
		},
		{name: "no reply", layer: endsWith(nil), code: codes.Internal, sent: true, kinds: kinds[:1]},
		{name: "plain error", layer: endsWith(errMine), code: codes.Unknown, text: "mine", is: []error{errMine}, sent: true},
		{
			name: "status", layer: endsWith(detailed.Err()),
			code: codes.NotFound, retryAfter: time.Minute, text: "no such thing", is: []error{detailed.Err()}, sent: true,
		},
		{
			name: "wrapped status", layer: endsWith(fmt.Errorf("around: %w", detailed.Err())),
			code: codes.NotFound, retryAfter: time.Minute, text: "around: rpc error: code = NotFound desc = no such thing",
			is: []error{detailed.Err()}, sent: true,
		},
		{
			name: "refused with a status", layer: endsWith(turret.NotReady(detailed.Err())),
			code: codes.NotFound, retryAfter: time.Minute, text: "no such thing", is: []error{detailed.Err(), turret.ErrNotReady},
		},
	}
}

// admitting is a filter that lets every RPC pass.
func admitting(context.Context, *interceptors.RPC) (context.Context, error) { return nil, nil } //nolint:nilnil // means: the same context

// wantStatus returns an error unless err carries the status of the row.
func (r *errorRow) wantStatus(err error) error {
	st, isStatus := status.FromError(err)
	var info *errdetails.ErrorInfo
	var retry time.Duration
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration()
		}
	}
	domain := ""
	if r.reason != "" {
		domain = interceptors.Domain
	}
	switch {
	case !isStatus || st.Code() != r.code || status.Code(err) != r.code:
		return fmt.Errorf("ended with %w, want code %v", err, r.code)
	case info.GetReason() != r.reason || info.GetDomain() != domain:
		return fmt.Errorf("ended with ErrorInfo %v, want reason %q", info, r.reason)
	case retry != r.retryAfter:
		return fmt.Errorf("ended with RetryInfo %v, want %v", retry, r.retryAfter)
	case r.text != "" && st.Message() != r.text:
		return fmt.Errorf("ended with the text %q, want %q", st.Message(), r.text)
	case strings.Contains(st.Message(), "secret"):
		return fmt.Errorf("the text %q has the panic in it", st.Message())
	}
	return nil
}

// wantCauses returns an error unless err, on the side where it arose, can be
// asked for its causes.
func (r *errorRow) wantCauses(err error) error {
	for _, target := range r.is {
		if !errors.Is(err, target) {
			return fmt.Errorf("%w does not match %w", err, target)
		}
	}
	if got := errors.Is(err, turret.ErrNotReady); got == r.sent {
		return fmt.Errorf("%w matches turret.ErrNotReady: %v, want %v", err, got, !r.sent)
	}
	if refusal, got := errors.AsType[*turret.Refusal](err); got != r.refusal || got && refusal.Reason != r.reason {
		return fmt.Errorf("%w has a refusal: %v, want one: %v", err, got, r.refusal)
	}
	if code, st := interceptors.Code(err), interceptors.Status(err); code != r.code || st.Code() != r.code {
		return fmt.Errorf("Code says %v and Status %v, want %v", code, st.Code(), r.code)
	}
	return nil
}

// forEach runs f for each row and each of its kinds.
func forEachError(t *testing.T, f func(t *testing.T, ctx context.Context, r *errorRow, k interceptors.Kind, plan *echov1.Plan)) {
	t.Helper()
	for _, r := range errorRows(t) {
		of := r.kinds
		if of == nil {
			of = kinds
		}
		for _, k := range of {
			inBubble(t, r.name+"/"+k.String(), func(t *testing.T) {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if r.ended != nil {
					ctx, cancel = r.ended(ctx)
				}
				defer cancel()
				plan := &echov1.Plan{}
				if r.slow {
					plan.Delay = durationpb.New(time.Hour)
				}
				f(t, ctx, &r, k, plan)
			})
		}
	}
}

// The caller of a client stack sees the status, and the causes behind it.
func TestErrorsOfClient(t *testing.T) {
	forEachError(t, func(t *testing.T, ctx context.Context, r *errorRow, k interceptors.Kind, plan *echov1.Plan) {
		w := newWorld(t, worldOf{client: interceptors.New(r.layer)})
		got := w.do(ctx, k, plan)
		if err := r.wantStatus(got.err); err != nil {
			t.Error(err)
		}
		if err := r.wantCauses(got.err); err != nil {
			t.Error(err)
		}
	})
}

// What arises in a server's stack crosses the wire as a status with its details,
// and without its causes: the request was sent.
func TestErrorsAcrossTheWire(t *testing.T) {
	forEachError(t, func(t *testing.T, ctx context.Context, r *errorRow, k interceptors.Kind, plan *echov1.Plan) {
		w := newWorld(t, worldOf{client: interceptors.New(interceptors.Recover()), server: interceptors.New(r.layer)})
		got := w.do(ctx, k, plan)
		if r.ended != nil {
			r.text = "" // the client sees its context end
		}
		if err := r.wantStatus(got.err); err != nil {
			t.Error(err)
		}
		if errors.Is(got.err, turret.ErrNotReady) || errors.Is(got.err, timeout.ErrTimeout) {
			t.Errorf("%v, which was sent, matches a cause of the server's", got.err)
		}
		var want []string
		if r.pushback != "" {
			want = []string{r.pushback}
		}
		if pushback := got.trailer.Get("grpc-retry-pushback-ms"); !slices.Equal(pushback, want) {
			t.Errorf("the trailer asks to come back after %q, want %q", pushback, want)
		}
	})
}

// Interceptors in front of a server's stack see the status and the causes.
func TestErrorsOfServer(t *testing.T) {
	forEachError(t, func(t *testing.T, ctx context.Context, r *errorRow, k interceptors.Kind, _ *echov1.Plan) {
		handler := func(ctx context.Context) error {
			if r.slow {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		stack, trailer := interceptors.New(r.layer), new(trailers)
		var err error
		if k == interceptors.KindUnary {
			ctx = grpc.NewContextWithServerTransportStream(ctx, trailer)
			_, err = stack.UnaryServer()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method(k)},
				func(ctx context.Context, _ any) (any, error) { return new(response), handler(ctx) })
		} else {
			info := &grpc.StreamServerInfo{FullMethod: method(k), IsClientStream: clientStreams(k), IsServerStream: serverStreams(k)}
			err = stack.StreamServer()(nil, serverStream{ctx, trailer}, info,
				func(_ any, s grpc.ServerStream) error { return handler(s.Context()) })
		}
		if err := r.wantStatus(err); err != nil {
			t.Error(err)
		}
		if err := r.wantCauses(err); err != nil {
			t.Error(err)
		}
		if got := strings.Join(trailer.md.Get("grpc-retry-pushback-ms"), " "); got != r.pushback {
			t.Errorf("the trailer asks to come back after %q, want %q", got, r.pushback)
		}
	})
}

// trailers keeps what a server sets as its trailer.
type trailers struct {
	grpc.ServerTransportStream

	md metadata.MD
}

func (s *trailers) SetTrailer(md metadata.MD) error {
	s.md = metadata.Join(s.md, md)
	return nil
}

type serverStream struct {
	ctx context.Context //nolint:containedctx // as grpc.ServerStream has it
	*trailers
}

func (s serverStream) Context() context.Context     { return s.ctx }
func (s serverStream) SetTrailer(md metadata.MD)    { _ = s.trailers.SetTrailer(md) }
func (s serverStream) SetHeader(metadata.MD) error  { return nil }
func (s serverStream) SendHeader(metadata.MD) error { return nil }
func (s serverStream) SendMsg(any) error            { return nil }
func (s serverStream) RecvMsg(any) error            { return nil }

// A handler that returns an error of its own downstream's has run: its stack
// must not take it for one that says that nothing was sent, nor for its own.
func TestHandlerRelaysRefusal(t *testing.T) {
	refusal := &turret.Refusal{Kind: turret.KindUnavailable, Layer: "downstream", Reason: turret.ReasonNoEndpoint, RetryAfter: time.Second, Err: errMine}
	edge := interceptors.New(endsWith(refusal)).UnaryClient()(t.Context(), "/a/b", nil, nil, nil, nil)
	for name, relayed := range map[string]error{
		"raw":              refusal,
		"as a status":      edge,
		"wrapped":          fmt.Errorf("downstream: %w", refusal),
		"status, wrapped":  fmt.Errorf("downstream: %w", edge),
		"joined":           errors.Join(errMine, refusal),
		"timeout":          &timeout.Error{After: time.Second, Err: turret.NotReady(context.DeadlineExceeded)},
		"gave up in line":  turret.NotReady(context.Canceled),
		"only the summary": turret.ErrNotReady,
	} {
		for _, k := range kinds {
			inBubble(t, name+"/"+k.String(), func(t *testing.T) { relays(t, k, relayed) })
		}
	}
}

func relays(t *testing.T, k interceptors.Kind, relayed error) {
	t.Helper()
	var outcome turret.Outcome
	var seen error
	server := interceptors.New(turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		reply, err := inner.Call(ctx, rpc)
		seen, outcome = err, interceptors.Classify(ctx, rpc, reply, err)
		return reply, err
	}))
	w := newWorld(t, worldOf{client: interceptors.New(interceptors.Recover()), server: server})
	r := w.start(holding(t.Context()), k, nil)
	(<-w.server.held).release <- relayed
	<-r.done
	synctest.Wait()
	if errors.Is(seen, turret.ErrNotReady) || errors.Is(seen, timeout.ErrTimeout) || outcome == turret.Unused {
		t.Errorf("the stack takes %v for an error of its own, outcome %v", seen, outcome)
	}
	if refusal, ok := errors.AsType[*turret.Refusal](seen); ok {
		t.Errorf("the stack sees the refusal %v", refusal)
	}
	if errors.Is(relayed, errMine) && !errors.Is(seen, errMine) || seen.Error() != relayed.Error() {
		t.Errorf("the stack sees %v, which has lost the cause or the text of %v", seen, relayed)
	}
	if errors.Is(r.err, turret.ErrNotReady) {
		t.Errorf("the client sees %v as not sent", r.err)
	}
	if want := interceptors.Status(relayed); status.Code(r.err) != want.Code() || status.Convert(r.err).Message() != want.Message() {
		t.Errorf("the client sees %v, want %v", r.err, want)
	}
	if got := r.trailer.Get("grpc-retry-pushback-ms"); got != nil {
		t.Errorf("the server asks to come back after %v for a refusal that is not its own", got)
	}
}
