package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

// An around is what interceptors of all four sorts have in common: it runs
// around next, which goes on with the context that it is given. next of a
// client's stream opens it, that of the others lasts as long as the RPC.
type around func(ctx context.Context, next func(ctx context.Context) error) error

// adopted adopts interceptors that do f, for every kind of RPC on both sides.
func (f around) adopted() interceptors.Layer {
	return turret.Stack(interceptors.FromServer(f.unaryServer, f.streamServer), interceptors.FromClient(f.unaryClient, f.streamClient))
}

func (f around) unaryServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	err = f(ctx, func(ctx context.Context) (err error) {
		reply, err = handler(ctx, req)
		return err
	})
	return reply, err
}

func (f around) streamServer(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return f(stream.Context(), func(ctx context.Context) error { return handler(srv, inContext{stream, ctx}) })
}

type inContext struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // grpc.ServerStream carries its context
}

func (s inContext) Context() context.Context { return s.ctx }

func (f around) unaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return f(ctx, func(ctx context.Context) error { return invoker(ctx, method, req, reply, cc, opts...) })
}

func (f around) streamClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (s grpc.ClientStream, err error) {
	err = f(ctx, func(ctx context.Context) (err error) {
		s, err = streamer(ctx, desc, cc, method, opts...)
		return err
	})
	return s, err
}

// nothing changes nothing.
func nothing(ctx context.Context, next func(ctx context.Context) error) error { return next(ctx) }

// everywhere runs f for every kind of RPC on both sides, each in a bubble.
func everywhere(t *testing.T, f func(t *testing.T, side interceptors.Side, k interceptors.Kind)) {
	t.Helper()
	for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
		for _, k := range kinds {
			inBubble(t, fmt.Sprintf("%v/%v", side, k), func(t *testing.T) { f(t, side, k) })
		}
	}
}

func TestAdoptedIsInNobodysWay(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		adopted := around(nothing).adopted()
		in := newRoom()
		in.inner = turret.Stack(adopted, interceptors.Timeout(time.Hour), adopted)
		w := newWorld(t, onSide(side, in.stack(adopted)))
		exchangeMany(t, w, k, &echov1.Plan{})
		synctest.Wait()
		if err := errors.Join(in.wants(turret.Success), w.settle()); err != nil {
			t.Error(err)
		}
		r := w.do(t.Context(), k, &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.NotFound), Message: "no such thing"}})
		synctest.Wait()
		if err := errors.Join(r.wants(codes.NotFound, ""), in.wants(turret.Success), w.settle()); err != nil {
			t.Error(err)
		}
		if got := status.Convert(r.err).Message(); got != "no such thing" {
			t.Errorf("the status says %q", got)
		}
	})
}

// What an adopted interceptor sees of the layers inside are statuses, with their
// causes in reach; and what goes past it outwards still has them.
func TestAdoptedSeesStatuses(t *testing.T) {
	wantFull := func(where string, err error) error {
		st, ok := err.(interface{ GRPCStatus() *status.Status })
		if !ok || st.GRPCStatus().Code() != codes.ResourceExhausted || len(st.GRPCStatus().Details()) != 1 {
			return fmt.Errorf("%s: no status with an ErrorInfo: %w", where, err)
		}
		r, ok := errors.AsType[*turret.Refusal](err)
		if !ok || r.Reason != turret.ReasonLimitFull || !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, limit.ErrFull) {
			return fmt.Errorf("%s: no refusal is in reach of: %w", where, err)
		}
		return nil
	}
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		var inside, outside error
		adopted := around(func(ctx context.Context, next func(ctx context.Context) error) error {
			err := next(ctx)
			inside = wantFull("inside", err)
			return err
		}).adopted()
		watch := wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			reply, err := inner.Call(ctx, rpc)
			outside = wantFull("outside", err)
			return reply, err
		})
		in := newRoom()
		in.inner = turret.Stack(watch, adopted, interceptors.ConcurrencyLimit(0, limit.Queue{}))
		w := newWorld(t, onSide(side, in.stack()))
		if err := w.do(t.Context(), k, nil).wants(codes.ResourceExhausted, turret.ReasonLimitFull); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		// Unused: the refusal is known to have been one.
		if err := errors.Join(inside, outside, in.wants(turret.Unused), w.settle()); err != nil {
			t.Error(err)
		}
	})
}

