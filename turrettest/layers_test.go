package turrettest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/ready"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/shed"
	"github.com/turret-go/turret/timeout"
	"github.com/turret-go/turret/turrettest"
)

type (
	traits  = turrettest.LayerTraits[string, string]
	layer   = turret.Layer[string, string]
	service = turret.Service[string, string]
)

// TestLayersOfTurret runs every layer of the core and of the mechanisms through
// the suite. Requests and results have the numbers of their calls, so that none
// can be taken for another.
func TestLayersOfTurret(t *testing.T) {
	const (
		places = 3
		ms     = time.Millisecond
	)
	plain := func(l layer) func(*testing.T) layer { return func(*testing.T) layer { return l } }
	gate := func(g func() turret.Gate) func(*testing.T) layer {
		return func(*testing.T) layer { return turret.Gated[string, string](g(), nil) }
	}
	tests := map[string]struct {
		make   func(t *testing.T) layer
		traits traits
	}{
		"nothing":          {plain(turret.Stack[string, string]()), traits{}},
		"Wrap":             {plain(turret.Wrap(passOn)), traits{}},
		"MapRequest":       {plain(turret.MapRequest[string](func(s string) string { return "mapped " + s })), traits{Sent: func(n int, req string) bool { return req == "mapped "+request(n) }}},
		"MapResponse":      {plain(turret.MapResponse[string](func(s string) string { return "mapped " + s })), traits{Got: mapped}},
		"MapErr":           {plain(turret.MapErr[string, string](func(err error) error { return fmt.Errorf("mapped: %w", err) })), traits{}},
		"MapResult":        {plain(turret.MapResult[string](func(s string, err error) (string, error) { return "mapped " + s, err })), traits{Got: mapped}},
		"Then":             {plain(turret.Then[string](func(_ context.Context, s string, err error) (string, error) { return "mapped " + s, err })), traits{Got: mapped}},
		"AndThen":          {plain(turret.AndThen[string](func(_ context.Context, s string) (string, error) { return "mapped " + s, nil })), traits{Got: mapped}},
		"Filter":           {plain(turret.Filter[string](func(_ context.Context, s string) (string, error) { return s, nil })), traits{}},
		"Optional":         {plain(turret.Optional[string, string]), traits{}},
		"Steer":            {plain(func(s service) service { return turret.Steer(first, s, echo) }), traits{}},
		"SteerLive":        {plain(func(s service) service { return turret.SteerLive(first, s) }), traits{}},
		"Gated, recorder":  {gate(func() turret.Gate { return turrettest.NewRecorder() }), traits{}},
		"Gated, limit":     {gate(func() turret.Gate { return limit.NewConcurrency(places, limit.Queue{}) }), traits{}},
		"Gated, line":      {gate(func() turret.Gate { return limit.NewConcurrency(places, limit.Queue{Max: limit.Unbounded}) }), traits{}},
		"Gated, rate":      {gate(func() turret.Gate { return limit.NewTokenBucket(limit.PerSecond(places), limit.Queue{}) }), traits{}},
		"Gated, rate line": {gate(func() turret.Gate { return limit.NewTokenBucket(limit.PerSecond(places), limit.Queue{Max: 9}) }), traits{}},
		"Gated, breaker":   {gate(func() turret.Gate { return breaker.New(breaker.Config{}) }), traits{}},
		"timeout":          {func(*testing.T) layer { return timeout.Layer[string, string](time.Minute) }, traits{}},
		"retry":            {func(*testing.T) layer { return retry.Layer[string, string](retry.Config{Budget: retry.Unlimited}) }, traits{Repeats: true}},
		"hedge": {func(*testing.T) layer {
			return hedge.Layer[string, string](hedge.Config{Delay: 50 * ms, MaxHedges: 3, Budget: retry.Unlimited})
		}, traits{Repeats: true}},
		"shed":   {func(*testing.T) layer { return shed.Layer[string, string]() }, traits{OwnReady: true}},
		"buffer": {func(*testing.T) layer { return buffer.Layer[string, string](places) }, traits{OwnReady: true}},
		"Spawn": {func(t *testing.T) layer {
			return func(s service) service {
				spawned := ready.Spawn(s)
				t.Cleanup(spawned.Close)
				return spawned
			}
		}, traits{}},
		"a stack": {func(*testing.T) layer {
			return turret.Stack(
				timeout.Layer[string, string](time.Minute),
				retry.Layer[string, string](retry.Config{MaxAttempts: 2}),
				hedge.Layer[string, string](hedge.Config{Delay: 50 * ms, Budget: retry.Unlimited}),
				turret.Gated[string, string](breaker.New(breaker.Config{}), nil),
				turret.Gated[string, string](limit.NewConcurrency(2*places, limit.Queue{Max: 1}), nil),
			)
		}, traits{Repeats: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.traits.Request, tt.traits.Response = request, response
			turrettest.TestLayer(t, tt.make, tt.traits)
		})
	}
}

func request(n int) string  { return fmt.Sprint("request ", n) }
func response(n int) string { return fmt.Sprint("response ", n) }

// mapped reports whether res is what the layers above make of a response.
func mapped(n int, res string) bool { return res == "mapped "+response(n) }

func passOn(ctx context.Context, req string, inner service) (string, error) {
	return inner.Call(ctx, req)
}

func first(context.Context, string, []service) int { return 0 }

var echo = turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return req, nil })
