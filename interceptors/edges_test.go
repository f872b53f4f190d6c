package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// passing is a layer that does nothing.
var passing = turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
	return inner.Call(ctx, rpc)
})

// retrying is a Retry that does not wait.
func retrying(attempts int) interceptors.Layer {
	return interceptors.Retry(retry.Config{MaxAttempts: attempts, Backoff: noDelay, Budget: always})
}

// invoke runs the unary client interceptor of a stack over a function in the
// place of the connection.
func invoke(ctx context.Context, s *interceptors.Stack, reply any, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return s.UnaryClient()(ctx, "/package.Service/Method", "request", reply, nil, invoker, opts...)
}

func succeeds(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
	return nil
}

// A stack without layers, or with nil ones, passes everything through as it is.
func TestEmptyStack(t *testing.T) {
	for name, s := range map[string]*interceptors.Stack{"New()": interceptors.New(), "New(nil, nil)": interceptors.New(nil, nil)} {
		t.Run(name, func(t *testing.T) {
			finished := 0
			opts := []grpc.CallOption{grpc.OnFinish(func(error) { finished++ }), grpc.WaitForReady(true)}
			err := invoke(t.Context(), s, nil, func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, got ...grpc.CallOption) error {
				if len(got) != 2 || &got[0] != &opts[0] {
					t.Error("the call options were changed")
				}
				return errMine
			}, opts...)
			if err != errMine || finished != 0 { //nolint:errorlint // the very error
				t.Errorf("ended with %v, OnFinish ran %d times", err, finished)
			}
			if _, err := s.UnaryServer()(t.Context(), 1, nil, func(context.Context, any) (any, error) { return nil, errMine }); err != errMine { //nolint:errorlint // the very error
				t.Errorf("the server's ended with %v", err)
			}
			if err := s.StreamServer()(1, nil, nil, func(any, grpc.ServerStream) error { return errMine }); err != errMine { //nolint:errorlint // the very error
				t.Errorf("the server's stream ended with %v", err)
			}
			opens := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				return nil, errMine
			}
			if s, err := s.StreamClient()(t.Context(), nil, nil, "", opens); err != errMine || s != nil { //nolint:errorlint // the very error
				t.Errorf("the client's stream ended with %v", err)
			}
			if err := s.Ready(t.Context()); err != nil || s.String() != "(no layers)" {
				t.Errorf("Ready says %v, String %q", err, s)
			}
		})
	}
}

func TestNilLayersAreSkipped(t *testing.T) {
	var order []string
	layer := func(name string) interceptors.Layer {
		return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			order = append(order, name)
			return inner.Call(ctx, rpc)
		})
	}
	s := interceptors.New(nil, layer("a"), nil, interceptors.For("/*", nil, layer("b"), nil), interceptors.Except("/x/*", nil), layer("c"), nil)
	if err := invoke(t.Context(), s, nil, succeeds); err != nil || !slices.Equal(order, []string{"a", "b", "c"}) {
		t.Errorf("order %v, error %v", order, err)
	}
}