// The status of an end inside reaches the caller through methods of the stream
// too; a plain error of the interceptor is UNKNOWN, as anywhere in gRPC.
func TestAdoptedEnds(t *testing.T) {
	plain := errors.New("plain")
	for _, tt := range []struct {
		name   string
		f      around
		inside interceptors.Layer
		plan   *echov1.Plan
		code   codes.Code
		reason string
		causes []error
	}{
		{"timeout inside", nothing, interceptors.Timeout(time.Second), slow, codes.DeadlineExceeded, "TIMEOUT", []error{timeout.ErrTimeout, context.DeadlineExceeded}},
		{"plain error", func(context.Context, func(context.Context) error) error { return plain }, nil, nil, codes.Unknown, "", []error{plain}},
		{"status", func(context.Context, func(context.Context) error) error { return status.Error(codes.Aborted, "no") }, nil, nil, codes.Aborted, "", nil},
		{"error of a context", func(context.Context, func(context.Context) error) error { return context.Canceled }, nil, nil, codes.Canceled, "", []error{context.Canceled}},
		{"another error than inside", func(ctx context.Context, next func(context.Context) error) error {
			if err := next(ctx); err == nil {
				return nil
			}
			return plain
		}, interceptors.ConcurrencyLimit(0, limit.Queue{}), nil, codes.Unknown, "", []error{plain}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
				var left error
				watch := wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					reply, err := inner.Call(ctx, rpc)
					left = err
					return reply, err
				})
				w := newWorld(t, onSide(side, interceptors.New(watch, tt.f.adopted(), tt.inside)))
				if err := w.do(t.Context(), k, tt.plan).wants(tt.code, tt.reason); err != nil {
					t.Error(err)
				}
				if err := w.settle(); err != nil {
					t.Error(err)
				}
				for _, cause := range tt.causes {
					if !errors.Is(left, cause) {
						t.Errorf("%v left the layer, which does not match %v", left, cause)
					}
				}
			})
		})
	}
}

type adoptedKey struct{}

// The context of an adopted interceptor is that of the layers inside, of the
// handler and of what is sent.
func TestAdoptedContextReachesInside(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		adopted := around(func(ctx context.Context, next func(ctx context.Context) error) error {
			ctx = context.WithValue(ctx, adoptedKey{}, "value")
			return next(metadata.AppendToOutgoingContext(ctx, "added", "on the way"))
		}).adopted()
		var inLayer, inHandler any
		var sent []string
		layer := interceptors.Filter(func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) {
			inLayer = ctx.Value(adoptedKey{})
			return ctx, nil
		})
		w := newWorld(t, onSide(side, interceptors.New(adopted, layer)))
		w.server.before = func(ctx context.Context) {
			inHandler = ctx.Value(adoptedKey{})
			sent = metadata.ValueFromIncomingContext(ctx, "added")
		}
		if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		if inLayer != "value" || side == interceptors.SideServer && inHandler != "value" {
			t.Errorf("the context inside has %v, the handler's %v", inLayer, inHandler)
		}
		if side == interceptors.SideClient && !slices.Equal(sent, []string{"on the way"}) {
			t.Errorf("the server received %q", sent)
		}
	})
}

// shouting returns messages in upper case, for those that interceptors change.
func shouting(m any) any {
	c := proto.CloneOf(m.(proto.Message))
	f := c.ProtoReflect().Descriptor().Fields().ByName("payload")
	c.ProtoReflect().Set(f, protoreflect.ValueOfBytes([]byte(strings.ToUpper(string(c.ProtoReflect().Get(f).Bytes())))))
	return c
}

// What an adopted interceptor puts in the place of a message is what goes on, and
// the layers inside see it.
func TestAdoptedChangesMessages(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		var inside messageLog
		unary := wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			if rpc.Kind == interceptors.KindUnary {
				inside.add("%s", rpc.Request.(payload).GetPayload())
			}
			return inner.Call(ctx, rpc)
		})
		adopted := turret.Stack(
			interceptors.FromServer(
				func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					return handler(ctx, shouting(req))
				},
				func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					return handler(srv, shoutingServer{s})
				}),
			interceptors.FromClient(
				func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					return invoker(ctx, method, shouting(req), reply, cc, opts...)
				},
				func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					s, err := streamer(ctx, desc, cc, method, opts...)
					return shoutingClient{s}, err
				}))
		w := newWorld(t, onSide(side, interceptors.New(inside.hook("outer"), adopted, inside.hook("inner"), unary)))
		r := w.do(t.Context(), k, nil)
		if err := r.wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		if got := string(r.responses[0].GetPayload()); got != "PAYLOAD" {
			t.Errorf("the server answered %q", got)
		}
		want := []string{"send outer payload", "send inner PAYLOAD", "recv inner PAYLOAD", "recv outer PAYLOAD"}
		switch {
		case k == interceptors.KindUnary:
			want = []string{"PAYLOAD"}
		case side == interceptors.SideServer:
			want = []string{"recv outer payload", "recv inner PAYLOAD", "send inner PAYLOAD", "send outer PAYLOAD"}
		}
		if !slices.Equal(inside.entries, want) {
			t.Errorf("the layers saw %q, want %q", inside.entries, want)
		}
	})
}

