package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// Layers and interceptors that do what they should not do harm the RPC, and
// nothing else.

func wrap(f func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error)) interceptors.Layer {
	return turret.Wrap(f)
}

func TestLayerThatDoesNotCallItsInnerService(t *testing.T) {
	answers := func(reply any, err error) interceptors.Layer {
		return wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) { return reply, err })
	}
	tests := []struct {
		name  string
		side  interceptors.Side
		kind  interceptors.Kind
		layer interceptors.Layer
		code  codes.Code
		text  string // a part of the status's
	}{
		{"nothing", interceptors.SideClient, interceptors.KindUnary, answers(nil, nil), codes.Internal, "EchoService/Unary: a layer returned a reply of type <nil>, want *echov1.UnaryResponse"},
		{"nothing", interceptors.SideClient, interceptors.KindClientStream, answers(nil, nil), codes.Internal, "without opening"},
		{"nothing", interceptors.SideClient, interceptors.KindServerStream, answers(nil, nil), codes.Internal, "without opening"},
		{"nothing", interceptors.SideClient, interceptors.KindBidiStream, answers(nil, nil), codes.Internal, "without opening"},
		{"nothing", interceptors.SideServer, interceptors.KindUnary, answers(nil, nil), codes.Internal, "EchoService/Unary: no reply"},
		{"an error", interceptors.SideClient, interceptors.KindUnary, answers(nil, errVerdict), codes.DataLoss, "the verdict"},
		{"an error", interceptors.SideClient, interceptors.KindBidiStream, answers(nil, errVerdict), codes.DataLoss, "the verdict"},
		{"an error", interceptors.SideServer, interceptors.KindUnary, answers(nil, errVerdict), codes.DataLoss, "the verdict"},
		{"an error", interceptors.SideServer, interceptors.KindBidiStream, answers(nil, errVerdict), codes.DataLoss, "the verdict"},
		{"a reply of its own", interceptors.SideClient, interceptors.KindUnary, answers(new(response), nil), codes.OK, ""},
		{"a reply of its own", interceptors.SideServer, interceptors.KindUnary, answers(new(response), nil), codes.OK, ""},
	}
	for _, tt := range tests {
		inBubble(t, fmt.Sprintf("%s/%v/%v", tt.name, tt.side, tt.kind), func(t *testing.T) {
			of := worldOf{server: interceptors.New(tt.layer)}
			if tt.side == interceptors.SideClient {
				of = worldOf{client: interceptors.New(tt.layer)}
			}
			w := newWorld(t, of)
			r := w.do(t.Context(), tt.kind, nil)
			if err := r.wants(tt.code, ""); err != nil {
				t.Error(err)
			}
			if text := status.Convert(r.err).Message(); !strings.Contains(text, tt.text) {
				t.Errorf("the status says %q, want %q in it", text, tt.text)
			}
			if w.server.ran.Load() != 0 {
				t.Error("the handler ran")
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A layer that returns while its inner call runs breaks its contract. The caller
// gets INTERNAL; the stream itself lives until its context ends, and a RecvMsg
// that runs on it as long.
func TestLayerThatReturnsWhileTheStreamIsOpen(t *testing.T) {
	for _, verdict := range []error{nil, errVerdict} {
		for _, k := range streamKinds {
			inBubble(t, fmt.Sprintf("%v/%v", k, verdict), func(t *testing.T) {
				w := newWorld(t, worldOf{client: interceptors.New(wrap(
					func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						go func() { _, _ = inner.Call(ctx, rpc) }()
						time.Sleep(time.Second)
						return nil, verdict
					}))})
				ctx, cancel := context.WithCancel(holding(t.Context()))
				defer cancel()
				s, err := w.open(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				<-w.server.held
				ends := make(chan error, 2)
				receives := func() { ends <- s.RecvMsg(new(response)) }
				go receives() // before the layer returns
				time.Sleep(2 * time.Second)
				receives()
				cancel()
				for range 2 {
					if err := <-ends; status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "while the stream was open") {
						t.Errorf("RecvMsg: %v, want INTERNAL", err)
					}
				}
				if err := w.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A layer that calls its inner service only after it has returned opens nothing:
// the caller has had its answer.
func TestLayerThatCallsItsInnerServiceTooLate(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			late := make(chan error, 1)
			w := newWorld(t, worldOf{client: interceptors.New(wrap(
				func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					time.AfterFunc(time.Second, func() {
						_, err := inner.Call(ctx, rpc)
						late <- err
					})
					return nil, errVerdict
				}))})
			if err := w.do(t.Context(), k, nil).wants(codes.DataLoss, ""); err != nil {
				t.Error(err)
			}
			if err := <-late; status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "after it had returned") {
				t.Errorf("the late call: %v, want INTERNAL", err)
			}
			if n := w.server.ran.Load(); n != 0 {
				t.Errorf("the handler ran %d times", n)
			}
		})
	}
}

// A layer that calls its inner service twice at once gets one stream: there is
// but one caller to hand it to. The other call does not wait for anything.
func TestLayerThatCallsItsInnerServiceTwiceAtOnce(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(wrap(
				func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					ends := make(chan error)
					for range 2 {
						go func() {
							_, err := inner.Call(ctx, rpc)
							ends <- err
						}()
					}
					if err := <-ends; status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "twice at once") {
						t.Errorf("the one call: %v, want INTERNAL", err)
					}
					return nil, <-ends
				}))})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := w.do(ctx, k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			if n := w.server.ran.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
		})
	}
}

