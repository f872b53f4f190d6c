package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// What layers see of an RPC, and what they change of it.

// noted is a layer that notes the RPCs that come through.
func noted(rpcs *[]interceptors.RPC) interceptors.Layer {
	return wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		*rpcs = append(*rpcs, *rpc)
		return inner.Call(ctx, rpc)
	})
}

func TestRPCSaysWhatItIs(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var client, server []interceptors.RPC
			w := newWorld(t, worldOf{
				client: interceptors.New(noted(&client), retrying(2), noted(&client)),
				server: interceptors.New(noted(&server)),
			})
			plan := &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: 1}}
			if err := w.do(t.Context(), k, plan).wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			check := func(rpcs []interceptors.RPC, side interceptors.Side, attempts ...int) {
				t.Helper()
				if len(rpcs) != len(attempts) {
					t.Fatalf("%v: %d RPCs, want %d", side, len(rpcs), len(attempts))
				}
				for i, rpc := range rpcs {
					if rpc.Method != method(k) || rpc.Kind != k || rpc.Side != side || rpc.Attempt != attempts[i] {
						t.Errorf("%v: the RPC is %+v", side, rpc)
					}
					req, ok := rpc.Request.(*request)
					if unary := k == interceptors.KindUnary; ok != unary || !unary && rpc.Request != nil || unary && string(req.GetPayload()) != "payload" {
						t.Errorf("%v: the request is %v", side, rpc.Request)
					}
				}
			}
			check(client, interceptors.SideClient, 0, 0, 1)
			check(server, interceptors.SideServer, 0, 0) // which knows nothing of attempts
		})
	}
}

func TestInContext(t *testing.T) {
	for _, k := range kinds {
		for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			inBubble(t, fmt.Sprintf("%v/%v", k, side), func(t *testing.T) {
				var outside, inside interceptors.RPC
				var known [2]bool
				stack := interceptors.New(
					wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						outside, known[0] = interceptors.FromContext(ctx)
						return inner.Call(ctx, rpc)
					}),
					interceptors.InContext())
				note := func(ctx context.Context) { inside, known[1] = interceptors.FromContext(ctx) }
				w := newWorld(t, worldOf{server: stack})
				w.server.before = note
				if side == interceptors.SideClient {
					w = newWorld(t, worldOf{client: stack, behindClient: noting(note)})
				}
				if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
					t.Error(err)
				}
				if known[0] {
					t.Errorf("outside the layer there is %+v", outside)
				}
				if !known[1] || inside.Method != method(k) || inside.Kind != k || inside.Side != side {
					t.Errorf("inside the layer there is %+v (%t)", inside, known[1])
				}
			})
		}
	}
}

// noting are client interceptors that note their context.
func noting(note func(ctx context.Context)) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			note(ctx)
			return invoker(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			note(ctx)
			return streamer(ctx, desc, cc, method, opts...)
		}),
	}
}

// A changed request is what the handler gets, and the caller's stays as it is.
func TestWithRequest(t *testing.T) {
	for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
		inBubble(t, side.String(), func(t *testing.T) {
			stack := interceptors.New(
				wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					before := rpc.Request
					reply, err := inner.Call(ctx, rpc.WithRequest(&request{Payload: []byte("changed")}))
					if rpc.Request != before {
						t.Error("the RPC of the layer was changed")
					}
					return reply, err
				}),
				retrying(2))
			of := worldOf{client: stack}
			if side == interceptors.SideServer {
				of = worldOf{server: stack}
			}
			w := newWorld(t, of)
			req, res := &request{Payload: []byte("asked")}, new(response)
			err := w.Conn.Invoke(t.Context(), method(interceptors.KindUnary), req, res)
			if err != nil || string(res.GetPayload()) != "changed" || string(req.GetPayload()) != "asked" {
				t.Errorf("the response is %v (%v), the request %v", res, err, req)
			}
		})
	}
}

// Options of layers are behind those of the caller, the innermost last, and
// reach only the layers inside.
func TestWithOptions(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var outer, inner, callers metadata.MD
			with := func(md *metadata.MD, size int) interceptors.Layer {
				return wrap(func(ctx context.Context, rpc *interceptors.RPC, next interceptors.Service) (any, error) {
					return next.Call(ctx, rpc.WithOptions(grpc.Trailer(md), grpc.MaxCallRecvMsgSize(size)))
				})
			}
			w := newWorld(t, worldOf{client: interceptors.New(with(&outer, 1), with(&inner, 1000))})
			plan := &echov1.Plan{Trailers: []*echov1.MetadataEntry{{Key: "t", Values: []string{"1"}}}}
			// The last one of MaxCallRecvMsgSize counts: 1 byte would not do.
			r := w.do(t.Context(), k, plan, grpc.MaxCallRecvMsgSize(1), grpc.Trailer(&callers))
			if err := r.wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			for name, md := range map[string]metadata.MD{"caller": callers, "outer layer": outer, "inner layer": inner} {
				if !slices.Equal(md.Get("t"), []string{"1"}) {
					t.Errorf("the trailer of the %s is %v", name, md)
				}
			}
		})
	}
}

