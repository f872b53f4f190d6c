package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/turrettest"
)

// A cell is a layer and what it does to an RPC. It holds for every kind on both
// sides: each is a cell of the table.
type cell struct {
	name   string
	layer  func(k interceptors.Kind) interceptors.Layer
	inside func() interceptors.Layer // what the layer needs inside it; may be nil
	only   *place                    // where the cell holds; nil: everywhere

	// effect makes RPCs, and returns what is not as the layer would have it. It
	// is also run without the layer.
	effect func(c *cellRun) error
	// outcomes are those of the RPCs, as they are seen outside the layer.
	outcomes []turret.Outcome
}

// A place is where a stack can be.
type place struct {
	kind interceptors.Kind
	side interceptors.Side
}

// A cellRun is one cell of the table, while it runs.
type cellRun struct {
	*world

	ctx  context.Context //nolint:containedctx // the test's
	kind interceptors.Kind
}

func (c *cellRun) call(plan *echov1.Plan) *rpc { return c.do(c.ctx, c.kind, plan) }

// wants makes an RPC that is to end with this code and reason.
func (c *cellRun) wants(code codes.Code, reason string) error { return c.call(nil).wants(code, reason) }

// bound is short, because over TCP it is waited for.
const bound = 20 * time.Millisecond

var cells = []cell{
	{
		name:     "timeout",
		layer:    func(interceptors.Kind) interceptors.Layer { return interceptors.Timeout(bound) },
		outcomes: []turret.Outcome{turret.Failure},
		effect: func(c *cellRun) error {
			r := c.call(&echov1.Plan{Delay: durationpb.New(time.Hour)})
			if r.took < bound || c.bubble && r.took != bound {
				return fmt.Errorf("took %v, want %v", r.took, bound)
			}
			return r.wants(codes.DeadlineExceeded, "TIMEOUT")
		},
	},
	{
		name:     "concurrency limit",
		layer:    func(interceptors.Kind) interceptors.Layer { return interceptors.ConcurrencyLimit(1, limit.Queue{}) },
		outcomes: []turret.Outcome{turret.Unused, turret.Success, turret.Success},
		effect: func(c *cellRun) error {
			return c.besideAnother(func() error { return c.wants(codes.ResourceExhausted, turret.ReasonLimitFull) })
		},
	},
	{
		name: "rate limit",
		layer: func(interceptors.Kind) interceptors.Layer {
			return interceptors.RateLimit(limit.Rate{N: 1, Per: time.Hour}, limit.Queue{})
		},
		outcomes: []turret.Outcome{turret.Success, turret.Unused},
		effect: func(c *cellRun) error {
			return errors.Join(c.wants(codes.OK, ""), c.wants(codes.ResourceExhausted, turret.ReasonRateLimited))
		},
	},
	{
		name:     "shed",
		layer:    func(interceptors.Kind) interceptors.Layer { return interceptors.LoadShed() },
		inside:   func() interceptors.Layer { return interceptors.ConcurrencyLimit(1, limit.Queue{Max: limit.Unbounded}) },
		outcomes: []turret.Outcome{turret.Unused, turret.Success, turret.Success},
		effect: func(c *cellRun) error {
			return c.besideAnother(func() error { return c.wants(codes.ResourceExhausted, turret.ReasonOverloaded) })
		},
	},
	{
		name:     "buffer",
		layer:    func(interceptors.Kind) interceptors.Layer { return interceptors.Buffer(1) },
		inside:   func() interceptors.Layer { return interceptors.ConcurrencyLimit(1, limit.Queue{}) },
		outcomes: []turret.Outcome{turret.Success, turret.Success},
		effect: func(c *cellRun) error {
			release, err := c.hold(c.ctx, c.kind)
			if err != nil {
				return err
			}
			waits := c.start(c.ctx, c.kind, nil)
			if c.bubble {
				synctest.Wait() // it is in line
			}
			err = release()
			<-waits.done
			return errors.Join(err, waits.wants(codes.OK, ""))
		},
	},
	{
		name: "breaker",
		layer: func(interceptors.Kind) interceptors.Layer {
			return interceptors.Breaker(breaker.Config{Consecutive: 1, Backoff: retry.Backoff{Base: time.Hour}})
		},
		outcomes: []turret.Outcome{turret.Failure, turret.Unused},
		effect: func(c *cellRun) error {
			failed := c.call(&echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Internal), Attempts: 1}})
			return errors.Join(failed.wants(codes.Internal, ""), c.wants(codes.Unavailable, turret.ReasonCircuitOpen))
		},
	},
	{
		name: "recover",
		layer: func(interceptors.Kind) interceptors.Layer {
			return interceptors.Recover(func(context.Context, *interceptors.RPC, any, []byte) {})
		},
		inside: func() interceptors.Layer {
			return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
				_, _ = inner.Call(ctx, rpc)
				panic("a fault")
			})
		},
		outcomes: []turret.Outcome{turret.Failure},
		effect:   func(c *cellRun) error { return c.wants(codes.Internal, "") },
	},
	{
		name:     "filter",
		layer:    func(interceptors.Kind) interceptors.Layer { return interceptors.Filter(onlyAlice) },
		outcomes: []turret.Outcome{turret.Success, turret.Success}, // a server that says no is healthy
		effect: func(c *cellRun) error {
			as := func(who string) *rpc {
				return c.do(metadata.AppendToOutgoingContext(c.ctx, "user", who), c.kind, nil)
			}
			err := as("mallory").wants(codes.PermissionDenied, "")
			if n := c.server.ran.Load(); n > 0 {
				err = errors.Join(err, errors.New("the handler ran"))
			}
			return errors.Join(err, as("alice").wants(codes.OK, ""))
		},
	},
	{
		name: "for",
		layer: func(k interceptors.Kind) interceptors.Layer {
			return interceptors.For(method(k), interceptors.ConcurrencyLimit(0, limit.Queue{}))
		},
		outcomes: []turret.Outcome{turret.Unused, turret.Success},
		effect: func(c *cellRun) error {
			another := kinds[(int(c.kind)+1)%len(kinds)]
			return errors.Join(
				c.wants(codes.ResourceExhausted, turret.ReasonLimitFull),
				c.do(c.ctx, another, nil).wants(codes.OK, ""))
		},
	},
	{
		name: "retry",
		only: &place{interceptors.KindUnary, interceptors.SideClient}, // streams have tests of their own
		layer: func(interceptors.Kind) interceptors.Layer {
			return interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: time.Millisecond}})
		},
		outcomes: []turret.Outcome{turret.Success},
		effect: func(c *cellRun) error {
			return c.call(&echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable), Attempts: 1}}).wants(codes.OK, "")
		},
	},
}

