package interceptors_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/throttle"
	"github.com/turret-go/turret/trace"
	"github.com/turret-go/turret/turrettest"
)

// TestLayersKeepTheContract runs the layers of this package, around a service
// that is no RPC, through the suite for all layers.
func TestLayersKeepTheContract(t *testing.T) {
	type traits = turrettest.LayerTraits[*interceptors.RPC, any]
	const places = 3
	tests := map[string]struct {
		make   func() interceptors.Layer
		traits traits
	}{
		"Timeout": {func() interceptors.Layer { return interceptors.Timeout(time.Minute) }, traits{}},
		"Retry":   {func() interceptors.Layer { return interceptors.Retry(retry.Config{Budget: retry.Unlimited}) }, traits{Repeats: true}},
		"Hedge": {func() interceptors.Layer {
			return interceptors.Hedge(hedge.Config{Delay: 50 * time.Millisecond, Budget: retry.Unlimited})
		}, traits{Repeats: true}},
		"ConcurrencyLimit": {func() interceptors.Layer { return interceptors.ConcurrencyLimit(places, limit.Queue{Max: 1}) }, traits{}},
		"RateLimit":        {func() interceptors.Layer { return interceptors.RateLimit(limit.PerSecond(places), limit.Queue{}) }, traits{}},
		"Breaker":          {func() interceptors.Layer { return interceptors.Breaker(breaker.Config{}) }, traits{}},
		"Admit":            {func() interceptors.Layer { return interceptors.Admit(turrettest.NewRecorder()) }, traits{}},
		"LoadShed":         {interceptors.LoadShed, traits{OwnReady: true}},
		"Buffer":           {func() interceptors.Layer { return interceptors.Buffer(places) }, traits{OwnReady: true}},
		"Trace":            {func() interceptors.Layer { return interceptors.Trace(trace.Config{}) }, traits{}},
		"Observe":          {func() interceptors.Layer { return interceptors.Observe(func(context.Context, interceptors.Event) {}) }, traits{}},
		"Recover": {func() interceptors.Layer {
			return interceptors.Recover(func(context.Context, *interceptors.RPC, any, []byte) {})
		}, traits{Recovers: true}},
		"Filter": {func() interceptors.Layer {
			return interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, nil }) //nolint:nilnil // keeps the context
		}, traits{}},
		"For": {func() interceptors.Layer { return interceptors.For("/*", interceptors.Timeout(time.Minute)) }, traits{OwnReady: true}},
		"Named": {func() interceptors.Layer {
			return interceptors.Named("tenants", interceptors.Admit(turrettest.NewRecorder()))
		}, traits{}},
		"InContext": {interceptors.InContext, traits{}},
		"AdaptiveLimit": {func() interceptors.Layer {
			return interceptors.AdaptiveLimit(adaptive.Config{Min: places, Max: places})
		}, traits{}},
		"Throttle":    {func() interceptors.Layer { return interceptors.Throttle(throttle.Config{}) }, traits{}},
		"Threshold":   {interceptors.Threshold, traits{}},
		"Criticality": {func() interceptors.Layer { return interceptors.Criticality(interceptors.CriticalityConfig{}) }, traits{}},
		"PerKey": {func() interceptors.Layer {
			return interceptors.PerKey(func(context.Context, *interceptors.RPC) string { return "one" }, limit.KeyedConfig{})
		}, traits{}},
	}
	for name, tt := range tests {
		for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			if side == interceptors.SideClient && tt.traits.Repeats {
				continue
			}
			t.Run(fmt.Sprint(name, " ", side), func(t *testing.T) {
				t.Parallel()
				traits := tt.traits // the other side's runs at the same time
				traits.Request = func(n int) *interceptors.RPC {
					return &interceptors.RPC{Method: fmt.Sprint("/s/", n), Kind: interceptors.KindUnary, Side: side, Request: n}
				}
				traits.Response = func(n int) any { return n }
				traits.Sent = func(n int, rpc *interceptors.RPC) bool { return rpc.Request == n && rpc.Side == side }
				turrettest.TestLayer(t, func(*testing.T) interceptors.Layer { return tt.make() }, traits)
			})
		}
	}
}
