package policy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
)

// around returns a policy with the block in the rule "kept" of Echo, and random
// blocks and rules around it that let every RPC succeed.
func (g *generator) around(side, block string) string {
	client := g.some("timeout: 1h", "stream_timeout: 1h", "attempt_timeout: 59m", "retry: {"+g.some("max_attempts: 4", g.codes(), g.budget())+"}",
		"rate_limit: {requests: 1000000}", "criticality: {}", "hedge: {off: true}", "wait_for_ready: false")
	server := g.some("timeout: 1h", "stream_timeout: 1h", "rate_limit: {requests: 1000000, "+g.scope()+"}", "per_key: {peer_address: true, limit: {max: 1000}}")
	if side == "client" {
		client = block + ", " + client
	} else {
		server = block + ", " + server
	}
	kept := fmt.Sprintf("- {name: kept, why: %q, methods: [\"%s/*\"], client: {%s}, server: {%s}}\n", g.oneOf("a", "b"), echoService, client, server)
	all := fmt.Sprintf("- {name: %s, methods: [\"/*\"], client: {timeout: %s}, server: {limit: {max: 1000}}}\n", g.oneOf("all", "every"), g.oneOf("2h", "3h"))
	shadow := fmt.Sprintf("- {name: try, mode: SHADOW, methods: [\"/*\"], server: {limit: {max: %d}}}\n", 1+g.IntN(2))
	return "rules:\n" + g.oneOf(kept+all, all+kept, kept, shadow+kept)
}

// broken returns a policy that reads well and does not load.
func (g *generator) broken(side string) string {
	return g.oneOf(
		g.around(side, "limit: {max: -1}"),
		g.around(side, "limit: {max: 1, queue: {max: 0}}"),
		g.around(side, "limit: {max: 1}")+"- {name: kept, methods: [\"/*\"], client: {timeout: 1s}}\n",
		g.around(side, "limit: {max: 1}")+"- {name: typo, methods: [\"/turret.echo.v1.EchoService/Unray\"], client: {timeout: 1s}}\n",
		g.around(side, "limit: {max: 1}")+"- {name: twice, methods: [\"/turret.echo.v1.EchoService/*\"], "+side+": {limit: {max: 1}}}\n",
	)
}

// A reloader loads random policies while RPCs run.
type reloader struct {
	*generator
	*world

	t      *testing.T
	side   string
	policy *policy.Policy
	stacks []*interceptors.Stack

	succeeded atomic.Int64
}

// state is all that can be seen of a policy, the state of its limits included.
func (r *reloader) state() string {
	var text strings.Builder
	for _, s := range r.stacks {
		text.WriteString(s.String() + "\n")
	}
	for _, m := range []string{"/Unary", "/BidiStream", "/Other"} {
		text.WriteString(r.policy.Explain(echoService+m).String() + "\n")
	}
	return text.String()
}

// loadBroken loads a policy that does not load, which must change nothing.
func (r *reloader) loadBroken() {
	before, text := r.state(), r.broken(r.side)
	document := parse(r.t, text)
	if _, err := r.policy.Load(document); err == nil {
		r.t.Fatalf("it was loaded:\n%s", text)
	}
	if after := r.state(); after != before {
		r.t.Errorf("a policy that does not load has changed\n%s\nto\n%s", before, after)
	}
}

// callers makes RPCs of all kinds, which take whole milliseconds, until ctx ends.
func (r *reloader) callers(ctx context.Context) (wait func()) {
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := r.call(context.WithoutCancel(ctx), kinds[i%len(kinds)], slow(time.Duration(1+i)*time.Millisecond)); err != nil {
					r.t.Errorf("an RPC failed: %v", err)
					return
				}
				r.succeeded.Add(1)
			}
		})
	}
	return callers.Wait
}

func (r *reloader) run(loads int) {
	ctx, cancel := context.WithCancel(r.t.Context())
	wait := r.callers(ctx)
	defer wait()
	defer cancel()
	time.Sleep(500 * time.Microsecond) // no load at the instant at which an RPC ends
	for range loads {
		limit := 1 + r.IntN(4)
		r.most.Store(0)
		queue := fmt.Sprintf("queue: {max: %d}", 100+r.IntN(3))
		load(r.t, r.policy, r.around(r.side, fmt.Sprintf("limit: {max: %d, %s}", limit, queue)))
		time.Sleep(time.Duration(r.IntN(12)) * time.Millisecond)
		synctest.Wait()
		if most := r.most.Load(); most > int64(limit) {
			r.t.Errorf("an RPC was let in as number %d of a limit of %d", most, limit)
		}
		if r.chance(0.3) {
			r.loadBroken()
		}
	}
}

// Whatever is loaded, a limit that is kept or retuned lets in no RPC above its
// bound, no RPC fails, and a policy that does not load changes nothing.
func TestRandomLoads(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reloader{generator: newGenerator(seed), t: t, side: []string{"client", "server"}[seed%2]}
				r.policy = compile(t, r.around(r.side, "limit: {max: 1, queue: {max: 100}}"), policy.Config{})
				r.stacks = []*interceptors.Stack{interceptors.New(r.policy.Client()), interceptors.New(r.policy.Server())}
				r.world = newWorld(t, r.stacks[0], r.stacks[1])
				r.run(30)
				if r.succeeded.Load() == 0 {
					t.Error("no RPC ran")
				}
			})
		})
	}
}

// Whatever is loaded, an open circuit stays open until its time is over, as long as
// its rule has a breaker.
func TestRandomLoadsForgetNoOpenCircuit(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGenerator(seed)
				p := compile(t, g.around("client", "breaker: {consecutive: 1, open_for: 10h}"), policy.Config{})
				w := newWorld(t, interceptors.New(p.Client()), nil)
				_ = w.call(t.Context(), interceptors.KindUnary, failing(codes.Internal, 0))
				for range 20 {
					load(t, p, g.around("client", "breaker: {"+g.some(fmt.Sprintf("consecutive: %d", 1+g.IntN(9)), "ratio: 0.3", "min_requests: 7", fmt.Sprintf("window: %dms", 10+g.IntN(9999)), "open_for: "+g.ms(9999))+"}"))
					time.Sleep(time.Minute)
					if got := endOf(w.call(t.Context(), kinds[g.IntN(len(kinds))], nil)); got != "Unavailable/CIRCUIT_OPEN" {
						t.Fatalf("an RPC ends with %s\n%s", got, p.Document().Source)
					}
				}
				time.Sleep(20 * time.Hour)
				if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != "OK" {
					t.Errorf("after the open period an RPC ends with %s", got)
				}
			})
		})
	}
}