type shoutingServer struct{ grpc.ServerStream }

func (s shoutingServer) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		loud := shouting(m)
		proto.Reset(m.(proto.Message))
		proto.Merge(m.(proto.Message), loud.(proto.Message))
	}
	return err
}

type shoutingClient struct{ grpc.ClientStream }

func (s shoutingClient) SendMsg(m any) error { return s.ClientStream.SendMsg(shouting(m)) }

// Call options of an adopted interceptor count, behind the caller's and those of
// layers outside; and the layers inside may add to them.
func TestAdoptedCallOptions(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var outer, adopted, inner, callers metadata.MD
			var from peer.Peer
			var finishes, adoptedFinishes []error
			options := func(opts ...grpc.CallOption) interceptors.Layer {
				return wrap(func(ctx context.Context, rpc *interceptors.RPC, in interceptors.Service) (any, error) {
					return in.Call(ctx, rpc.WithOptions(opts...))
				})
			}
			added := []grpc.CallOption{
				grpc.MaxCallRecvMsgSize(1 << 20), grpc.Trailer(&adopted),
				grpc.OnFinish(func(err error) { adoptedFinishes = append(adoptedFinishes, err) }),
			}
			layer := interceptors.FromClient(
				func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					return invoker(ctx, method, req, reply, cc, append(opts, added...)...)
				},
				func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					return streamer(ctx, desc, cc, method, append(opts, added...)...)
				})
			w := newWorld(t, worldOf{client: interceptors.New(
				options(grpc.Trailer(&outer), grpc.MaxCallRecvMsgSize(2)), layer, options(grpc.Trailer(&inner)))})
			plan := &echov1.Plan{Trailers: []*echov1.MetadataEntry{{Key: "t", Values: []string{"1"}}}}
			r := w.do(t.Context(), k, plan, grpc.MaxCallRecvMsgSize(1), grpc.Trailer(&callers), grpc.Peer(&from),
				grpc.OnFinish(func(err error) { finishes = append(finishes, err) }))
			if err := r.wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			for name, md := range map[string]metadata.MD{"caller": callers, "outer": outer, "adopted": adopted, "inner": inner} {
				if !slices.Equal(md.Get("t"), []string{"1"}) {
					t.Errorf("the trailer of %s is %v", name, md)
				}
			}
			if from.Addr == nil || !slices.Equal(finishes, []error{nil}) || !slices.Equal(adoptedFinishes, []error{nil}) {
				t.Errorf("peer %v; OnFinish ran with %v, the interceptor's with %v", from.Addr, finishes, adoptedFinishes)
			}
		})
	}
}

// Headers and trailers that a server's interceptor sets, and the service that
// it gets.
func TestAdoptedServerMetadata(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var service any
			var full string
			var kinds [2]bool
			adopted := interceptors.FromServer(
				func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					service, full = info.Server, info.FullMethod
					_ = grpc.SetHeader(ctx, metadata.Pairs("h", "1"))
					_ = grpc.SetTrailer(ctx, metadata.Pairs("t", "1"))
					return handler(ctx, req)
				},
				func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					service, full, kinds = srv, info.FullMethod, [2]bool{info.IsClientStream, info.IsServerStream}
					_ = s.SetHeader(metadata.Pairs("h", "1"))
					s.SetTrailer(metadata.Pairs("t", "1"))
					return handler(srv, s)
				})
			w := newWorld(t, worldOf{server: interceptors.New(adopted, interceptors.Timeout(time.Hour))})
			r := w.do(t.Context(), k, nil)
			if err := r.wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			if len(r.header.Get("h")) != 1 || len(r.trailer.Get("t")) != 1 {
				t.Errorf("header %v, trailer %v", r.header, r.trailer)
			}
			if _, ok := service.(echov1.EchoServiceServer); !ok || full != method(k) || kinds != [2]bool{clientStreams(k), serverStreams(k)} {
				t.Errorf("the interceptor was told of %T, %s, %v", service, full, kinds)
			}
		})
	}
}

