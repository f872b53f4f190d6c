// Package limiters has the limits that adaptive.Limit is compared with: none, fixed
// ones, those of failsafe-go, kratos and go-zero as their modules have them, and
// Vegas, Gradient2 and Envoy's gradient controller, written after their published
// algorithms.
package limiters

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/test/experiments/surge"
)

// Names of limits that tables and checks name.
const (
	Ours    = "AdaptiveLimit"
	Keyed   = "AdaptiveLimit by tenant"
	Nothing = "nothing"
	Tight   = "fixed 1.5x"
	Loose   = "fixed 10x"
)

// All returns the limits in the order of the tables.
func All() []*surge.Limit {
	return []*surge.Limit{
		ours(Ours, nil),
		ours(Keyed, func(ctx context.Context) string { tenant, _ := ctx.Value(tenantKey{}).(string); return tenant }),
		{Name: Nothing, Door: func(surge.Scenario, func() time.Duration) surge.Door { return door(nothing) }},
		{Name: Tight, Streams: surge.Hold, Door: fixed(1.5)},
		{Name: Loose, Streams: surge.Hold, Door: fixed(10)},
		{Name: "Netflix Vegas", Door: estimated(func(seed uint64) estimator { return newVegas(seed) })},
		{Name: "Netflix Vegas (windows)", Door: estimated(func(seed uint64) estimator { return &windows{inner: newVegas(seed)} })},
		{Name: "Netflix Gradient2", Door: estimated(func(uint64) estimator { return newGradient2() })},
		{Name: "Netflix Gradient2 (windows)", Door: estimated(func(uint64) estimator { return &windows{inner: newGradient2()} })},
		{Name: "Envoy gradient", Streams: surge.Hold, Door: func(surge.Scenario, func() time.Duration) surge.Door { return newEnvoy() }},
		{Name: "failsafe-go limiter", Door: failsafeLimiter},
		{Name: "failsafe-go limiter (queue)", Door: failsafeQueue},
		{Name: "failsafe-go limiter (priorities)", Door: failsafePriorities},
		{Name: "failsafe-go throttler", Door: failsafeThrottler},
		{Name: "kratos bbr", Door: kratos()},
		{Name: "kratos bbr (always on)", Door: kratosAlways},
		{Name: "go-zero shedder", Door: goZero(false)},
		{Name: "go-zero shedder (always on)", Door: goZero(true)},
	}
}

// door is a function that is a [surge.Door].
type door func(ctx context.Context, c *surge.Call) (func(turret.Outcome), error)

func (d door) Enter(ctx context.Context, c *surge.Call) (func(turret.Outcome), error) {
	return d(ctx, c)
}

func nothing(context.Context, *surge.Call) (func(turret.Outcome), error) {
	return func(turret.Outcome) {}, nil
}

var errFull = errors.New("full")

// gate is a gate of Turret as a door.
func gate(g turret.Gate, with func(ctx context.Context, c *surge.Call) context.Context) surge.Door {
	return door(func(ctx context.Context, c *surge.Call) (func(turret.Outcome), error) {
		ticket, err := g.Enter(with(ctx, c))
		if err != nil {
			return nil, err
		}
		return func(o turret.Outcome) { g.Leave(ticket, o) }, nil
	})
}

// fixed is a limit of a multiple of what suffices, without a line.
func fixed(multiple float64) func(surge.Scenario, func() time.Duration) surge.Door {
	return func(sc surge.Scenario, _ func() time.Duration) surge.Door {
		g := limit.NewConcurrency(int(multiple*float64(sc.Room)), limit.Queue{})
		return gate(g, func(ctx context.Context, _ *surge.Call) context.Context { return ctx })
	}
}

type tenantKey struct{}

// ours is AdaptiveLimit. Over gRPC it is installed as users install it.
func ours(name string, key func(ctx context.Context) string) *surge.Limit {
	config := func(sc surge.Scenario) adaptive.Config { return adaptive.Config{Start: sc.Start, Key: key} }
	return &surge.Limit{
		Name: name, Streams: surge.Turn,
		Door: func(sc surge.Scenario, _ func() time.Duration) surge.Door {
			return gate(adaptive.New(config(sc)), func(ctx context.Context, c *surge.Call) context.Context {
				if key != nil {
					ctx = context.WithValue(ctx, tenantKey{}, string(rune('a'+c.Tenant)))
				}
				return criticality.With(ctx, criticality.CriticalPlus+criticality.Level(c.Level))
			})
		},
		Options: func(sc surge.Scenario) []grpc.ServerOption {
			allow := func(context.Context, *interceptors.RPC) criticality.Level { return criticality.CriticalPlus }
			return interceptors.New(
				interceptors.Recover(),
				interceptors.Criticality(interceptors.CriticalityConfig{Allow: allow}),
				interceptors.AdaptiveLimit(config(sc)),
			).ServerOptions()
		},
	}
}
