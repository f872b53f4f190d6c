package interceptors_test

import (
	"context"
	"strings"
	"sync/atomic"
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
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/throttle"
)

// announces is a layer of a server that sends thresholds, and counts what it gets.
func announces(got *atomic.Int64, thresholds ...string) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		got.Add(1)
		_ = grpc.SetTrailer(ctx, metadata.MD{criticality.ThresholdKey: thresholds})
		return inner.Call(ctx, rpc)
	})
}

// learns makes RPCs of a level, so that w's client learns what the server says.
func (w *world) learns(t *testing.T, k interceptors.Kind, level criticality.Level) {
	t.Helper()
	ctx := criticality.With(t.Context(), level)
	// What was wanted before has then a part of exp(-26) in what is wanted, so that
	// no call passes by chance.
	for range 30 {
		w.do(ctx, k, nil)
		time.Sleep(90 * time.Millisecond)
	}
}

// adoptedEverywhere is interceptors of a client, of both kinds, that do nothing.
func adoptedEverywhere() interceptors.Layer {
	return interceptors.FromClient(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		},
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, opts...)
		})
}

// What the server does not admit now is not sent, through all that may be between
// the two layers, and for RPCs of all kinds.
func TestLessCriticalRPCsAreNotSent(t *testing.T) {
	carry := interceptors.Criticality(interceptors.CriticalityConfig{})
	sheddable := interceptors.Criticality(interceptors.CriticalityConfig{Methods: map[string]criticality.Level{"/*": criticality.Sheddable}})
	retries := retry.Config{Budget: retry.Unlimited}
	for _, tt := range []struct {
		name  string
		stack func() *interceptors.Stack
	}{
		{"alone", func() *interceptors.Stack { return interceptors.New(interceptors.Threshold()) }},
		{"inside Criticality", func() *interceptors.Stack { return interceptors.New(carry, interceptors.Threshold()) }},
		{"the level of the method", func() *interceptors.Stack { return interceptors.New(sheddable, interceptors.Threshold()) }},
		{"outside Retry", func() *interceptors.Stack {
			return interceptors.New(interceptors.Threshold(), interceptors.Retry(retries), carry)
		}},
		{"inside Retry", func() *interceptors.Stack {
			return interceptors.New(interceptors.Retry(retry.Config{MaxAttempts: 1}), carry, interceptors.Threshold())
		}},
		{"outside Hedge", func() *interceptors.Stack {
			return interceptors.New(interceptors.Threshold(), interceptors.Hedge(hedge.Config{Delay: time.Second}), carry)
		}},
		{"outside an adopted interceptor", func() *interceptors.Stack {
			return interceptors.New(carry, interceptors.Threshold(), adoptedEverywhere())
		}},
		{"inside an adopted interceptor", func() *interceptors.Stack {
			return interceptors.New(carry, adoptedEverywhere(), interceptors.Threshold())
		}},
		{"between two", func() *interceptors.Stack {
			return interceptors.New(adoptedEverywhere(), carry, interceptors.Threshold(), interceptors.Retry(retries), adoptedEverywhere())
		}},
	} {
		for _, k := range kinds {
			inBubble(t, tt.name+", "+k.String(), func(t *testing.T) {
				var got atomic.Int64
				w := newWorld(t, worldOf{client: tt.stack(), server: interceptors.New(announces(&got, "2"))})
				w.learns(t, k, criticality.Critical)
				before := got.Load()
				ctx := t.Context()
				if tt.name != "the level of the method" {
					ctx = criticality.With(ctx, criticality.Sheddable)
				}
				if err := w.do(ctx, k, nil).wants(codes.ResourceExhausted, throttle.ReasonBelowThreshold); err != nil {
					t.Errorf("a sheddable RPC: %v", err)
				}
				if n := got.Load() - before; n != 0 {
					t.Errorf("%d RPCs were sent", n)
				}
				if err := w.do(criticality.With(t.Context(), criticality.Critical), k, nil).wants(codes.OK, ""); err != nil {
					t.Errorf("a critical RPC: %v", err)
				}
			})
		}
	}
}

// Failures and refusals of the server carry the threshold too.
func TestThresholdOfFailedRPCs(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var got atomic.Int64
			refuses := interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, unavailable("full") })
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Threshold()), server: interceptors.New(announces(&got, "1", "3"), refuses)})
			w.learns(t, k, criticality.CriticalPlus)
			if err := w.do(t.Context(), k, nil).wants(codes.ResourceExhausted, throttle.ReasonBelowThreshold); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that is no longer reached, and one that says nothing any more, want
// everything.
func TestThresholdEnds(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var got atomic.Int64
			var silent atomic.Bool
			loud := announces(&got, "1")
			layer := func(inner interceptors.Service) interceptors.Service {
				l := loud(inner)
				return turret.ServiceFunc(func(ctx context.Context, rpc *interceptors.RPC) (any, error) {
					if silent.Load() {
						return inner.Call(ctx, rpc)
					}
					return l.Call(ctx, rpc)
				})
			}
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Threshold()), server: interceptors.New(layer)})
			w.learns(t, k, criticality.CriticalPlus)
			ctx := criticality.With(t.Context(), criticality.Sheddable)
			silent.Store(true)
			for range 12 { // one in 100 ms passes, and learns
				w.do(ctx, k, nil)
				time.Sleep(60 * time.Millisecond)
			}
			time.Sleep(time.Second)
			if err := w.do(ctx, k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a peer sends as a threshold is not to be relied on.
func TestOddThresholdsAreNone(t *testing.T) {
	for name, values := range map[string][]string{
		"none": nil, "empty": {""}, "words": {"low"}, "NaN": {"NaN"}, "infinite": {"Inf"}, "large": {"1e9"}, "long": {strings.Repeat("0", 5000)},
	} {
		inBubble(t, name, func(t *testing.T) {
			var got atomic.Int64
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Threshold()), server: interceptors.New(announces(&got, values...))})
			w.learns(t, interceptors.KindUnary, criticality.Critical)
			if err := w.do(criticality.With(t.Context(), criticality.Sheddable), interceptors.KindUnary, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is known of a target is for that one alone.
func TestThresholdIsOfATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got atomic.Int64
		stack := interceptors.New(interceptors.Threshold())
		full := newWorld(t, worldOf{client: stack, server: interceptors.New(announces(&got, "1"))})
		other := wire.StartFleet(t, wire.FleetConfig{
			Servers:  1,
			Register: func(_ int, s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("other")) },
			Dial:     stack.DialOptions(),
		})
		full.learns(t, interceptors.KindUnary, criticality.CriticalPlus)
		if err := full.do(t.Context(), interceptors.KindUnary, nil).wants(codes.ResourceExhausted, throttle.ReasonBelowThreshold); err != nil {
			t.Error(err)
		}
		if _, err := echov1.NewEchoServiceClient(other.Conn).Unary(t.Context(), &echov1.UnaryRequest{}); err != nil {
			t.Errorf("the other target: %v", err)
		}
		if n := turret.Describe(stack, 100); len(n.Children) != 1 || len(n.Children[0].Children) != 2 {
			t.Errorf("%+v", n)
		}
		if !strings.Contains(stack.String(), "threshold: 100 % of critical-plus, 0 % of critical,") || !strings.Contains(stack.String(), " to fleet:///test") {
			t.Error(stack)
		}
	})
}