// A layer that panics while its inner call is about to open the stream leaves
// no goroutine waiting.
func TestLayerThatPanicsAsTheStreamOpens(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			inner := make(chan error, 1)
			w := newWorld(t, worldOf{client: interceptors.New(wrap(
				func(ctx context.Context, rpc *interceptors.RPC, s interceptors.Service) (any, error) {
					go func() {
						_, err := s.Call(ctx, rpc)
						inner <- err
					}()
					panic("layer")
				}))})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer func() { _ = recover() }()
				_, _ = w.open(ctx, k)
			}()
			synctest.Wait()
			cancel()
			<-inner //nolint:errcheck // whatever it says; else the bubble reports a deadlock
		})
	}
}

// To call the inner service again is for Retry. Without it a stream is there
// once, and every further call returns how that ended.
func TestLayerThatCallsItsInnerServiceTwice(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var first, second error
			w := newWorld(t, worldOf{client: interceptors.New(wrap(
				func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					_, first = inner.Call(ctx, rpc)
					_, second = inner.Call(ctx, rpc)
					return nil, second
				}))})
			if err := w.do(t.Context(), k, failAtOnce).wants(codes.NotFound, ""); err != nil {
				t.Error(err)
			}
			if status.Code(first) != codes.NotFound || status.Code(second) != codes.NotFound {
				t.Errorf("the calls returned %v and %v", first, second)
			}
			if n := w.server.ran.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
		})
	}
}

// An interceptor behind the stack may end a stream without gRPC's knowing. That
// is the end for the stack and for the caller too.
func TestEndMadeUpBehindTheStack(t *testing.T) {
	errMadeUp := status.Error(codes.Aborted, "made up")
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			in := newRoom()
			w := newWorld(t, worldOf{client: in.stack(), behindClient: []grpc.DialOption{grpc.WithChainStreamInterceptor(
				func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					s, err := streamer(ctx, desc, cc, method, opts...)
					return madeUp{s, errMadeUp}, err
				})}})
			r := w.do(t.Context(), k, nil)
			if err := errors.Join(r.wants(codes.Aborted, ""), in.wants(turret.Success)); err != nil {
				t.Error(err)
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
		})
	}
}

// madeUp is a stream that receives nothing but an error.
type madeUp struct {
	grpc.ClientStream

	err error
}

func (s madeUp) RecvMsg(any) error { return s.err }

// A stream whose stack is slow to open it is opened when it is.
func TestStackThatIsSlowToOpen(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(wrap(
				func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					time.Sleep(time.Second)
					return inner.Call(ctx, rpc)
				}))})
			r := w.start(t.Context(), k, nil)
			synctest.Wait()
			if n := w.server.ran.Load(); n != 0 {
				t.Errorf("%d handlers ran before the stack opened the stream", n)
			}
			<-r.done
			if err := r.wants(codes.OK, ""); err != nil || r.took != time.Second {
				t.Errorf("after %v: %v", r.took, err)
			}
		})
	}
}