// Call options that a ClientConn has by default are one slice for all its RPCs,
// with room behind it. A stack that appended to it would mix up the options of
// RPCs that run at the same time.
func TestOptionsAreNotAppendedInPlace(t *testing.T) {
	const workers, rounds = 4, 50
	adding := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		var mine atomic.Int64
		reply, err := inner.Call(ctx, rpc.WithOptions(grpc.OnFinish(func(error) { mine.Add(1) })))
		if n := mine.Load(); n != 1 {
			return nil, status.Errorf(codes.DataLoss, "my option ran %d times", n)
		}
		return reply, err
	})
	for name, s := range map[string]*interceptors.Stack{
		"adding":   interceptors.New(adding),
		"retrying": interceptors.New(retrying(2), adding),
		"twice":    interceptors.New(adding, retrying(2), adding),
	} {
		t.Run(name, func(t *testing.T) {
			var defaults atomic.Int64
			w := newWorld(t, worldOf{client: s, tcp: true, dial: []grpc.DialOption{
				grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
				grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 20)),
				grpc.WithDefaultCallOptions(grpc.OnFinish(func(error) { defaults.Add(1) })),
			}})
			var all sync.WaitGroup
			for i := range workers {
				all.Go(func() {
					for range rounds {
						if err := w.exchange(t.Context(), kinds[i%len(kinds)], new(request)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if n := defaults.Load(); n != workers*rounds {
				t.Errorf("the default option ran %d times for %d RPCs", n, workers*rounds)
			}
		})
	}
}

// The options that an interceptor behind the stack gets have no room behind
// them: if it appends to them, it gets a slice of its own.
func TestOptionsHaveNoRoom(t *testing.T) {
	opts := make([]grpc.CallOption, 1, 8)
	opts[0] = grpc.WaitForReady(true)
	for _, layer := range []interceptors.Layer{passing, retrying(2)} {
		err := invoke(t.Context(), interceptors.New(layer), nil, func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, got ...grpc.CallOption) error {
			if cap(got) != len(got) {
				t.Errorf("%d options with room for %d", len(got), cap(got))
			}
			return nil
		}, opts...)
		if err != nil {
			t.Error(err)
		}
	}
}

// An interceptor behind the stack that leaves a call running, as some that hedge
// do, never sees its options change.
func TestAbandonedAttempt(t *testing.T) {
	s := interceptors.New(retrying(3))
	var abandoned [][]grpc.CallOption
	for i := range 8 {
		_ = invoke(t.Context(), s, new(response), func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			abandoned = append(abandoned, opts)
			return status.Error(codes.Unavailable, "go on")
		}, grpc.MaxCallSendMsgSize(i))
	}
	trailers := map[*metadata.MD]bool{}
	for i, opts := range abandoned {
		if size, ok := opts[0].(grpc.MaxSendMsgSizeCallOption); !ok || size.MaxSendMsgSize != i/3 {
			t.Errorf("attempt %d has the options %v", i, opts)
		}
		if trailer, ok := opts[1].(grpc.TrailerCallOption); ok {
			trailers[trailer.TrailerAddr] = true
		}
	}
	if len(abandoned) != 24 || len(trailers) != len(abandoned) {
		t.Errorf("%d attempts write to %d trailers", len(abandoned), len(trailers))
	}
}

// token is the credentials of an RPC.
type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"token": "secret"}, nil
}
func (token) RequireTransportSecurity() bool { return false }

var _ credentials.PerRPCCredentials = token{}

// renamed is a codec that says it is the usual one.
type renamed struct{ encoding.Codec }

func (renamed) Name() string { return "proto" }

// Whatever can be said with call options can be said with a stack, too.
func TestCallOptionsKeepWorking(t *testing.T) {
	large := &request{Payload: make([]byte, 1<<16)}
	for _, tt := range []struct {
		name string
		opts []grpc.CallOption
		code codes.Code
	}{
		{"MaxCallSendMsgSize", []grpc.CallOption{grpc.MaxCallSendMsgSize(1 << 10)}, codes.ResourceExhausted},
		{"MaxCallRecvMsgSize", []grpc.CallOption{grpc.MaxCallRecvMsgSize(1 << 10)}, codes.ResourceExhausted},
		{"UseCompressor", []grpc.CallOption{grpc.MaxCallSendMsgSize(1 << 10), grpc.UseCompressor(gzip.Name)}, codes.OK},
		{"no such compressor", []grpc.CallOption{grpc.UseCompressor("none such")}, codes.Internal},
		{"no such codec", []grpc.CallOption{grpc.CallContentSubtype("none-such")}, codes.Internal},
		{"CallContentSubtype", []grpc.CallOption{grpc.CallContentSubtype("proto")}, codes.OK},
		{"ForceCodec", []grpc.CallOption{grpc.ForceCodec(renamed{jsonCodec{}})}, codes.Internal}, // the server reads protobuf
		{"PerRPCCredentials", []grpc.CallOption{grpc.PerRPCCredentials(token{})}, codes.OK},
		{"CallAuthority", []grpc.CallOption{grpc.CallAuthority("authority")}, codes.OK},
	} {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				var seen metadata.MD
				w := newWorld(t, worldOf{
					client: interceptors.New(interceptors.Timeout(time.Minute), retrying(2), passing),
					server: interceptors.New(turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						seen, _ = metadata.FromIncomingContext(ctx)
						return inner.Call(ctx, rpc)
					})),
				})
				if err := w.exchange(t.Context(), k, large, tt.opts...); status.Code(err) != tt.code {
					t.Errorf("ended with %v, want %v", err, tt.code)
				}
				synctest.Wait()
				if got := seen.Get("token"); (tt.name == "PerRPCCredentials") != slices.Equal(got, []string{"secret"}) {
					t.Errorf("the server sees the token %v", got)
				}
				if got := seen.Get(":authority"); tt.name == "CallAuthority" && !slices.Equal(got, []string{"authority"}) {
					t.Errorf("the server sees the authority %v", got)
				}
			})
		}
	}
}

