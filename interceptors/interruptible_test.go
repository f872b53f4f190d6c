package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
)

// This file tests handlers that do not look at their context and wait in RecvMsg
// and SendMsg: these methods end when the context of a layer does.

// A derivation is a way in which a layer of a server derives a context that ends
// after bound.
type derivation struct {
	name   string
	layers func() []interceptors.Layer
	code   codes.Code // that the client gets
	reason string
}

var derivations = []derivation{
	{"Timeout", func() []interceptors.Layer {
		return []interceptors.Layer{interceptors.Timeout(bound)}
	}, codes.DeadlineExceeded, "TIMEOUT"},
	{"WithCancel", func() []interceptors.Layer {
		return []interceptors.Layer{wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer time.AfterFunc(bound, cancel).Stop()
			return inner.Call(ctx, rpc)
		})}
	}, codes.Canceled, ""},
	{"WithDeadline", func() []interceptors.Layer {
		return []interceptors.Layer{wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			return inner.Call(ctx, rpc)
		})}
	}, codes.DeadlineExceeded, ""},
	{"adopted interceptor", func() []interceptors.Layer {
		return []interceptors.Layer{interceptors.FromStreamServer(deriving)}
	}, codes.DeadlineExceeded, ""},
	{"Timeout around an adopted interceptor", func() []interceptors.Layer {
		return []interceptors.Layer{interceptors.Timeout(bound), interceptors.FromStreamServer(passingThrough)}
	}, codes.DeadlineExceeded, "TIMEOUT"},
	{"Timeout inside an adopted interceptor", func() []interceptors.Layer {
		return []interceptors.Layer{interceptors.FromStreamServer(passingThrough), interceptors.Timeout(bound)}
	}, codes.DeadlineExceeded, "TIMEOUT"},
	{"Timeout inside a longer one", func() []interceptors.Layer {
		return []interceptors.Layer{interceptors.Timeout(time.Hour), interceptors.FromStreamServer(passingThrough), interceptors.Timeout(bound)}
	}, codes.DeadlineExceeded, "TIMEOUT"},
	{"Timeout and hooks", func() []interceptors.Layer {
		return []interceptors.Layer{
			wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
				return inner.Call(ctx, rpc.WrapStream(func(s interceptors.MessageStream) interceptors.MessageStream { return s }))
			}),
			interceptors.Timeout(bound),
		}
	}, codes.DeadlineExceeded, "TIMEOUT"},
}

// deriving is an interceptor with a deadline of its own.
func deriving(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithTimeout(stream.Context(), bound)
	defer cancel()
	return handler(srv, streamWith{stream, ctx})
}

// passingThrough is an interceptor that wraps the stream and changes nothing.
func passingThrough(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, streamWith{stream, stream.Context()})
}

// receiving receives until that fails.
func receiving(stream grpc.ServerStream) error {
	for {
		if err := stream.RecvMsg(new(request)); err != nil {
			return err
		}
	}
}

