package interceptors_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A trail is the path of an RPC: it grows in the context, and is written down at
// every station.
type trail []string

func (t *trail) to(ctx context.Context, station string) context.Context {
	path, _ := ctx.Value(t).(string)
	path += station
	*t = append(*t, path)
	return context.WithValue(ctx, t, path)
}

// layer is a station inside a stack.
func (t *trail) layer(station string) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		defer func() { *t = append(*t, "left "+station) }()
		return inner.Call(t.to(ctx, station), rpc)
	})
}

// interceptor is a station beside a stack.
func (t *trail) interceptor(station string) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(t.to(ctx, station), req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, streamWith{s, t.to(s.Context(), station)})
		}),
	}
}

type streamWith struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // grpc.ServerStream carries its context
}

func (s streamWith) Context() context.Context { return s.ctx }

// trailing is an EchoService whose handlers are a station.
type trailing struct {
	*echo.Server

	trail *trail
}

func (s trailing) Unary(ctx context.Context, req *request) (*response, error) {
	return s.Server.Unary(s.trail.to(ctx, "handler"), req)
}

func (s trailing) ClientStream(stream grpc.ClientStreamingServer[echov1.ClientStreamRequest, echov1.ClientStreamResponse]) error {
	s.trail.to(stream.Context(), "handler")
	return s.Server.ClientStream(stream)
}

func (s trailing) ServerStream(req *echov1.ServerStreamRequest, stream grpc.ServerStreamingServer[echov1.ServerStreamResponse]) error {
	s.trail.to(stream.Context(), "handler")
	return s.Server.ServerStream(req, stream)
}

func (s trailing) BidiStream(stream grpc.BidiStreamingServer[echov1.BidiStreamRequest, echov1.BidiStreamResponse]) error {
	s.trail.to(stream.Context(), "handler")
	return s.Server.BidiStream(stream)
}

// Contexts are handed on from the interceptors in front of the stack through its
// layers, in their order, to those behind it and to the handler.
func TestServersContextAndNeighbours(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var seen trail
			options := seen.interceptor("a")
			options = append(options, interceptors.New(seen.layer("b"), nil, interceptors.Timeout(time.Minute), seen.layer("c")).ServerOptions()...)
			options = append(options, interceptors.New(seen.layer("d")).ServerOptions()...) // a second stack
			options = append(options, seen.interceptor("e")...)
			w := &world{t: t, bubble: true}
			w.Pair = wire.Start(t, wire.Config{
				Register: func(s grpc.ServiceRegistrar) {
					echov1.RegisterEchoServiceServer(s, trailing{echo.New("one"), &seen})
				},
				Server: options,
			})
			if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			want := trail{"a", "ab", "abc", "abcd", "abcde", "abcdehandler", "left d", "left c", "left b"}
			if !slices.Equal(seen, want) {
				t.Errorf("the RPC came through\n%q, want\n%q", seen, want)
			}
		})
	}
}

// Handlers see the deadline that a layer sets, and their contexts end with it.
func TestHandlerSeesTheDeadlineOfALayer(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{server: interceptors.New(interceptors.Timeout(time.Minute))})
			r := w.do(t.Context(), k, nil) // whose own deadline is earlier
			if err := r.wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			if left := r.responses[0].GetReport().GetTimeLeft().AsDuration(); left != patience {
				t.Errorf("the handler has %v, want those of the caller, %v", left, patience)
			}

			w = newWorld(t, worldOf{server: interceptors.New(interceptors.Timeout(time.Second))})
			r = w.do(t.Context(), k, nil)
			if err := r.wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			if left := r.responses[0].GetReport().GetTimeLeft().AsDuration(); left != time.Second {
				t.Errorf("the handler has %v, want those of the layer, %v", left, time.Second)
			}

			began := time.Now()
			r = w.start(holding(t.Context()), k, nil)
			h := <-w.server.held
			<-h.ctx.Done()
			if took := time.Since(began); took != time.Second {
				t.Errorf("the handler's context ended after %v", took)
			}
			<-r.done
			if err := r.wants(codes.DeadlineExceeded, "TIMEOUT"); err != nil {
				t.Error(err)
			}
		})
	}
}

