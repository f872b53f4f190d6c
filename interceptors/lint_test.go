package interceptors_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/fakemeter"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/metrics"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// The layers of the stacks below, in short.
var (
	lintUnary    = []interceptors.Kind{interceptors.KindUnary}
	lintSecond   = func() interceptors.Layer { return interceptors.Timeout(time.Second) }
	lintHalf     = func() interceptors.Layer { return interceptors.Timeout(time.Second / 2) }
	lintForUnary = func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ForKind(lintUnary, l...) }
	lintRetry    = func() interceptors.Layer { return interceptors.Retry(retry.Config{}) }
	lintHedge    = func() interceptors.Layer { return interceptors.Hedge(hedge.Config{}) }
	lintLimit    = func() interceptors.Layer { return interceptors.ConcurrencyLimit(10, limit.Queue{}) }
	lintRate     = func() interceptors.Layer { return interceptors.RateLimit(limit.PerSecond(10), limit.Queue{}) }
	lintBreaker  = func() interceptors.Layer { return interceptors.Breaker(breaker.Config{}) }
	lintTrace    = func() interceptors.Layer { return interceptors.Trace(trace.Config{}) }
	lintMetrics  = func() interceptors.Layer {
		return interceptors.Metrics(metrics.New(metrics.Config{MeterProvider: &fakemeter.Provider{}}))
	}
	lintThreshold = interceptors.Threshold
	lintLevels    = func() interceptors.Layer {
		return interceptors.Criticality(interceptors.CriticalityConfig{Methods: map[string]criticality.Level{"/a.B/*": criticality.Sheddable}})
	}
	lintFilter = func() interceptors.Layer {
		return interceptors.Filter(func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) { return ctx, nil })
	}
)

func TestLintFindsMistakes(t *testing.T) {
	const client, server = interceptors.SideClient, interceptors.SideServer
	type layers = []interceptors.Layer
	for _, tt := range []struct {
		check string
		side  interceptors.Side
		wrong layers
		right layers
	}{
		{"no-attempt-timeout", client, layers{lintForUnary(lintSecond()), lintRetry()}, layers{lintForUnary(lintSecond()), lintRetry(), lintForUnary(lintHalf())}},
		{"no-total-timeout", client, layers{lintRetry(), lintForUnary(lintSecond())}, layers{lintForUnary(lintSecond()), lintRetry(), lintForUnary(lintHalf())}},
		{"limit-outside-retry", client, layers{lintLimit(), lintRetry()}, layers{lintRetry(), lintLimit()}},
		{"rate-outside-retry", client, layers{lintRate(), lintRetry()}, layers{lintRetry(), lintRate()}},
		{"breaker-outside-retry", client, layers{lintBreaker(), lintRetry()}, layers{lintRetry(), lintBreaker()}},
		{"shed-of-nothing", server, layers{lintLimit(), interceptors.LoadShed()}, layers{interceptors.LoadShed(), lintLimit()}},
		{
			"shed-outside-for", server,
			layers{interceptors.LoadShed(), interceptors.For("/a.B/*", lintLimit())},
			layers{interceptors.For("/a.B/*", interceptors.LoadShed(), lintLimit())},
		},
		{"timeout-of-streams", server, layers{lintSecond()}, layers{lintForUnary(lintSecond())}},
		{"recover-inside", server, layers{lintLimit(), interceptors.Recover()}, layers{interceptors.Recover(), lintLimit()}},
		{"recover-inside", server, layers{lintFilter(), interceptors.Recover()}, layers{interceptors.Recover(), lintFilter()}},
		{"retry-on-server", server, layers{lintRetry()}, nil},
		{"hedge-on-server", server, layers{lintHedge()}, nil},
		{"retry-in-retry", client, layers{lintRetry(), lintRetry()}, layers{lintRetry()}},
		{"hedge-outside-retry", client, layers{lintHedge(), lintRetry()}, layers{lintRetry(), lintHedge()}},
		{"timeout-not-shorter", client, layers{lintForUnary(lintHalf()), lintRetry(), lintForUnary(lintSecond())}, layers{lintForUnary(lintSecond()), lintRetry(), lintForUnary(lintHalf())}},
		{"metrics-outside-trace", server, layers{lintMetrics(), lintTrace()}, layers{lintTrace(), lintMetrics()}},
		{"metrics-outside-trace", client, layers{lintMetrics(), lintHedge(), lintTrace()}, layers{lintTrace(), lintMetrics(), lintHedge(), lintTrace(), lintMetrics()}},
		{"threshold-on-server", server, layers{lintThreshold()}, nil},
		{"threshold-inside-retry", client, layers{lintRetry(), lintThreshold()}, layers{lintThreshold(), lintRetry()}},
		{"threshold-outside-criticality", client, layers{lintThreshold(), lintLevels()}, layers{lintLevels(), lintThreshold()}},
		{"threshold-outside-criticality", client, layers{lintThreshold(), lintRetry(), lintLevels()}, layers{lintLevels(), lintThreshold(), lintRetry(), lintLevels()}},
		{
			"threshold-outside-criticality", client,
			layers{lintThreshold(), lintLevels()},
			layers{lintThreshold(), interceptors.Criticality(interceptors.CriticalityConfig{})}, // which has no levels of methods
		},
		// The same, where the layers are inside others.
		{"limit-outside-retry", client, layers{interceptors.Named("quota", lintLimit()), lintRetry()}, layers{lintRetry(), interceptors.Named("quota", lintLimit())}},
		{"limit-outside-retry", client, layers{turret.Stack(lintLimit(), lintRetry())}, layers{turret.Stack(lintRetry(), lintLimit())}},
		{
			"limit-outside-retry", client,
			layers{interceptors.For("/a.B/*", lintLimit()), interceptors.For("/a.B/C", lintRetry())},
			layers{interceptors.For("/a.B/*", lintLimit()), interceptors.Except("/a.B/*", lintRetry())},
		},
		{
			"limit-outside-retry", client,
			layers{interceptors.For("/a.B/*", lintLimit(), lintRetry())},
			layers{interceptors.For("/a.B/*", lintLimit()), interceptors.For("/a.C/*", lintRetry())},
		},
		{
			"limit-outside-retry", client,
			layers{lintForUnary(lintLimit()), lintRetry()},
			layers{lintForUnary(lintLimit()), interceptors.ForKind([]interceptors.Kind{interceptors.KindBidiStream}, lintRetry())},
		},
	} {
		t.Run(tt.check, func(t *testing.T) {
			if got := checksOf(interceptors.New(tt.wrong...).Lint(tt.side)); !slices.Equal(got, []string{tt.check}) {
				t.Errorf("the wrong stack has findings %v", got)
			}
			if got := interceptors.New(tt.right...).Lint(tt.side); len(got) > 0 {
				t.Errorf("the right stack has findings %v", got)
			}
		})
	}
}