// sending sends until that fails, with pauses, so that time goes on if the peer
// reads all of it.
func sending(stream grpc.ServerStream) error {
	m := &response{Payload: make([]byte, 64<<10)}
	for {
		if err := stream.SendMsg(m); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// receivingAndSending does both from two goroutines, and returns when both have
// failed.
func receivingAndSending(stream grpc.ServerStream) error {
	var sent error
	var wg sync.WaitGroup
	wg.Go(func() { sent = sending(stream) })
	received := receiving(stream)
	wg.Wait()
	if status.Code(received) != status.Code(sent) {
		return errors.Join(received, sent)
	}
	return received
}

var blockedHandlers = []struct {
	name    string
	handler func(grpc.ServerStream) error
}{{"in RecvMsg", receiving}, {"in SendMsg", sending}, {"in both", receivingAndSending}}

// serveStream starts a server whose stream of kind k is handled by handler.
func serveStream(t *testing.T, k interceptors.Kind, handler func(grpc.ServerStream) error, layers ...interceptors.Layer) *wire.Pair {
	t.Helper()
	return serveStreamBehind(t, nil, k, handler, layers...)
}

// serveStreamBehind does so with options in front of the stack.
func serveStreamBehind(t *testing.T, front []grpc.ServerOption, k interceptors.Kind, handler func(grpc.ServerStream) error, layers ...interceptors.Layer) *wire.Pair {
	t.Helper()
	return wire.Start(t, wire.Config{
		Server: append(front, interceptors.New(layers...).ServerOptions()...),
		Register: func(s grpc.ServiceRegistrar) {
			s.RegisterService(&grpc.ServiceDesc{
				ServiceName: "test.Streams", HandlerType: (*any)(nil),
				Streams: []grpc.StreamDesc{{
					StreamName: "Stream", ClientStreams: clientStreams(k), ServerStreams: serverStreams(k),
					Handler: func(_ any, stream grpc.ServerStream) error { return handler(stream) },
				}},
			}, nil)
		},
	})
}

// openStream opens the stream of serveStream, as one of both directions, so that
// the client can do what it wants.
func openStream(ctx context.Context, p *wire.Pair) (grpc.ClientStream, error) {
	return p.Conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Streams/Stream")
}

// drain reads s to its end, and returns its status.
func drain(s grpc.ClientStream) error {
	for {
		if err := s.RecvMsg(new(response)); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func TestLayersContextEndsBlockedHandlers(t *testing.T) {
	for _, d := range derivations {
		for _, k := range streamKinds {
			for _, b := range blockedHandlers {
				inBubble(t, fmt.Sprintf("%s/%v/%s/silent", d.name, k, b.name), func(t *testing.T) { testBlocked(t, d, k, b.handler, true, false) })
				inBubble(t, fmt.Sprintf("%s/%v/%s/does not read", d.name, k, b.name), func(t *testing.T) { testBlocked(t, d, k, b.handler, false, false) })
				inBubble(t, fmt.Sprintf("%s/%v/%s/gone", d.name, k, b.name), func(t *testing.T) { testBlocked(t, d, k, b.handler, false, true) })
			}
		}
	}
}

func testBlocked(t *testing.T, d derivation, k interceptors.Kind, handler func(grpc.ServerStream) error, reads, gone bool) {
	places := limit.NewConcurrency(1, limit.Queue{})
	var returned time.Time
	p := serveStream(t, k, func(stream grpc.ServerStream) error {
		defer func() { returned = time.Now() }()
		return handler(stream)
	}, append([]interceptors.Layer{interceptors.Admit(places)}, d.layers()...)...)
	began := time.Now()
	s, err := openStream(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	var end error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if !reads {
			time.Sleep(bound + 10*time.Millisecond)
		}
		end = drain(s)
	}()
	if gone {
		time.Sleep(bound / 2)
		p.Cut()
	}
	<-ended
	synctest.Wait()
	if late := returned.Sub(began) - bound; late > 10*time.Millisecond || returned.IsZero() {
		t.Errorf("the handler returned %v after the bound, at %v", late, returned)
	}
	if in := places.Stats().InFlight; in != 0 {
		t.Errorf("%d places are held", in)
	}
	if left := rpcGoroutines(true); len(left) > 0 {
		t.Errorf("%d goroutines are left, the first of them:\n%s", len(left), left[0])
	}
	r := &rpc{err: end}
	if err := r.wants(d.code, d.reason); err != nil && !gone {
		t.Error(err)
	}
}

// A handler that takes what it was sent late does not get it, and what arrives
// after RecvMsg has returned is not written into its message.
func TestGivenUpRecvMsgLeavesItsMessageAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := new(request)
		p := serveStream(t, interceptors.KindBidiStream, func(stream grpc.ServerStream) error {
			err := stream.RecvMsg(got)
			time.Sleep(time.Hour) // the message arrives
			if again := stream.RecvMsg(got); status.Code(again) != codes.DeadlineExceeded {
				t.Errorf("RecvMsg returned %v, and then %v", err, again)
			}
			return err
		}, interceptors.Timeout(bound))
		s, err := openStream(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * bound)
		if err := s.SendMsg(&request{Payload: []byte("late")}); err != nil {
			t.Fatal(err)
		}
		if err := drain(s); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
		if !proto.Equal(got, new(request)) {
			t.Errorf("%v was written into the message", got)
		}
	})
}

// A handler may use its message again when SendMsg was given up.
func TestGivenUpSendMsgLeavesItsMessageAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 10
		p := serveStream(t, interceptors.KindBidiStream, func(stream grpc.ServerStream) error {
			m := &response{Payload: []byte(strings.Repeat("a", size))}
			for {
				if err := stream.SendMsg(m); err != nil {
					m.Payload = []byte("b")
					time.Sleep(time.Hour) // the client reads meanwhile
					return err
				}
			}
		}, interceptors.Timeout(bound))
		s, err := openStream(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * bound)
		for {
			m := new(response)
			if err = s.RecvMsg(m); err != nil {
				break
			}
			if len(m.GetPayload()) != size {
				t.Fatalf("received %q", m.GetPayload())
			}
		}
		if status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// Messages go through whole and in order where a layer derives a context, whether
// the handler uses one message again or makes new ones.
func TestMessagesUnderALayersContext(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		inBubble(t, fmt.Sprintf("reuse %v", reuse), func(t *testing.T) {
			p := serveStream(t, interceptors.KindBidiStream, func(stream grpc.ServerStream) error {
				in, out := new(request), new(response)
				for {
					if !reuse {
						in, out = new(request), new(response)
					}
					if err := stream.RecvMsg(in); err != nil {
						if errors.Is(err, io.EOF) {
							return nil
						}
						return err
					}
					out.Payload = in.GetPayload()
					if err := stream.SendMsg(out); err != nil {
						return err
					}
				}
			}, interceptors.Timeout(time.Hour))
			s, err := openStream(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				want := strings.Repeat("x", i*37)
				got := new(response)
				if err := errors.Join(s.SendMsg(&request{Payload: []byte(want)}), s.RecvMsg(got)); err != nil || string(got.GetPayload()) != want {
					t.Fatalf("message %d came back as %q (%v)", i, got.GetPayload(), err)
				}
			}
			if err := errors.Join(s.CloseSend(), drain(s)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A layer that derives no context that ends costs a stream no goroutine; one that
// does costs one goroutine, two while the handler receives and sends at once.
func TestGoroutinesOfALayersContext(t *testing.T) {
	with := func(key contextKey) interceptors.Layer {
		return wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			return inner.Call(context.WithValue(ctx, key, ""), rpc)
		})
	}
	tests := []struct {
		name    string
		layer   interceptors.Layer
		handler func(grpc.ServerStream) error
		want    int
	}{
		{"value", with(contextKey{}), receiving, 0},
		{"timeout", interceptors.Timeout(time.Hour), receiving, 1},
		{"timeout, one after the other", interceptors.Timeout(time.Hour), func(s grpc.ServerStream) error {
			if err := s.SendMsg(new(response)); err != nil {
				return err
			}
			return receiving(s)
		}, 1},
		{"timeout, both at once", interceptors.Timeout(time.Hour), receivingAndSending, 2},
	}
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			p := serveStream(t, interceptors.KindBidiStream, tt.handler, tt.layer)
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := openStream(ctx, p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			helpers := slices.DeleteFunc(goroutines(true), func(g string) bool {
				return !strings.Contains(g, "created by github.com/turret-go/turret/interceptors.(*helpers)")
			})
			if n := len(helpers); n != tt.want {
				t.Errorf("%d helpers run, want %d", n, tt.want)
			}
			cancel()
		})
	}
}

// A panic underneath goes on in the handler's goroutine.
func TestPanicUnderALayersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var caught any
		front := grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, panickyStream{stream})
		})
		p := serveStreamBehind(t, []grpc.ServerOption{front}, interceptors.KindBidiStream, receiving,
			interceptors.Recover(func(_ context.Context, _ *interceptors.RPC, p any, _ []byte) { caught = p }), interceptors.Timeout(time.Hour))
		s, err := openStream(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if err := drain(s); status.Code(err) != codes.Internal || caught != "a fault" {
			t.Errorf("error %v, panic %v", err, caught)
		}
	})
}

