package interceptors_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	_ "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// warned runs several RPCs of each kind of a side through a stack, from several
// goroutines, and returns what was logged and how many warnings there were.
func warned(t *testing.T, stack *interceptors.Stack, sides ...interceptors.Side) string {
	t.Helper()
	var out lockedBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	var wg sync.WaitGroup
	for range 4 {
		for _, side := range sides {
			wg.Go(func() {
				for range 3 {
					passUnary(t, stack, side)
					passStream(t, stack, side)
				}
			})
		}
	}
	wg.Wait()
	return out.String()
}

const warningMethod = "/turret.echo.v1.EchoService/Unary"

func passUnary(t *testing.T, stack *interceptors.Stack, side interceptors.Side) {
	t.Helper()
	if side == interceptors.SideClient {
		invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
		if err := stack.UnaryClient()(context.Background(), warningMethod, nil, nil, nil, invoke); err != nil {
			t.Error(err)
		}
		return
	}
	handle := func(context.Context, any) (any, error) { return "reply", nil }
	if _, err := stack.UnaryServer()(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: warningMethod}, handle); err != nil {
		t.Error(err)
	}
}

// A bareServerStream has a context and nothing else.
type bareServerStream struct{ grpc.ServerStream }

func (bareServerStream) Context() context.Context { return context.Background() }

func passStream(t *testing.T, stack *interceptors.Stack, side interceptors.Side) {
	t.Helper()
	if side == interceptors.SideClient {
		return // the edge of unary RPCs stands for both
	}
	handle := func(any, grpc.ServerStream) error { return nil }
	info := &grpc.StreamServerInfo{FullMethod: "/turret.echo.v1.EchoService/BidiStream", IsClientStream: true, IsServerStream: true}
	if err := stack.StreamServer()(nil, bareServerStream{}, info, handle); err != nil {
		t.Error(err)
	}
}

func TestLikelyMistakesAreReportedOnce(t *testing.T) {
	serverOnly := interceptors.FromServer(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			return h(ctx, req)
		},
		func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			return h(srv, s)
		},
	)
	clientOnly := interceptors.FromUnaryClient(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, method, req, reply, cc, opts...)
		},
	)
	client, server := interceptors.SideClient, interceptors.SideServer
	for _, tt := range []struct {
		name   string
		layer  interceptors.Layer
		sides  []interceptors.Side
		reason string // "": no warning
		text   string
	}{
		{"a server's interceptor on a client", serverOnly, []interceptors.Side{client}, "WRONG_SIDE", "acts on the RPCs of a server only"},
		{"a client's interceptor on a server", clientOnly, []interceptors.Side{server}, "WRONG_SIDE", "acts on the RPCs of a client only"},
		{"a Retry on a server", interceptors.Retry(retry.Config{}), []interceptors.Side{server}, "WRONG_SIDE", "a Retry acts on the RPCs of a client only"},
		{"a Hedge on a server", interceptors.Hedge(hedge.Config{}), []interceptors.Side{server}, "WRONG_SIDE", "a Hedge acts on the RPCs of a client only"},
		{"a stack on both sides", interceptors.InContext(), []interceptors.Side{client, server}, "BOTH_SIDES", "make a stack for each side"},
		{
			"a pattern without a method", interceptors.For("/turret.echo.v1.EchoService/Unray", interceptors.InContext()),
			[]interceptors.Side{server},
			"NO_SUCH_METHOD", "/turret.echo.v1.EchoService/Unray",
		},
		{
			"one of several patterns", interceptors.ExceptAny([]string{"/*", "/turret.echo.v1.EchoService/Nothing"}, interceptors.InContext()),
			[]interceptors.Side{server},
			"NO_SUCH_METHOD", "/turret.echo.v1.EchoService/Nothing",
		},

		{"right sides", serverOnly, []interceptors.Side{server}, "", ""},
		{"a right client", interceptors.Retry(retry.Config{}), []interceptors.Side{client}, "", ""},
		{"a pattern of a service", interceptors.Except("/turret.echo.v1.EchoService/*", interceptors.InContext()), []interceptors.Side{server}, "", ""},
		{"a service without generated code", interceptors.For("/some.Proxied/Call", interceptors.InContext()), []interceptors.Side{server}, "", ""},
		{"a pattern of a client", interceptors.For("/turret.echo.v1.EchoService/Unray", interceptors.InContext()), []interceptors.Side{client}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var events []interceptors.Event
			stack := interceptors.New(
				interceptors.Observe(func(_ context.Context, e interceptors.Event) {
					if e.Kind == interceptors.EventWarning {
						mu.Lock()
						defer mu.Unlock()
						events = append(events, e)
					}
				}),
				tt.layer,
			)
			logged := warned(t, stack, tt.sides...)
			if tt.reason == "" {
				if logged != "" || len(events) != 0 {
					t.Errorf("logged %q, %d events, want no warning", logged, len(events))
				}
				return
			}
			if strings.Count(logged, "level=WARN") != 1 || !strings.Contains(logged, "reason="+tt.reason) || !strings.Contains(logged, tt.text) {
				t.Errorf("logged %q, want one warning of %s that says %q", logged, tt.reason, tt.text)
			}
			if len(events) != 1 || events[0].Reason != tt.reason || events[0].Err == nil || events[0].RPC.Method == "" {
				t.Errorf("events %+v, want one of %s", events, tt.reason)
			}
		})
	}
}