// exchange makes an RPC with this request, and returns its error.
func (w *world) exchange(ctx context.Context, k interceptors.Kind, req *request, opts ...grpc.CallOption) error {
	if k == interceptors.KindUnary {
		return w.Conn.Invoke(ctx, method(k), req, new(response), opts...)
	}
	s, err := w.open(ctx, k, opts...)
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil && status.Code(err) != codes.Unknown { // which io.EOF is
		return err
	}
	_ = s.CloseSend()
	_, err = receive(s, k)
	return err
}

// An RPC of a method that the server does not know ends as it would without a
// stack, whatever its name.
func TestUnknownMethod(t *testing.T) {
	stack := func() *interceptors.Stack {
		return interceptors.New(
			interceptors.Recover(), interceptors.For("/x/*", interceptors.Timeout(time.Second)),
			interceptors.Except("/y/z", interceptors.Timeout(time.Minute)), interceptors.InContext(), retrying(2),
		)
	}
	for _, name := range []string{"/none.Such/Method", "/turret.echo.v1.EchoService/NoSuch", "/x/y", "//", "/", "", "no slash"} {
		inBubble(t, fmt.Sprintf("%q", name), func(t *testing.T) {
			w := newWorld(t, worldOf{client: stack(), server: stack()})
			err := w.Conn.Invoke(t.Context(), name, new(request), new(response))
			bare := newWorld(t, worldOf{}).Conn.Invoke(t.Context(), name, new(request), new(response))
			if err == nil || status.Code(err) != status.Code(bare) {
				t.Errorf("ended with %v, without a stack with %v", err, bare)
			}
		})
	}
}

// A server that takes whatever comes does so as bidirectional streams.
func TestUnknownServiceHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen interceptors.RPC
		stack := interceptors.New(interceptors.For("/none.Such/*", interceptors.InContext()))
		p := wire.Start(t, wire.Config{
			Server: append(stack.ServerOptions(), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
				seen, _ = interceptors.FromContext(s.Context())
				return s.SendMsg(new(response))
			})),
		})
		if err := p.Conn.Invoke(t.Context(), "/none.Such/Method", new(request), new(response)); err != nil {
			t.Error(err)
		}
		if seen.Method != "/none.Such/Method" || seen.Kind != interceptors.KindBidiStream || seen.Side != interceptors.SideServer {
			t.Errorf("the handler is in the RPC %+v", seen)
		}
	})
}

type contextKey struct{}

