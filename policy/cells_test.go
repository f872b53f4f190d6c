package policy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/policy"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/throttle"
)

// A cell is a block of a policy, the same as a layer that is written by hand, and
// a script that shows what it does.
type cell struct {
	name   string
	block  string
	rule   string // further lines of the rule
	layer  func() interceptors.Layer
	server func() interceptors.Layer // of the other side of a client; may be nil
	sides  []interceptors.Side
	kinds  []interceptors.Kind
	script func(c *cellRun)
}

// A cellRun is a world in which a script runs.
type cellRun struct {
	*world
	transcript

	ctx  context.Context //nolint:containedctx // of one test
	kind interceptors.Kind
}

// do makes an RPC and writes down how it went.
func (c *cellRun) do(plan *echov1.Plan) {
	before, start := c.ran.Load(), time.Now()
	err := c.call(c.ctx, c.kind, plan)
	took := time.Since(start)
	synctest.Wait()
	c.say("%s after %v, handlers run %d", endOf(err), took, c.ran.Load()-before)
}

func failing(code codes.Code, attempts int32) *echov1.Plan {
	return &echov1.Plan{Failure: &echov1.Failure{Code: int32(code), Attempts: attempts}}
}

var (
	bothSides   = []interceptors.Side{interceptors.SideClient, interceptors.SideServer}
	serverSide  = []interceptors.Side{interceptors.SideServer}
	clientSide  = []interceptors.Side{interceptors.SideClient}
	unary       = []interceptors.Kind{interceptors.KindUnary}
	streamKinds = kinds[1:]
)

func slowScript(c *cellRun) {
	c.do(nil)
	c.do(slow(90 * time.Millisecond))
	c.do(slow(time.Hour))
}

func limitScript(c *cellRun) {
	release := c.hold(c.ctx, c.kind)
	c.do(nil)
	c.say("held: %s", endOf(release()))
	c.do(nil)
}

func failingScript(c *cellRun) {
	for range 3 {
		c.do(failing(codes.Unavailable, 1))
	}
	c.do(failing(codes.Unavailable, 0))
	c.do(failing(codes.Internal, 0))
	c.do(nil)
}

func rateScript(c *cellRun) {
	for range 4 {
		c.do(nil)
	}
	time.Sleep(time.Second)
	c.do(nil)
}

func wrapped(layer func() interceptors.Layer, kinds ...interceptors.Kind) func() interceptors.Layer {
	return func() interceptors.Layer { return interceptors.ForKind(kinds, layer()) }
}

