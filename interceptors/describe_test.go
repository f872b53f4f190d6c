package interceptors_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// outline writes the kinds, names and titles of a tree, one node a line.
func outline(n turret.Node) string {
	var line strings.Builder
	line.WriteString(n.Kind)
	if n.Name != "" {
		line.WriteString(" (" + n.Name + ")")
	}
	if n.Title != "" && n.Title != n.Kind {
		line.WriteString(": " + n.Title)
	}
	for _, child := range n.Children {
		line.WriteString("\n  " + strings.ReplaceAll(outline(child), "\n", "\n  "))
	}
	return line.String()
}

// figure returns the value of a figure of n, or of what is inside it, added up.
func figure(n turret.Node, kind, name, reason string) float64 {
	sum := 0.0
	for _, f := range n.Figures {
		if n.Kind == kind && f.Name == name && f.Reason == reason {
			sum += f.Value
		}
	}
	for _, child := range n.Children {
		sum += figure(child, kind, name, reason)
	}
	return sum
}

// gateOfOnesOwn is no Describer.
type gateOfOnesOwn struct{ turret.Gate }

func (gateOfOnesOwn) String() string { return "a turnstile" }

func TestStackDescribesItsLayers(t *testing.T) {
	nothing := func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		return inner.Call(ctx, rpc)
	}
	stack := interceptors.New(
		interceptors.Recover(),
		interceptors.Observe(func(context.Context, interceptors.Event) {}),
		interceptors.Trace(trace.Config{}),
		interceptors.InContext(),
		interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, nil }),
		interceptors.ForKind([]interceptors.Kind{interceptors.KindUnary}, interceptors.Timeout(2*time.Second)),
		interceptors.Named("payments", interceptors.Retry(retry.Config{Budget: retry.Unlimited})),
		interceptors.Hedge(hedge.Config{Delay: time.Second, Budget: retry.Unlimited}),
		interceptors.Except("/grpc.health.v1.Health/*",
			interceptors.LoadShed(),
			interceptors.Named("outer", interceptors.Named("inner", interceptors.ConcurrencyLimit(3, limit.Queue{})))),
		interceptors.Buffer(2),
		interceptors.RateLimit(limit.PerSecond(5), limit.Queue{Max: limit.Unbounded, Timeout: time.Second}),
		interceptors.Breaker(breaker.Config{}),
		interceptors.Admit(gateOfOnesOwn{}),
		turret.Wrap(nothing),
	)
	const want = `stack
  recover
  observe
  trace
  in_context: in context
  filter
  for: for unary
    timeout: timeout 2s
  retry (payments): retry 3 attempts
    retry_budget: budget unlimited
  hedge: hedge after 1s
    retry_budget: budget unlimited
  for: except /grpc.health.v1.Health/*
    load_shed: load shed
    concurrency_limit (outer): concurrency limit
  buffer
  rate_limit: rate limit 5 per 1s, burst 5
  breaker
  interceptors_test.gateOfOnesOwn: a turnstile
  *turret.wrapped[*github.com/turret-go/turret/interceptors.RPC,interface {}]`
	n := turret.Describe(stack, 0)
	if got := outline(n); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := json.Marshal(n); err != nil {
		t.Errorf("as JSON: %v", err)
	}
	for _, f := range []struct {
		kind, name string
		want       float64
	}{
		{"timeout", "timeout", 2},
		{"retry", "max_attempts", 3},
		{"retry", "replay_limit", interceptors.DefaultReplayLimit},
		{"concurrency_limit", "max", 3},
		{"rate_limit", "rate", 5},
		{"rate_limit", "queue_timeout", 1},
		{"breaker", "consecutive", 5},
		{"buffer", "max", 2},
	} {
		if got := figure(n, f.kind, f.name, ""); got != f.want {
			t.Errorf("%s of %s is %v, want %v", f.name, f.kind, got, f.want)
		}
	}
}

// What happens to RPCs is counted by the layer where it happens.
func TestLayersCountWhatHappens(t *testing.T) {
	denied := errors.New("not you")
	for name, c := range map[string]struct {
		layer  interceptors.Layer
		err    error // of the handler
		kind   string
		figure string
		reason string
		want   float64
	}{
		"filter":  {interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, denied }), nil, "filter", "rejected", "PERMISSION_DENIED", 1},
		"recover": {interceptors.Recover(func(context.Context, *interceptors.RPC, any, []byte) {}), errPanicking, "recover", "panics", "", 1},
		"limit":   {interceptors.ConcurrencyLimit(0, limit.Queue{}), nil, "concurrency_limit", "refused", "LIMIT_FULL", 1},
		"shed":    {turret.Stack(interceptors.LoadShed(), interceptors.ConcurrencyLimit(0, limit.Queue{})), nil, "load_shed", "refused", "OVERLOADED", 1},
		"retry": {
			interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: time.Nanosecond}}),
			status.Error(codes.Unavailable, "down"), "retry", "retries", "UNAVAILABLE", 2,
		},
		"breaker": {interceptors.Breaker(breaker.Config{Consecutive: 1}), status.Error(codes.Unavailable, "down"), "breaker", "transitions", "open", 1},
	} {
		t.Run(name, func(t *testing.T) {
			stack := interceptors.New(c.layer)
			_ = stack.UnaryClient()(t.Context(), "/a/b", nil, nil, nil, failingWith(c.err))
			if got := figure(turret.Describe(stack, 0), c.kind, c.figure, c.reason); got != c.want {
				t.Errorf("%s %s of %s is %v, want %v", c.figure, c.reason, c.kind, got, c.want)
			}
		})
	}
}

// What turret.Stack made one layer of is described layer by layer.
func TestStackDescribesLayersMadeOne(t *testing.T) {
	common := turret.Stack(interceptors.Recover(), interceptors.LoadShed(), interceptors.Timeout(time.Second), interceptors.InContext())
	stack := interceptors.New(common, interceptors.For("/a/*", common), opaque)
	const layers = "recover\n  load_shed: load shed\n  timeout: timeout 1s\n  in_context: in context"
	want := "stack\n  " + layers + "\n  for: for /a/*\n    " + strings.ReplaceAll(layers, "\n", "\n  ") + "\n  *interceptors_test.opaqueService"
	if got := outline(turret.Describe(stack, 0)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// opaque is a layer that does not embed the inner service.
func opaque(inner interceptors.Service) interceptors.Service { return &opaqueService{inner} }

type opaqueService struct{ inner interceptors.Service }

func (s *opaqueService) Ready(ctx context.Context) error { return s.inner.Ready(ctx) }

func (s *opaqueService) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return s.inner.Call(ctx, rpc)
}

var errPanicking = errors.New("panics")

// failingWith is an invoker that fails with err; with errPanicking it panics.
func failingWith(err error) grpc.UnaryInvoker {
	return func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		if errors.Is(err, errPanicking) {
			panic(err)
		}
		return err
	}
}

// A look at a stack costs a few allocations for each layer.
func TestDescribeAllocations(t *testing.T) {
	stack := interceptors.New(
		interceptors.Timeout(time.Hour), interceptors.LoadShed(), interceptors.ConcurrencyLimit(10, limit.Queue{}),
		interceptors.RateLimit(limit.PerSecond(100), limit.Queue{}), interceptors.Retry(retry.Config{}),
	)
	if n := allocations(func() { turret.Describe(stack, 0) }); n > 50 {
		t.Errorf("%v allocations for five layers, want at most 50", n)
	}
}