// An interceptor that does not go on ends the RPC: with an error, or with an
// answer of its own.
func TestAdoptedDoesNotGoOn(t *testing.T) {
	reply := &response{Payload: []byte("cached")}
	adopted := turret.Stack(
		interceptors.FromServer(
			func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return reply, nil },
			func(_ any, s grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
				return s.SendMsg(reply)
			}),
		interceptors.FromClient(
			func(_ context.Context, _ string, _, to any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
				proto.Merge(to.(proto.Message), reply)
				return nil
			},
			func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ grpc.Streamer, _ ...grpc.CallOption) (grpc.ClientStream, error) {
				return &cachedStream{ctx: ctx, replies: []*response{reply}}, nil
			}))
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		in := newRoom()
		in.inner = adopted
		w := newWorld(t, onSide(side, in.stack()))
		r := w.do(t.Context(), k, nil)
		if err := r.wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := w.server.ran.Load(); string(r.responses[0].GetPayload()) != "cached" || n != 0 {
			t.Errorf("answered %v, %d handlers ran", r.responses, n)
		}
		if err := errors.Join(in.wants(turret.Success), w.settle()); err != nil {
			t.Error(err)
		}
	})
}

// A cachedStream is one that needs no server.
type cachedStream struct {
	grpc.ClientStream

	ctx     context.Context //nolint:containedctx // a stream carries its context
	replies []*response
}

func (s *cachedStream) Context() context.Context     { return s.ctx }
func (s *cachedStream) Header() (metadata.MD, error) { return nil, nil } //nolint:nilnil // as gRPC
func (s *cachedStream) Trailer() metadata.MD         { return nil }
func (s *cachedStream) SendMsg(any) error            { return nil }
func (s *cachedStream) CloseSend() error             { return nil }

func (s *cachedStream) RecvMsg(m any) error {
	if len(s.replies) == 0 {
		return io.EOF
	}
	proto.Merge(m.(proto.Message), s.replies[0])
	s.replies = s.replies[1:]
	return nil
}

// An interceptor that goes on twice sends the RPC through the layers inside
// twice, with numbers that say so; what was not sent the first time may yet be
// sent, and what was sent may not be called unsent by what happens later.
func TestAdoptedGoesOnTwice(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		for _, tt := range []struct {
			name    string
			refused [2]bool
			code    codes.Code
			outcome turret.Outcome
		}{
			{"refused, then sent", [2]bool{true, false}, codes.OK, turret.Success},
			{"sent, then refused", [2]bool{false, true}, codes.ResourceExhausted, turret.Overload},
			{"refused twice", [2]bool{true, true}, codes.ResourceExhausted, turret.Unused},
		} {
			var attempts []int
			inside := wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
				attempts = append(attempts, rpc.Attempt)
				if tt.refused[len(attempts)-1] {
					return nil, &turret.Refusal{Layer: "test", Reason: "FULL"}
				}
				return inner.Call(ctx, rpc)
			})
			twice := around(func(ctx context.Context, next func(ctx context.Context) error) error {
				_ = next(ctx)
				return next(ctx)
			}).adopted()
			in := newRoom()
			in.inner = turret.Stack(twice, inside)
			w := newWorld(t, onSide(side, in.stack()))
			r := w.do(t.Context(), k, nil)
			synctest.Wait()
			outcome := tt.outcome
			if side == interceptors.SideServer && !tt.refused[0] && clientStreams(k) {
				continue // the first handler has read the requests
			}
			if err := r.wants(tt.code, ""); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if err := errors.Join(in.wants(outcome), w.settle()); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			want := []int{0, 1}
			if side == interceptors.SideServer {
				want = []int{0, 0}
			}
			if !slices.Equal(attempts, want) {
				t.Errorf("%s: the layer inside saw the attempts %v, want %v", tt.name, attempts, want)
			}
			w.Stop()
		}
	})
}

// Interceptors of one side do nothing on the other, and those of one
// sort of RPC let the other pass.
func TestAdoptedLetsOthersPass(t *testing.T) {
	ran := ""
	note := func(what string) around {
		return func(ctx context.Context, next func(ctx context.Context) error) error {
			ran += what
			return next(ctx)
		}
	}
	layers := interceptors.New(
		interceptors.FromUnaryServer(note("unary server ").unaryServer),
		interceptors.FromStreamServer(note("stream server ").streamServer),
		interceptors.FromUnaryClient(note("unary client ").unaryClient),
		interceptors.FromStreamClient(note("stream client ").streamClient))
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		ran = ""
		w := newWorld(t, onSide(side, layers))
		if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		want := "stream "
		if k == interceptors.KindUnary {
			want = "unary "
		}
		if want += side.String() + " "; ran != want {
			t.Errorf("ran %q, want %q", ran, want)
		}
	})
	const want = "from unary server\nfrom stream server\nfrom unary client\nfrom stream client"
	if got := layers.String(); got != want {
		t.Errorf("printed as\n%s\nwant\n%s", got, want)
	}
}