// panickyStream panics when it receives.
type panickyStream struct{ grpc.ServerStream }

func (panickyStream) RecvMsg(any) error { panic("a fault") }

// A stream whose layers derive a context costs at most 6 allocations more than one
// whose layers derive none. A message that it receives costs none more, and one
// that it sends 3: it is encoded into memory of its own.
func TestAllocationsOfALayersContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The context itself costs what a layer's context costs anywhere.
	deriving := func(derive bool) *interceptors.Stack {
		derived, stop := context.WithCancel(context.Background())
		t.Cleanup(stop)
		return interceptors.New(wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			if derive {
				ctx = withDone{ctx, derived}
			} else {
				ctx = withDone{ctx, ctx}
			}
			return inner.Call(ctx, rpc)
		}))
	}
	without, with := newWorld(t, worldOf{server: deriving(false)}), newWorld(t, worldOf{server: deriving(true)})
	for _, k := range streamKinds {
		t.Run(k.String(), func(t *testing.T) {
			is, was := map[int]float64{}, map[int]float64{}
			for _, messages := range []int{1, 21} {
				was[messages] = allocations(func() { without.talk(ctx, t, k, messages) })
				is[messages] = allocations(func() { with.talk(ctx, t, k, messages) })
			}
			const sent = 3
			wantAllocations(t, 6+sent, is[1]-was[1])
			more := 0.0
			if serverStreams(k) {
				more = 20 * sent
			}
			wantAllocations(t, more, is[21]-was[21]-(is[1]-was[1]))
		})
	}
}

// withDone is a context that ends when another one does.
type withDone struct {
	context.Context

	end context.Context //nolint:containedctx // that other one
}

func (c withDone) Done() <-chan struct{} { return c.end.Done() }

// openStreamThrough is openStream through layers of the client.
func openStreamThrough(ctx context.Context, p *wire.Pair, layers ...interceptors.Layer) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	streamer := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return cc.NewStream(ctx, desc, method, opts...)
	}
	return interceptors.New(layers...).StreamClient()(ctx, desc, p.Conn, "/test.Streams/Stream", streamer)
}