// messageLog is what hooks have seen, in order.
type messageLog struct {
	mu      sync.Mutex // SendMsg and RecvMsg may run at the same time
	entries []string
}

func (l *messageLog) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, fmt.Sprintf(format, args...))
}

// of returns the entries of one direction.
func (l *messageLog) of(direction string) (entries []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e[:4] == direction {
			entries = append(entries, e)
		}
	}
	return entries
}

// hook is a layer that logs messages under its name.
func (l *messageLog) hook(name string) interceptors.Layer {
	return wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		return inner.Call(ctx, rpc.WrapStream(func(s interceptors.MessageStream) interceptors.MessageStream {
			return &loggedMessages{s, l, name}
		}))
	})
}

// wants fails the test unless the hooks, in this order, saw each payload once in
// this direction.
func (l *messageLog) wants(t *testing.T, side, direction string, hooks, payloads []string) {
	t.Helper()
	var want []string
	for _, p := range payloads {
		for _, name := range hooks {
			want = append(want, fmt.Sprintf("%s %s %s", direction, name, p))
		}
	}
	if got := l.of(direction); !slices.Equal(got, want) {
		t.Errorf("%s: the hooks saw\n%q, want\n%q", side, got, want)
	}
}

type loggedMessages struct {
	interceptors.MessageStream

	log  *messageLog
	name string
}

type payload interface{ GetPayload() []byte }

func (m *loggedMessages) SendMsg(msg any) error {
	m.log.add("send %s %s", m.name, msg.(payload).GetPayload())
	return m.MessageStream.SendMsg(msg)
}

func (m *loggedMessages) RecvMsg(msg any) error {
	err := m.MessageStream.RecvMsg(msg)
	if err == nil {
		m.log.add("recv %s %s", m.name, msg.(payload).GetPayload())
	}
	return err
}

// Hooks see each message once: on the client the outermost sees first what is
// sent and last what is received; on the server it is nearest to the network, and
// sees last what is sent and first what is received.
func TestWrapStream(t *testing.T) {
	outward, inward := []string{"outer", "inner"}, []string{"inner", "outer"}
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var client, server messageLog
			w := newWorld(t, worldOf{
				client: interceptors.New(client.hook("outer"), passing, client.hook("inner")),
				server: interceptors.New(server.hook("outer"), passing, server.hook("inner")),
			})
			requests, responses := exchangeMany(t, w, k, &echov1.Plan{})
			synctest.Wait()
			if k == interceptors.KindUnary {
				requests, responses = nil, nil // whose messages are in the RPC
			}
			client.wants(t, "client", "send", outward, requests)
			client.wants(t, "client", "recv", inward, responses)
			server.wants(t, "server", "recv", outward, requests)
			server.wants(t, "server", "send", inward, responses)
		})
	}
}

// Outside a Retry they see each message of the caller once, however many attempts
// there are.
func TestWrapStreamOutsideRetry(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var client messageLog
			w := newWorld(t, worldOf{client: interceptors.New(client.hook("outer"), client.hook("inner"), retrying(3))})
			plan := &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: 2}}
			requests, responses := exchangeMany(t, w, k, plan)
			client.wants(t, "client", "send", []string{"outer", "inner"}, requests)
			client.wants(t, "client", "recv", []string{"inner", "outer"}, responses)
			if n := w.server.ran.Load(); n != 3 {
				t.Errorf("%d handlers ran, want 3", n)
			}
		})
	}
}

// exchangeMany makes an RPC that sends as many messages as its kind can send, the
// first of them with plan, and receives all. It returns the payloads.
func exchangeMany(t *testing.T, w *world, k interceptors.Kind, plan *echov1.Plan) (requests, responses []string) {
	t.Helper()
	if k == interceptors.KindUnary {
		if err := w.do(t.Context(), k, plan).wants(codes.OK, ""); err != nil {
			t.Error(err)
		}
		return []string{"payload"}, []string{"payload"}
	}
	s, err := w.open(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	requests = []string{"a", "b", "c"}
	switch k {
	case interceptors.KindServerStream:
		requests, responses = requests[:1], []string{"a", "a", "a"}
		plan.Responses = new(int32(3))
	case interceptors.KindClientStream:
		responses = requests[2:]
	default:
		responses = requests
	}
	for i, p := range requests {
		req := &request{Payload: []byte(p)}
		if i == 0 {
			req.Plan = plan
		}
		err = errors.Join(err, s.SendMsg(req))
	}
	err = errors.Join(err, s.CloseSend())
	got, end := receive(s, k)
	if err := errors.Join(err, end); err != nil || len(got) != len(responses) {
		t.Fatalf("%d responses, error %v", len(got), err)
	}
	return requests, responses
}