func checksOf(findings []interceptors.Finding) (names []string) {
	for _, f := range findings {
		names = append(names, f.Check)
	}
	return names
}

func TestLintFindsNothingInRecommendedStacks(t *testing.T) {
	queue := limit.Queue{Max: 50, Timeout: 100 * time.Millisecond}
	tracing := interceptors.Trace(trace.Config{})
	for name, tt := range map[string]struct {
		side   interceptors.Side
		layers []interceptors.Layer
	}{
		"none": {interceptors.SideClient, nil},
		"client": {interceptors.SideClient, []interceptors.Layer{
			lintForUnary(interceptors.Timeout(2 * time.Second)), lintRetry(), lintForUnary(lintHalf()), interceptors.ConcurrencyLimit(100, queue),
		}},
		"server": {interceptors.SideServer, []interceptors.Layer{
			interceptors.Recover(),
			interceptors.Except("/grpc.health.v1.Health/*", interceptors.ConcurrencyLimit(200, queue), lintForUnary(interceptors.Timeout(5*time.Second))),
		}},
		"tracing client": {interceptors.SideClient, []interceptors.Layer{tracing, lintRetry(), tracing}},
		"observing server": {interceptors.SideServer, []interceptors.Layer{
			interceptors.Observe(func(context.Context, interceptors.Event) {}), tracing, interceptors.InContext(), interceptors.Recover(), lintLimit(),
		}},
		"all of a client": {interceptors.SideClient, []interceptors.Layer{
			tracing, lintForUnary(lintSecond()), lintRetry(), interceptors.For("/a.B/Get", lintHedge()), lintBreaker(), lintRate(), lintForUnary(lintHalf()), lintLimit(),
		}},
		"buffer": {interceptors.SideServer, []interceptors.Layer{interceptors.Recover(), interceptors.Buffer(100), lintRate(), lintLimit()}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := interceptors.New(tt.layers...).Lint(tt.side); len(got) > 0 {
				t.Errorf("findings %v", got)
			}
		})
	}
}

// lintRouter sends unary RPCs through one layer and streams through another.
type lintRouter struct {
	interceptors.Service

	unary, stream interceptors.Service
}

func (r lintRouter) Routes(int) []interceptors.Route {
	return []interceptors.Route{
		{Title: "unary", Kinds: lintUnary, Layers: []any{r.unary}},
		{Title: "streams", Kinds: []interceptors.Kind{interceptors.KindBidiStream}, Layers: []any{r.stream}},
	}
}

func TestLintLooksIntoRouters(t *testing.T) {
	routes := func(inner interceptors.Service) interceptors.Service {
		return lintRouter{inner, lintRetry()(inner), lintLimit()(inner)}
	}
	if got := checksOf(interceptors.New(lintLimit(), routes).Lint(interceptors.SideClient)); !slices.Equal(got, []string{"limit-outside-retry"}) {
		t.Errorf("findings %v", got)
	}
	if got := interceptors.New(routes, lintForUnary(lintLimit())).Lint(interceptors.SideClient); len(got) > 0 {
		t.Errorf("findings %v", got)
	}
}

func TestFindingString(t *testing.T) {
	got := interceptors.New(lintRetry()).Lint(interceptors.SideServer)
	if len(got) != 1 || !strings.HasPrefix(got[0].String(), "retry-on-server: retry 3 attempts") {
		t.Errorf("findings %v", got)
	}
}