var cells = []cell{
	{
		name: "timeout", block: "timeout: 100ms", sides: bothSides, kinds: kinds, script: slowScript,
		layer: wrapped(func() interceptors.Layer { return interceptors.Timeout(100 * time.Millisecond) }, unary...),
	},
	{
		name: "stream_timeout", block: "stream_timeout: 100ms", sides: bothSides, kinds: kinds, script: slowScript,
		layer: wrapped(func() interceptors.Layer { return interceptors.Timeout(100 * time.Millisecond) }, streamKinds...),
	},
	{
		name: "attempt_timeout", block: "attempt_timeout: 100ms", sides: clientSide, kinds: kinds, script: slowScript,
		layer: wrapped(func() interceptors.Layer { return interceptors.Timeout(100 * time.Millisecond) }, unary...),
	},
	{
		name: "retry", block: "retry: {max_attempts: 3, backoff: {base: 10ms, jitter: 0}}", rule: "idempotency: IDEMPOTENT",
		sides: clientSide, kinds: kinds, script: failingScript,
		layer: func() interceptors.Layer {
			return interceptors.Retry(retry.Config{MaxAttempts: 3, Backoff: retry.Backoff{Base: 10 * time.Millisecond, Jitter: -1}})
		},
	},
	{
		name: "retry codes", block: "retry: {max_attempts: 2, codes: [INTERNAL, UNAVAILABLE], resend: ALWAYS, backoff: {base: 10ms, jitter: 0}, budget: {ratio: 0.1, min_per_second: 1, window: 1s}}",
		sides: clientSide, kinds: kinds, script: failingScript,
		layer: func() interceptors.Layer {
			return interceptors.Retry(retry.Config{
				MaxAttempts: 2, Backoff: retry.Backoff{Base: 10 * time.Millisecond, Jitter: -1},
				Retryable: interceptors.RetryCodes(codes.Internal, codes.Unavailable),
				Budget:    retry.NewBudget(retry.BudgetConfig{Ratio: 0.1, MinPerSecond: 1, Window: time.Second}),
			})
		},
	},
	{
		name: "retry after equal waits", block: "retry: {max_attempts: 4, backoff: {base: 10ms, max: 1s, jitter: 0, multiplier: 1}}", rule: "idempotency: IDEMPOTENT",
		sides: clientSide, kinds: kinds, script: failingScript,
		layer: func() interceptors.Layer {
			return interceptors.Retry(retry.Config{MaxAttempts: 4, Backoff: retry.Backoff{Base: 10 * time.Millisecond, Max: 10 * time.Millisecond, Jitter: -1}})
		},
	},
	{
		name: "hedge", block: "hedge: {delay: 30ms, budget: {ratio: 1}}", rule: "idempotency: NO_SIDE_EFFECTS",
		sides: clientSide, kinds: kinds, script: func(c *cellRun) {
			c.do(nil)
			c.do(slow(90 * time.Millisecond))
			c.do(slow(90 * time.Millisecond))
		},
		layer: func() interceptors.Layer {
			return interceptors.Hedge(hedge.Config{Delay: 30 * time.Millisecond, Budget: retry.NewBudget(retry.BudgetConfig{Ratio: 1, MinPerSecond: -1})})
		},
	},
	{
		name: "limit", block: "limit: {max: 1}", sides: bothSides, kinds: kinds, script: limitScript,
		layer: func() interceptors.Layer { return interceptors.ConcurrencyLimit(1, limit.Queue{}) },
	},
	{
		name: "limit with a queue", block: "limit: {max: 1, queue: {max: 1, timeout: 50ms}}", sides: bothSides, kinds: kinds, script: limitScript,
		layer: func() interceptors.Layer {
			return interceptors.ConcurrencyLimit(1, limit.Queue{Max: 1, Timeout: 50 * time.Millisecond})
		},
	},
	{
		name: "rate_limit", block: "rate_limit: {requests: 2}", sides: bothSides, kinds: kinds, script: rateScript,
		layer: func() interceptors.Layer { return interceptors.RateLimit(limit.PerSecond(2), limit.Queue{}) },
	},
	{
		name: "rate_limit with a queue", block: "rate_limit: {requests: 10, burst: 1, queue: {max: 5}}", sides: bothSides, kinds: kinds, script: rateScript,
		layer: func() interceptors.Layer {
			return interceptors.RateLimit(limit.Rate{N: 10, Per: time.Second, Burst: 1}, limit.Queue{Max: 5})
		},
	},
	{
		name: "breaker", block: "breaker: {consecutive: 2, open_for: 1h}", sides: clientSide, kinds: kinds,
		script: func(c *cellRun) {
			for range 4 {
				c.do(failing(codes.Internal, 0))
			}
			time.Sleep(time.Hour)
			c.do(nil)
			c.do(nil)
		},
		layer: func() interceptors.Layer {
			return interceptors.Breaker(breaker.Config{Consecutive: 2, Backoff: retry.Backoff{Base: time.Hour}})
		},
	},
	{
		name: "adaptive_limit", block: "adaptive_limit: {min: 1, initial: 1, max: 1}", sides: serverSide, kinds: kinds, script: limitScript,
		layer: func() interceptors.Layer { return interceptors.AdaptiveLimit(adaptive.Config{Max: 1}) },
	},
	{
		name: "per_key", block: "per_key: {metadata: x-tenant, limit: {max: 1}, rate_limit: {requests: 5, per: 1h}}", sides: serverSide, kinds: kinds,
		script: func(c *cellRun) {
			as := func(tenant string) context.Context {
				return metadata.AppendToOutgoingContext(c.ctx, "x-tenant", tenant)
			}
			release := c.hold(as("a"), c.kind)
			for range 5 {
				c.say("a %s, b %s", endOf(c.call(as("a"), c.kind, nil)), endOf(c.call(as("b"), c.kind, nil)))
			}
			_ = release()
			c.say("a %s, b %s", endOf(c.call(as("a"), c.kind, nil)), endOf(c.call(as("b"), c.kind, nil)))
		},
		layer: func() interceptors.Layer {
			key := func(ctx context.Context, _ *interceptors.RPC) string {
				return strings.Join(metadata.ValueFromIncomingContext(ctx, "x-tenant"), "")
			}
			return turret.Stack(
				interceptors.PerKey(key, limit.KeyedConfig{New: func(string) turret.Gate {
					return limit.NewTokenBucket(limit.Rate{N: 5, Per: time.Hour}, limit.Queue{})
				}}),
				interceptors.PerKey(key, limit.KeyedConfig{New: func(string) turret.Gate { return limit.NewConcurrency(1, limit.Queue{}) }}),
			)
		},
	},
	{
		name: "throttle", block: "throttle: {ratio: 1.1, window: 10s}", sides: clientSide, kinds: kinds,
		script: func(c *cellRun) {
			refused := 0
			for range 200 {
				if err := c.call(c.ctx, c.kind, failing(codes.ResourceExhausted, 0)); endOf(err) == "ResourceExhausted/THROTTLED" {
					refused++
				}
			}
			c.say("throttled: %v", refused > 100) // chance decides how many
		},
		layer: func() interceptors.Layer {
			return interceptors.Throttle(throttle.Config{K: 1.1, Window: 10 * time.Second})
		},
	},
	{
		name: "threshold", block: "threshold: {}", sides: clientSide, kinds: kinds,
		script: func(c *cellRun) {
			c.learns(c.ctx, c.kind)
			for _, level := range []criticality.Level{criticality.CriticalPlus, criticality.Critical, criticality.SheddablePlus, criticality.Sheddable} {
				c.say("%v: %s", level, endOf(c.call(criticality.With(c.ctx, level), c.kind, nil)))
			}
			time.Sleep(time.Second) // after which all are wanted
			c.say("%s", endOf(c.call(criticality.With(c.ctx, criticality.Sheddable), c.kind, nil)))
		},
		layer:  interceptors.Threshold,
		server: func() interceptors.Layer { return announces("2", "/*") },
	},
	{
		name: "criticality", block: "criticality: {level: SHEDDABLE}", sides: bothSides, kinds: kinds,
		script: func(c *cellRun) {
			c.do(nil)
			c.say("levels: %v", c.levels())
		},
		layer: func() interceptors.Layer {
			return interceptors.Criticality(interceptors.CriticalityConfig{Methods: map[string]criticality.Level{"/*": criticality.Sheddable}})
		},
	},
}