// onlyAlice is a filter, on either side.
func onlyAlice(ctx context.Context, rpc *interceptors.RPC) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if rpc.Side == interceptors.SideClient {
		md, _ = metadata.FromOutgoingContext(ctx)
	}
	if !slices.Equal(md.Get("user"), []string{"alice"}) {
		return nil, errors.New("not alice")
	}
	return ctx, nil
}

// besideAnother runs f while an RPC is inside, and then makes another one.
func (c *cellRun) besideAnother(f func() error) error {
	release, err := c.hold(c.ctx, c.kind)
	if err != nil {
		return err
	}
	err = f()
	return errors.Join(err, release(), c.wants(codes.OK, ""))
}

// run makes a world whose stack, on side s, is a recorder around the layer, and
// runs the cell in it. It returns what is wrong with the effect, and what is
// wrong with the rest: one outcome for each RPC, and nothing left of them.
func (c *cell) run(t *testing.T, k interceptors.Kind, s interceptors.Side, tcp, without bool) (effect, rest error) {
	calls := turrettest.NewRecorder()
	layers := []interceptors.Layer{interceptors.Admit(calls)}
	if !without {
		layers = append(layers, c.layer(k))
	}
	if c.inside != nil {
		layers = append(layers, c.inside())
	}
	of := worldOf{tcp: tcp}
	if s == interceptors.SideClient {
		of.client = interceptors.New(layers...)
	} else {
		of.server = interceptors.New(layers...)
	}
	run := &cellRun{newWorld(t, of), t.Context(), k}
	effect = c.effect(run)
	rest = run.settle()
	if n := calls.Inside(); n > 0 {
		rest = errors.Join(rest, fmt.Errorf("%d calls have not left", n))
	}
	if got := calls.Outcomes(); !slices.Equal(got, c.outcomes) {
		rest = errors.Join(rest, fmt.Errorf("outcomes are %v, want %v", got, c.outcomes))
	}
	return effect, rest
}