func TestAdoptedMustExist(t *testing.T) {
	f := around(nothing)
	for want, construct := range map[string]func(){
		"interceptors: FromServer: unary interceptor is nil":        func() { interceptors.FromServer(nil, f.streamServer) },
		"interceptors: FromServer: stream interceptor is nil":       func() { interceptors.FromServer(f.unaryServer, nil) },
		"interceptors: FromUnaryServer: unary interceptor is nil":   func() { interceptors.FromUnaryServer(nil) },
		"interceptors: FromStreamServer: stream interceptor is nil": func() { interceptors.FromStreamServer(nil) },
		"interceptors: FromClient: unary interceptor is nil":        func() { interceptors.FromClient(nil, f.streamClient) },
		"interceptors: FromClient: stream interceptor is nil":       func() { interceptors.FromClient(f.unaryClient, nil) },
		"interceptors: FromUnaryClient: unary interceptor is nil":   func() { interceptors.FromUnaryClient(nil) },
		"interceptors: FromStreamClient: stream interceptor is nil": func() { interceptors.FromStreamClient(nil) },
	} {
		func() {
			defer func() {
				if p, _ := recover().(error); p == nil || p.Error() != want+", must be non-nil" {
					t.Errorf("panicked with %v, want %s", p, want)
				}
			}()
			construct()
		}()
	}
}

// A place of a fault gives everything back, and the fault ends where it would,
// with adopted interceptors around it.
func TestFaultsPassThroughAdopted(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			eachFaultyPlace(t, func(t *testing.T, p *faultyPlace, k interceptors.Kind, side interceptors.Side) {
				place := *p
				place.layer = func(happen func()) interceptors.Layer {
					layers := []interceptors.Layer{around(nothing).adopted()}
					if p.layer != nil {
						layers = append(layers, p.layer(happen))
					}
					return turret.Stack(layers...)
				}
				in := newRoom()
				w, r := place.run(t, f.happen, k, side, in)
				if side == interceptors.SideClient {
					wantFaultAtCaller(t, f, r)
				} else {
					wantFaultOutside(t, f, w, r)
				}
				synctest.Wait()
				want := p.outcome
				if want == 0 || want == turret.Ignored {
					want = turret.Failure // in the stack by now, before the caller's context is cancelled
				}
				if err := errors.Join(in.wants(want), w.settle()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Hedges run through adopted interceptors side by side, each with a reply of its
// own; and an adopted interceptor may be hedged inside.
func TestAdoptedIsHedged(t *testing.T) {
	h := interceptors.Hedge(hedge.Config{Delay: time.Second, Budget: retry.Unlimited})
	for name, layers := range map[string]func(adopted interceptors.Layer) []interceptors.Layer{
		"inside a Hedge": func(adopted interceptors.Layer) []interceptors.Layer { return []interceptors.Layer{h, adopted} },
		"around a Hedge": func(adopted interceptors.Layer) []interceptors.Layer { return []interceptors.Layer{adopted, h} },
		"inside a Retry and a Hedge": func(adopted interceptors.Layer) []interceptors.Layer {
			return []interceptors.Layer{retrying(2), h, adopted}
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			var ran, served atomic.Int64
			adopted := around(func(ctx context.Context, next func(context.Context) error) error {
				ran.Add(1)
				return next(ctx)
			}).adopted()
			w := newWorld(t, worldOf{client: interceptors.New(layers(adopted)...)})
			w.server.before = func(ctx context.Context) {
				if served.Add(1) == 1 {
					<-ctx.Done() // the first attempt hangs
				}
			}
			var trailer metadata.MD
			plan := &echov1.Plan{Trailers: []*echov1.MetadataEntry{{Key: "t", Values: []string{"1"}}}}
			r := w.do(t.Context(), interceptors.KindUnary, plan, grpc.Trailer(&trailer))
			if err := errors.Join(r.wants(codes.OK, ""), w.settle()); err != nil {
				t.Fatal(err)
			}
			want := int64(2)
			if name == "around a Hedge" {
				want = 1
			}
			if ran.Load() != want || r.took != time.Second || string(r.responses[0].GetPayload()) != "payload" || len(trailer.Get("t")) != 1 {
				t.Errorf("the interceptor ran %d times, %v, %v, trailer %v", ran.Load(), r.took, r.responses[0], trailer)
			}
		})
	}
}
