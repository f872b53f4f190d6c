package interceptors_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// What shows the caller the end of an RPC comes after the whole stack has
// returned, with the stack's verdict.

// A caller that makes one stream after the other is never refused by a limit of
// one: the place of a stream is free when its caller knows its end.
func TestStreamsOneAfterTheOther(t *testing.T) {
	failing := &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.NotFound), After: 1}}
	tests := []struct {
		name string
		kind interceptors.Kind
		plan *echov1.Plan
		code codes.Code
	}{
		{"EOF", interceptors.KindBidiStream, nil, codes.OK},
		{"error", interceptors.KindServerStream, failing, codes.NotFound},
		{"single response", interceptors.KindClientStream, nil, codes.OK},
	}
	const streams = 2000
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.ConcurrencyLimit(1, limit.Queue{}))})
			for i := range streams {
				if err := w.do(t.Context(), tt.kind, tt.plan).wants(tt.code, ""); err != nil {
					t.Fatalf("stream %d: %v", i, err)
				}
			}
		})
	}
}

// A slowEnd is a layer of a client that is in no hurry to return, and then
// returns err in place of the end that it saw.
type slowEnd struct {
	err      error // nil: what it saw
	returned atomic.Bool
}

func (e *slowEnd) layer() interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		reply, err := inner.Call(ctx, rpc)
		time.Sleep(time.Minute)
		e.returned.Store(true)
		if e.err != nil {
			return nil, e.err
		}
		return reply, err
	})
}

// errVerdict is what a stack makes of every end.
var errVerdict = status.Error(codes.DataLoss, "the verdict")

// An ending is a way in which the client learns that an RPC is over. It returns
// what it learnt.
type ending struct {
	name  string
	kinds []interceptors.Kind
	learn func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error
	code  codes.Code // without a verdict of the stack
}

var (
	failAtOnce   = &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.NotFound)}}
	failAfterOne = &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.NotFound), After: 1}}
)

var endings = []ending{
	{"success", kinds, func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error {
		return w.do(w.t.Context(), k, nil, opts...).err
	}, codes.OK},
	{"error", kinds, func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error {
		return w.do(w.t.Context(), k, failAtOnce, opts...).err
	}, codes.NotFound},
	{"error after a response", kinds[2:], func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error {
		return w.do(w.t.Context(), k, failAfterOne, opts...).err
	}, codes.NotFound},
	{"not opened", kinds, func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error {
		return w.do(unsendable(w.t.Context()), k, nil, opts...).err
	}, codes.Internal},
	{"message too large to send", kinds, func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error {
		return w.do(w.t.Context(), k, nil, append(opts, grpc.MaxCallSendMsgSize(1))...).err
	}, codes.ResourceExhausted},
	{"CloseAndRecv", kinds[1:2], func(w *world, _ interceptors.Kind, opts ...grpc.CallOption) error {
		s, err := echov1.NewEchoServiceClient(w.Conn).ClientStream(w.t.Context(), opts...)
		if err == nil {
			_, err = s.CloseAndRecv()
		}
		return err
	}, codes.OK},
	{"SendMsg, then RecvMsg", streamKinds, func(w *world, k interceptors.Kind, opts ...grpc.CallOption) error {
		s, err := w.open(holding(w.t.Context()), k, opts...)
		if err != nil {
			return err
		}
		(<-w.server.held).release <- status.Error(codes.NotFound, "not here")
		synctest.Wait()
		if err := s.SendMsg(new(request)); !errors.Is(err, io.EOF) && clientStreams(k) {
			w.t.Errorf("SendMsg: %v, want io.EOF", err)
		}
		return s.RecvMsg(new(response))
	}, codes.NotFound},
}

func TestCallerSeesTheEndAfterTheStack(t *testing.T) {
	for _, e := range endings {
		for _, k := range e.kinds {
			for name, verdict := range map[string]error{"as it is": nil, "changed": errVerdict} {
				inBubble(t, e.name+"/"+k.String()+"/"+name, func(t *testing.T) {
					end := &slowEnd{err: verdict}
					w := newWorld(t, worldOf{client: interceptors.New(end.layer())})
					var finished []error
					err := e.learn(w, k, grpc.OnFinish(func(err error) { finished = append(finished, err) }))
					if !end.returned.Load() {
						t.Error("the caller saw the end before the stack had returned")
					}
					want := e.code
					if verdict != nil {
						want = status.Code(verdict)
					}
					if status.Code(err) != want {
						t.Errorf("the caller saw %v, want %v", err, want)
					}
					synctest.Wait()
					if len(finished) != 1 || status.Code(finished[0]) != want {
						t.Errorf("OnFinish was called with %v, want once with %v", finished, want)
					}
					if err := w.settle(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// Header is the first to see the end of a stream that has no header. It has no
// error then, as in gRPC; but the stack has returned.
func TestHeaderSeesTheEndAfterTheStack(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			end := &slowEnd{err: errVerdict}
			w := newWorld(t, worldOf{client: interceptors.New(end.layer())})
			s, err := w.open(holding(t.Context()), k)
			if err != nil {
				t.Fatal(err)
			}
			(<-w.server.held).release <- status.Error(codes.NotFound, "not here")
			md, err := s.Header()
			if err != nil || md != nil {
				t.Errorf("Header: %v, %v, want nothing", md, err)
			}
			if !end.returned.Load() {
				t.Error("Header returned before the stack")
			}
			if err := s.RecvMsg(new(response)); status.Code(err) != codes.DataLoss {
				t.Errorf("RecvMsg: %v, want the verdict", err)
			}
			if err := s.SendMsg(new(request)); !errors.Is(err, sendEnded(k)) {
				t.Errorf("SendMsg after the end: %v, want %v", err, sendEnded(k))
			}
			if err := s.CloseSend(); err != nil {
				t.Errorf("CloseSend after the end: %v", err)
			}
		})
	}
}

// On the server the handler's end is not the RPC's either: what the stack
// returns is.
func TestClientSeesTheVerdictOfTheServersStack(t *testing.T) {
	errOther := status.Error(codes.DataLoss, "the verdict")
	tests := []struct {
		name    string
		plan    *echov1.Plan
		verdict error
		code    codes.Code
	}{
		{"success to error", nil, errOther, codes.DataLoss},
		{"error to another", failAtOnce, errOther, codes.DataLoss},
		{"error to success", failAtOnce, nil, codes.OK},
	}
	for _, tt := range tests {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				change := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					_, _ = inner.Call(ctx, rpc)
					return new(response), tt.verdict
				})
				w := newWorld(t, worldOf{server: interceptors.New(change)})
				want := tt.code
				if want == codes.OK && k == interceptors.KindClientStream {
					want = codes.Internal // gRPC's client: a success without the one response
				}
				if got := status.Code(w.do(t.Context(), k, tt.plan).err); got != want {
					t.Errorf("code %v, want %v", got, want)
				}
			})
		}
	}
}
