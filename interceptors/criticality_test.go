package interceptors_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// levels notes the level of each RPC that reaches it.
type levels struct {
	mu   sync.Mutex
	came []criticality.Level
}

func (l *levels) layer() interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		l.mu.Lock()
		l.came = append(l.came, criticality.From(ctx))
		l.mu.Unlock()
		return inner.Call(ctx, rpc)
	})
}

// String returns the levels, in order.
func (l *levels) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, level := range l.came {
		names = append(names, level.String())
	}
	return strings.Join(names, " ")
}

// carries makes an RPC of each kind, with the contexts that with makes, and
// compares the levels that the server saw with want.
func carries(t *testing.T, client, server interceptors.CriticalityConfig, with func(context.Context) context.Context, want string) {
	t.Helper()
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			saw := &levels{}
			w := newWorld(t, worldOf{
				client: interceptors.New(interceptors.Criticality(client)),
				server: interceptors.New(interceptors.Criticality(server), saw.layer()),
			})
			if err := w.do(with(t.Context()), k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			if got := saw.String(); got != want {
				t.Errorf("the server saw %q, want %q", got, want)
			}
		})
	}
}

func TestLevelCrossesTheWire(t *testing.T) {
	level := func(l criticality.Level) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return criticality.With(ctx, l) }
	}
	none := func(ctx context.Context) context.Context { return ctx }
	claim := func(values ...string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context {
			return metadata.NewOutgoingContext(ctx, metadata.MD{criticality.Key: values})
		}
	}
	everything := func(context.Context, *interceptors.RPC) criticality.Level { return criticality.CriticalPlus }
	sheddable := map[string]criticality.Level{"/*": criticality.Sheddable, "/turret.echo.v1.EchoService/*": criticality.SheddablePlus}
	for _, tt := range []struct {
		name           string
		client, server interceptors.CriticalityConfig
		with           func(context.Context) context.Context
		want           string
	}{
		{name: "of the context", with: level(criticality.Sheddable), want: "sheddable"},
		{name: "none is critical", with: none, want: "critical"},
		{name: "a claim beyond what is allowed", with: level(criticality.CriticalPlus), want: "critical"},
		{name: "a claim that is allowed", server: interceptors.CriticalityConfig{Allow: everything}, with: level(criticality.CriticalPlus), want: "critical-plus"},
		{name: "of the method, on the client", client: interceptors.CriticalityConfig{Methods: sheddable}, with: none, want: "sheddable-plus"},
		{name: "the context before the method", client: interceptors.CriticalityConfig{Methods: sheddable}, with: level(criticality.Critical), want: "critical"},
		{name: "metadata that was passed on is replaced", with: claim("sheddable", "sheddable"), want: "critical"},
	} {
		t.Run(tt.name, func(t *testing.T) { carries(t, tt.client, tt.server, tt.with, tt.want) })
	}
}

// What a peer without this package sends must not be believed when it is no
// level, or several.
func TestOddClaimsAreNone(t *testing.T) {
	for name, values := range map[string][]string{
		"none": nil, "empty": {""}, "a number": {"-1"}, "capitals": {"CRITICAL-PLUS"}, "two": {"critical", "sheddable"}, "long": {strings.Repeat("x", 5000)},
	} {
		inBubble(t, name, func(t *testing.T) {
			saw := &levels{}
			w := newWorld(t, worldOf{server: interceptors.New(interceptors.Criticality(interceptors.CriticalityConfig{
				Methods: map[string]criticality.Level{"/*": criticality.SheddablePlus},
			}), saw.layer())})
			ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{criticality.Key: values})
			if err := w.do(ctx, interceptors.KindUnary, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			if got := saw.String(); got != "sheddable-plus" {
				t.Errorf("the server saw %q, want the level of the method", got)
			}
		})
	}
}

func TestRetriesAreLessCritical(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			saw := &levels{}
			w := newWorld(t, worldOf{
				client: interceptors.New(
					interceptors.Retry(retry.Config{MaxAttempts: 3, Budget: retry.Unlimited}),
					interceptors.Criticality(interceptors.CriticalityConfig{}),
				),
				server: interceptors.New(interceptors.Criticality(interceptors.CriticalityConfig{}), saw.layer(), interceptors.Filter(
					func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, unavailable("lost") })),
			})
			if err := w.do(t.Context(), k, nil).wants(codes.Unavailable, ""); err != nil {
				t.Error(err)
			}
			if got := saw.String(); got != "critical sheddable-plus sheddable-plus" {
				t.Errorf("the server saw %q", got)
			}
		})
	}
}

func TestHedgesAreLessCritical(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saw := &levels{}
		w := newWorld(t, worldOf{
			client: interceptors.New(
				interceptors.Hedge(hedge.Config{Delay: 50 * time.Millisecond, MaxHedges: 1, Budget: retry.Unlimited}),
				interceptors.Criticality(interceptors.CriticalityConfig{}),
			),
			server: interceptors.New(interceptors.Criticality(interceptors.CriticalityConfig{}), saw.layer(), interceptors.Timeout(time.Second)),
		})
		ctx := criticality.With(t.Context(), criticality.Sheddable)
		w.do(ctx, interceptors.KindUnary, &echov1.Plan{Delay: durationpbOf(100 * time.Millisecond)})
		w.do(t.Context(), interceptors.KindUnary, &echov1.Plan{Delay: durationpbOf(100 * time.Millisecond)})
		if got := saw.String(); got != "sheddable sheddable critical sheddable-plus" {
			t.Errorf("the server saw %q", got)
		}
	})
}

// An RPC that a handler makes inherits the level of the one that it handles, also
// through adopted interceptors.
func TestLevelIsInherited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saw := &levels{}
		carry := interceptors.Criticality(interceptors.CriticalityConfig{})
		back := newWorld(t, worldOf{client: interceptors.New(carry), server: interceptors.New(carry, saw.layer())})
		adopted := interceptors.FromUnaryServer(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, req)
		})
		calls := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			if err := back.do(ctx, interceptors.KindUnary, nil).wants(codes.OK, ""); err != nil {
				return nil, err
			}
			return inner.Call(ctx, rpc)
		})
		front := newWorld(t, worldOf{client: interceptors.New(carry), server: interceptors.New(carry, adopted, calls)})
		r := front.do(criticality.With(t.Context(), criticality.Sheddable), interceptors.KindUnary, nil)
		if err := r.wants(codes.OK, ""); err != nil || saw.String() != "sheddable" {
			t.Errorf("%v, the server behind saw %q", err, saw)
		}
	})
}

func TestCriticalityConfigNamesTheInvalidField(t *testing.T) {
	for want, c := range map[string]interceptors.CriticalityConfig{
		`Methods["echo"]`:    {Methods: map[string]criticality.Level{"echo": criticality.Critical}},
		`Methods["/*"] is L`: {Methods: map[string]criticality.Level{"/*": 9}},
	} {
		err := c.Validate()
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: %v, want %q", err, want)
		}
	}
}