// eachCell runs f for every cell of the table.
func eachCell(t *testing.T, f func(t *testing.T, c *cell, k interceptors.Kind, s interceptors.Side)) {
	for _, c := range cells {
		for _, s := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			for _, k := range kinds {
				if c.only == nil || *c.only == (place{k, s}) {
					t.Run(fmt.Sprintf("%s/%v/%v", c.name, s, k), func(t *testing.T) { f(t, &c, k, s) })
				}
			}
		}
	}
}

func TestCells(t *testing.T) {
	eachCell(t, func(t *testing.T, c *cell, k interceptors.Kind, s interceptors.Side) {
		synctest.Test(t, func(t *testing.T) {
			if effect, rest := c.run(t, k, s, false, false); effect != nil || rest != nil {
				t.Error(errors.Join(effect, rest))
			}
		})
	})
}

// Without its layer every cell has to fail: otherwise it shows nothing.
func TestCellsWithoutTheLayer(t *testing.T) {
	eachCell(t, func(t *testing.T, c *cell, k interceptors.Kind, s interceptors.Side) {
		synctest.Test(t, func(t *testing.T) {
			if effect, _ := c.run(t, k, s, false, true); effect == nil {
				t.Error("the cell passes without its layer")
			}
		})
	})
}

func TestCellsOverTCP(t *testing.T) {
	eachCell(t, func(t *testing.T, c *cell, k interceptors.Kind, s interceptors.Side) {
		if effect, rest := c.run(t, k, s, true, false); effect != nil || rest != nil {
			t.Error(errors.Join(effect, rest))
		}
	})
}

// With a Timeout outside of it, no layer on either side keeps a handler that waits
// in RecvMsg or SendMsg beyond the bound, or a place for it.
func TestCellsWithBlockedHandlers(t *testing.T) {
	eachCell(t, func(t *testing.T, c *cell, k interceptors.Kind, s interceptors.Side) {
		if k == interceptors.KindUnary {
			return
		}
		for _, b := range blockedHandlers {
			inBubble(t, b.name, func(t *testing.T) {
				calls := turrettest.NewRecorder()
				layers := []interceptors.Layer{interceptors.Admit(calls), interceptors.Timeout(bound), c.layer(k)}
				if c.name != "recover" && c.inside != nil { // what is inside a Recover panics
					layers = append(layers, c.inside())
				}
				var client, server []interceptors.Layer
				if s == interceptors.SideClient {
					client = layers
				} else {
					server = layers
				}
				p := serveStream(t, k, b.handler, server...)
				ctx := metadata.AppendToOutgoingContext(t.Context(), "user", "alice")
				began := time.Now()
				stream, err := openStreamThrough(ctx, p, client...)
				if err == nil {
					time.Sleep(bound)
					err = drain(stream)
				}
				synctest.Wait()
				if took := time.Since(began); err == nil || took > bound+10*time.Millisecond {
					t.Errorf("the RPC ended after %v with %v", took, err)
				}
				time.Sleep(10 * time.Millisecond) // a handler that sends may be between two messages
				synctest.Wait()
				if n, left := calls.Inside(), rpcGoroutines(true); n > 0 || len(left) > 0 {
					t.Errorf("%d calls have not left, and goroutines of RPCs are left: %v", n, left)
				}
			})
		}
	})
}
