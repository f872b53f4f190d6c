package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/throttle"
)

// A client that only learns sends everything, and the gate knows what the server
// admits.
func TestLearnThresholdSendsEverything(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var got atomic.Int64
			known := throttle.NewThreshold()
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.LearnThreshold(known)), server: interceptors.New(announces(&got, "2"))})
			w.learns(t, k, criticality.Critical)
			before := got.Load()
			if err := w.do(criticality.With(t.Context(), criticality.Sheddable), k, nil).wants(codes.OK, ""); err != nil {
				t.Errorf("a sheddable RPC: %v", err)
			}
			if n := got.Load() - before; n != 1 {
				t.Errorf("it was sent %d times", n)
			}
			if err := known.Admit(criticality.Sheddable); !errors.Is(err, throttle.ErrBelowThreshold) {
				t.Errorf("the gate says %v to a sheddable call", err)
			}
			if err := known.Admit(criticality.Critical); err != nil {
				t.Errorf("the gate says %v to a critical call", err)
			}
		})
	}
}

// Each of two layers in one stack learns from the answer.
func TestTwoLayersLearn(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var got atomic.Int64
			outer, inner := throttle.NewThreshold(), throttle.NewThreshold()
			w := newWorld(t, worldOf{
				client: interceptors.New(interceptors.LearnThreshold(outer), interceptors.LearnThreshold(inner)),
				server: interceptors.New(announces(&got, "2")),
			})
			w.learns(t, k, criticality.Critical)
			if !outer.Limiting() || !inner.Limiting() {
				t.Errorf("the outer layer has learnt %v, the inner one %v", outer, inner)
			}
		})
	}
}

// On a server the layer does nothing.
func TestLearnThresholdOnAServer(t *testing.T) {
	inBubble(t, "server", func(t *testing.T) {
		var got atomic.Int64
		known := throttle.NewThreshold()
		w := newWorld(t, worldOf{server: interceptors.New(interceptors.LearnThreshold(known), announces(&got, "0"))})
		w.learns(t, interceptors.KindUnary, criticality.Critical)
		if known.Limiting() {
			t.Errorf("the gate of a server has learnt: %v", known)
		}
	})
}

// A server in front turns away at its door what the server behind does not admit,
// before its handler runs, and does not turn away what the methods beside need.
func TestThresholdAtTheDoor(t *testing.T) {
	inBubble(t, "two hops", func(t *testing.T) {
		var got, worked atomic.Int64
		known := throttle.NewThreshold()
		carry := interceptors.Criticality(allowAll)
		behind := newWorld(t, worldOf{client: interceptors.New(carry, interceptors.LearnThreshold(known)), server: interceptors.New(announces(&got, "2"))})
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) {
				echov1.RegisterEchoServiceServer(s, &relay{behind: behind, worked: &worked})
			},
			Server: interceptors.New(carry, interceptors.For("/turret.echo.v1.EchoService/Unary", interceptors.Admit(known))).ServerOptions(),
			Dial:   interceptors.New(carry).DialOptions(),
		})
		client := echov1.NewEchoServiceClient(p.Conn)
		call := func(level criticality.Level) error {
			_, err := client.Unary(criticality.With(t.Context(), level), &echov1.UnaryRequest{})
			return err
		}
		behind.learns(t, interceptors.KindUnary, criticality.Critical)
		if err := call(criticality.Critical); err != nil {
			t.Errorf("a critical RPC: %v", err)
		}
		if n := worked.Load(); n != 1 {
			t.Errorf("the handler in front ran %d times for a critical RPC", n)
		}
		before := got.Load()
		err := call(criticality.Sheddable)
		if s := interceptors.Status(err); s.Code() != codes.ResourceExhausted || !strings.Contains(fmt.Sprint(s.Details()), throttle.ReasonBelowThreshold) {
			t.Errorf("a sheddable RPC: %v", err)
		}
		if worked.Load() != 1 || got.Load() != before {
			t.Errorf("the handler in front ran %d times more, and the server behind got %d RPCs", worked.Load()-1, got.Load()-before)
		}
		stream, err := client.ServerStream(criticality.With(t.Context(), criticality.Sheddable), &echov1.ServerStreamRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); interceptors.Code(err) != codes.Unimplemented {
			t.Errorf("a sheddable RPC of another method: %v", err)
		}
	})
}

// A relay is a server whose handler of Unary calls the server behind.
type relay struct {
	echov1.UnimplementedEchoServiceServer

	behind *world
	worked *atomic.Int64
}

func (r *relay) Unary(ctx context.Context, _ *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	r.worked.Add(1)
	return &echov1.UnaryResponse{}, r.behind.do(ctx, interceptors.KindUnary, nil).err
}

func TestLearnThresholdDescribesItself(t *testing.T) {
	stack := interceptors.New(interceptors.LearnThreshold(throttle.NewThreshold()))
	if n := turret.Describe(stack, 0).Children; len(n) != 1 || n[0].Kind != "learn_threshold" {
		t.Errorf("%+v", n)
	}
	if text := stack.String(); !strings.Contains(text, "learns the threshold of the server") {
		t.Error(text)
	}
}