// otherSide returns the stack of the server of a client.
func (c *cell) otherSide() *interceptors.Stack {
	if c.server == nil {
		return nil
	}
	return interceptors.New(c.server())
}

// run runs the script of a cell through a stack, and returns what it saw.
func (c *cell) run(t *testing.T, s interceptors.Side, k interceptors.Kind, layer func() interceptors.Layer) (seen string) {
	synctest.Test(t, func(t *testing.T) {
		run := &cellRun{ctx: t.Context(), kind: k}
		stack := interceptors.New(layer())
		if s == interceptors.SideClient {
			run.world = newWorld(t, stack, c.otherSide())
		} else {
			run.world = newWorld(t, nil, stack)
		}
		c.script(run)
		run.pair.Stop()
		seen = run.String()
	})
	return seen
}

func (c *cell) policy(t *testing.T, s interceptors.Side) *policy.Policy {
	return compile(t, fmt.Sprintf("rules:\n- name: r\n  methods: [\"%s/*\"]\n  %s\n  %v: {%s}\n", echoService, c.rule, s, c.block), policy.Config{})
}

// A policy must do what the same stack does that is written by hand.
func TestPolicyIsTheStackByHand(t *testing.T) {
	for _, c := range cells {
		for _, s := range c.sides {
			for _, k := range c.kinds {
				t.Run(fmt.Sprintf("%s/%v/%v", c.name, s, k), func(t *testing.T) {
					byHand := c.run(t, s, k, func() interceptors.Layer { return interceptors.Named("r", c.layer()) })
					p := c.policy(t, s)
					layer := p.Client
					if s == interceptors.SideServer {
						layer = p.Server
					}
					if got := c.run(t, s, k, layer); got != byHand {
						t.Errorf("the policy did\n%sand the stack by hand\n%s", got, byHand)
					}
				})
			}
		}
	}
}

// Each cell must show its layer on some kind of RPC: without it, it ends
// otherwise.
func TestCellsShowTheirLayer(t *testing.T) {
	for _, c := range cells {
		for _, s := range c.sides {
			t.Run(fmt.Sprintf("%s/%v", c.name, s), func(t *testing.T) {
				shown := slices.ContainsFunc(c.kinds, func(k interceptors.Kind) bool {
					return c.run(t, s, k, func() interceptors.Layer { return nil }) != c.run(t, s, k, c.layer)
				})
				if !shown {
					t.Error("the script sees nothing of the layer")
				}
			})
		}
	}
}