// fullStack is a stack of layers that let everything pass.
func fullStack() *interceptors.Stack {
	return interceptors.New(
		interceptors.Recover(),
		interceptors.Observe(func(context.Context, interceptors.Event) {}),
		interceptors.InContext(),
		interceptors.Named("limit of the test", interceptors.ConcurrencyLimit(10, limit.Queue{})),
		interceptors.RateLimit(limit.PerSecond(1000), limit.Queue{}),
		interceptors.LoadShed(),
		interceptors.Filter(func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) {
			return context.WithValue(ctx, contextKey{}, ""), nil
		}),
		interceptors.For("/*", interceptors.Timeout(time.Hour)),
		wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			same := func(s interceptors.MessageStream) interceptors.MessageStream { return s }
			return inner.Call(ctx, rpc.WrapStream(same).WithOptions())
		}),
		retrying(2),
	)
}

// Header and trailer of a handler arrive through a stack on each side, whether
// the RPC succeeds or fails, and when the header has left before.
func TestMetadataOfHandlersArrives(t *testing.T) {
	pairs := func(key string, values ...string) []*echov1.MetadataEntry {
		return []*echov1.MetadataEntry{{Key: key, Values: values}, {Key: key + "-2", Values: []string{"x"}}}
	}
	notFound := &echov1.Failure{Code: int32(codes.NotFound)}
	tests := []struct {
		name string
		plan *echov1.Plan
		code codes.Code
	}{
		{"success", &echov1.Plan{}, codes.OK},
		{"error", &echov1.Plan{Failure: notFound}, codes.NotFound},
		{"header at once, then success", &echov1.Plan{FlushHeaders: true, Delay: durationpb.New(time.Second)}, codes.OK},
		{"header at once, then error", &echov1.Plan{FlushHeaders: true, Delay: durationpb.New(time.Second), Failure: notFound}, codes.NotFound},
	}
	for _, tt := range tests {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				tt.plan.Headers, tt.plan.Trailers = pairs("h", "1", "2"), pairs("t", "3", "4")
				w := newWorld(t, worldOf{client: fullStack(), server: fullStack()})
				r := w.do(t.Context(), k, tt.plan)
				if err := errors.Join(r.wants(tt.code, ""), w.settle()); err != nil {
					t.Error(err)
				}
				for _, got := range []struct {
					name   string
					values []string
					want   []string
				}{
					{"header", r.header.Get("h"), []string{"1", "2"}},
					{"header", r.header.Get("h-2"), []string{"x"}},
					{"trailer", r.trailer.Get("t"), []string{"3", "4"}},
					{"trailer", r.trailer.Get("t-2"), []string{"x"}},
				} {
					if !slices.Equal(got.values, got.want) {
						t.Errorf("%s %q, want %q", got.name, got.values, got.want)
					}
				}
			})
		}
	}
}

// A header that has left is there before the stream ends.
func TestHeaderIsThereBeforeTheEnd(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{client: fullStack(), server: fullStack()})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := w.open(ctx, k)
			if err != nil {
				t.Fatal(err)
			}
			plan := &echov1.Plan{
				Headers:      []*echov1.MetadataEntry{{Key: "h", Values: []string{"1"}}},
				FlushHeaders: true, Delay: durationpb.New(time.Minute),
			}
			if err := errors.Join(s.SendMsg(&request{Plan: plan}), s.CloseSend()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			md, err := s.Header()
			if err != nil || !slices.Equal(md.Get("h"), []string{"1"}) || time.Since(began) > 0 {
				t.Errorf("after %v the header is %v (%v)", time.Since(began), md, err)
			}
			responses, err := receive(s, k)
			if err != nil || len(responses) != 1 || time.Since(began) != time.Minute {
				t.Errorf("after %v: %d responses, error %v", time.Since(began), len(responses), err)
			}
		})
	}
}

// What a client's layer puts into the outgoing metadata arrives.
func TestMetadataOfALayerArrives(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var got []string
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Filter(
				func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) {
					return metadata.AppendToOutgoingContext(ctx, "user", "alice"), nil
				}))})
			w.server.before = func(ctx context.Context) { got = metadata.ValueFromIncomingContext(ctx, "user") }
			ctx := metadata.AppendToOutgoingContext(t.Context(), "user", "bob")
			if err := w.do(ctx, k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			if want := []string{"bob", "alice"}; !slices.Equal(got, want) {
				t.Errorf("the server sees %q, want %q", got, want)
			}
		})
	}
}