// What a layer puts into the context reaches the interceptors behind the stack;
// what those in front of it put there reaches the layers. Header and trailer of
// the handler arrive.
func TestContextAndNeighbours(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var order []string
			with := func(ctx context.Context, name string) context.Context {
				before, _ := ctx.Value(contextKey{}).(string)
				order = append(order, before+name)
				return context.WithValue(ctx, contextKey{}, before+name)
			}
			layer := func(name string) interceptors.Layer {
				return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					defer func() { order = append(order, "left "+name) }()
					return inner.Call(with(ctx, name), rpc)
				})
			}
			neighbour := func(name string) []grpc.DialOption {
				return []grpc.DialOption{
					grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
						return invoker(with(ctx, name), method, req, reply, cc, opts...)
					}),
					grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
						return streamer(with(ctx, name), desc, cc, method, opts...)
					}),
				}
			}
			w := newWorld(t, worldOf{
				dial: neighbour("a"), client: interceptors.New(layer("b"), retrying(2), layer("c")), behindClient: neighbour("d"),
			})
			r := w.do(t.Context(), k, &echov1.Plan{
				Headers:  []*echov1.MetadataEntry{{Key: "h", Values: []string{"1"}}},
				Trailers: []*echov1.MetadataEntry{{Key: "t", Values: []string{"2"}}},
			})
			synctest.Wait()
			if err := r.wants(codes.OK, ""); err != nil || !slices.Equal(r.header.Get("h"), []string{"1"}) || !slices.Equal(r.trailer.Get("t"), []string{"2"}) {
				t.Errorf("%v, header %v, trailer %v", err, r.header, r.trailer)
			}
			if want := []string{"a", "ab", "abc", "abcd", "left c", "left b"}; !slices.Equal(order, want) {
				t.Errorf("order %q, want %q", order, want)
			}
		})
	}
}

// The handler is called with the context of the layers.
func TestHandlerSeesDerivedContext(t *testing.T) {
	stack := interceptors.New(interceptors.Filter(func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) {
		return context.WithValue(ctx, contextKey{}, "derived"), nil
	}))
	var seen any
	_, err := stack.UnaryServer()(t.Context(), nil, &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
		seen = ctx.Value(contextKey{})
		return 1, nil
	})
	if err != nil || seen != "derived" {
		t.Errorf("a handler sees %v (%v)", seen, err)
	}
	seen = nil
	err = stack.StreamServer()(nil, serverStream{t.Context(), new(trailers)}, &grpc.StreamServerInfo{}, func(_ any, s grpc.ServerStream) error {
		seen = s.Context().Value(contextKey{})
		return nil
	})
	if err != nil || seen != "derived" {
		t.Errorf("the handler of a stream sees %v (%v)", seen, err)
	}
}

type severalErrors []error

func (severalErrors) Error() string     { return "several" }
func (e severalErrors) Unwrap() []error { return e }

// An error of a neighbour that cannot be compared is none the worse for it.
func TestUncomparableError(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		s := interceptors.New(interceptors.Timeout(time.Minute), interceptors.Named("n", retrying(2)), passing)
		err := invoke(ctx, s, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			if cancelled {
				cancel()
			}
			return severalErrors{errMine}
		})
		cancel()
		if status.Code(err) != codes.Unknown || !errors.Is(err, errMine) {
			t.Errorf("ended with %v", err)
		}
	}
}

// The RPC of a context is a copy: asking it is safe, and answers little.
func TestFromContext(t *testing.T) {
	if _, ok := interceptors.FromContext(t.Context()); ok {
		t.Error("there is an RPC where no layer put one")
	}
	var seen interceptors.RPC
	s := interceptors.New(retrying(2), interceptors.InContext(), turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		seen, _ = interceptors.FromContext(ctx)
		if _, err := inner.Call(ctx, rpc); err != nil || rpc.Attempt == 1 {
			return nil, err
		}
		return nil, status.Error(codes.Unavailable, "once more")
	}))
	err := invoke(t.Context(), s, new(response), succeeds)
	if status.Code(err) != codes.Internal || seen.Attempt != 1 || seen.Method != "/package.Service/Method" || seen.Request != "request" {
		t.Errorf("the RPC is %+v (%v)", seen, err)
	}
	if seen.NewReply() != nil || !seen.Committed() || seen.WithRequest("other").Request != "other" {
		t.Error("the copy says more than it knows")
	}
}
