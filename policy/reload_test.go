package policy_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

func rules(blocks ...string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i, block := range blocks {
		pattern := "/*"
		if i > 0 {
			pattern = echoService + "/*"
		}
		fmt.Fprintf(&b, "- {name: r%d, methods: [\"%s\"], %s}\n", i, pattern, block)
	}
	return b.String()
}

func TestFatesOfBlocks(t *testing.T) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"nothing", "client: {limit: {max: 3}}", "why: x, client: {limit: {max: 3}}", "kept 1"},
		{"another block", "client: {limit: {max: 3}}", "client: {limit: {max: 3}, timeout: 1s}", "made r0 client.timeout: 1s\nkept 1"},
		{"max of a limit", "client: {limit: {max: 3}}", "client: {limit: {max: 4}}", "retuned r0 client.limit: {max: 3} -> {max: 4}\nkept 0"},
		{"queue of a limit", "client: {limit: {max: 3}}", "client: {limit: {max: 3, queue: {max: 1}}}", "retuned r0 client.limit: {max: 3} -> {max: 3, queue: {max: 1}}\nkept 0"},
		{"scope of a limit", "client: {limit: {max: 3}}", "client: {limit: {max: 3, scope: METHOD}}", "renewed r0 client.limit: {max: 3} -> {max: 3, scope: METHOD}\nkept 0"},
		{"rate", "server: {rate_limit: {requests: 3}}", "server: {rate_limit: {requests: 4, per: 2s, burst: 1}}", "retuned r0 server.rate_limit: {requests: 3} -> {requests: 4, per: 2s, burst: 1}\nkept 0"},
		{"breaker", "client: {breaker: {}}", "client: {breaker: {consecutive: 9, ratio: 0.1, open_for: 2s}}", "retuned r0 client.breaker: {} -> {consecutive: 9, ratio: 0.1, open_for: 2s}\nkept 0"},
		{"window of a breaker", "client: {breaker: {}}", "client: {breaker: {window: 1s}}", "retuned r0 client.breaker: {} -> {window: 1s}\nkept 0"},
		{"retry and its budget", "client: {retry: {}}", "client: {retry: {max_attempts: 4, budget: {ratio: 0.1}}}", "retuned r0 client.retry: {} -> {max_attempts: 4, budget: {ratio: 0.1}}\nkept 0"},
		{"timeout", "client: {timeout: 1s}", "client: {timeout: 2s}", "retuned r0 client.timeout: 1s -> 2s\nkept 0"},
		{"threshold", "client: {threshold: {}}", "client: {threshold: {}, timeout: 1s}", "made r0 client.timeout: 1s\nkept 1"},
		{"scope of a threshold", "client: {threshold: {}}", "client: {threshold: {scope: METHOD}}", "renewed r0 client.threshold: {} -> {scope: METHOD}\nkept 0"},
		{"switched off", "client: {limit: {max: 3}}", "client: {limit: {off: true}}", "dropped r0 client.limit: {max: 3}\nkept 0"},
		{"to shadow", "client: {limit: {max: 3}}", "mode: SHADOW, client: {limit: {max: 3}}", "dropped r0 client.limit: {max: 3}\nmade r0 client.limit (shadow): {max: 3}\nkept 0"},
		{"mode off", "client: {limit: {max: 3}}", "mode: OFF, client: {limit: {max: 3}}", "dropped r0 client.limit: {max: 3}\nkept 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := compile(t, rules(tt.from), policy.Config{})
			_ = interceptors.New(p.Client(), p.Server())
			diff, err := p.Diff(parse(t, rules(tt.to)))
			if err != nil {
				t.Fatal(err)
			}
			if got := load(t, p, rules(tt.to)).String(); got != tt.want || diff.String() != tt.want {
				t.Errorf("Load says\n%s\nDiff\n%s\nwant\n%s", got, diff, tt.want)
			}
			back := load(t, p, rules(tt.to))
			if len(back.Changed) > 0 {
				t.Errorf("the same policy again changes %v", back)
			}
		})
	}
}

// A stream keeps its place in a limit that is kept or retuned, on both sides.
func TestStreamKeepsItsPlaceInALimit(t *testing.T) {
	for _, side := range []string{"client", "server"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := compile(t, rules(side+": {limit: {max: 1}}"), policy.Config{})
				w := newWorld(t, interceptors.New(p.Client()), interceptors.New(p.Server()))
				release := w.hold(t.Context(), interceptors.KindBidiStream)
				for i, to := range []struct{ text, want string }{
					{rules(side + ": {limit: {max: 1}, timeout: 1h}"), "ResourceExhausted/LIMIT_FULL"},
					{rules(side + ": {limit: {max: 2}}"), "OK"},
					{rules(side + ": {limit: {max: 1, queue: {max: 1, timeout: 1s}}}"), "ResourceExhausted/QUEUE_TIMEOUT"},
				} {
					load(t, p, to.text)
					if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != to.want {
						t.Errorf("after load %d an RPC ends with %s, want %s", i, got, to.want)
					}
				}
				_ = release()
				if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != "OK" {
					t.Errorf("after the stream an RPC ends with %s", got)
				}
			})
		})
	}
}

func TestOpenBreakerStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := compile(t, rules("client: {breaker: {consecutive: 1, open_for: 1h}}"), policy.Config{})
		w := newWorld(t, interceptors.New(p.Client()), nil)
		_ = w.call(t.Context(), interceptors.KindUnary, failing(codes.Internal, 0))
		for _, text := range []string{
			rules("client: {breaker: {consecutive: 1, open_for: 1h}, timeout: 1s}"),
			rules("client: {breaker: {consecutive: 1, open_for: 1h, window: 7s}}"),
			rules("client: {breaker: {consecutive: 7, min_requests: 3, open_for: 2h}, limit: {max: 3}}"),
		} {
			load(t, p, text)
			if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != "Unavailable/CIRCUIT_OPEN" {
				t.Errorf("an RPC ends with %s", got)
			}
		}
	})
}

func TestAPolicyWithErrorsChangesNothing(t *testing.T) {
	p := compile(t, rules("client: {limit: {max: 3}}"), policy.Config{})
	before := p.Explain(echoService + "/Unary").String()
	bad := parse(t, rules("client: {limit: {max: -3}, timeout: 1s}"))
	if _, err := p.Load(bad); err == nil {
		t.Fatal("it was loaded")
	}
	if after := p.Explain(echoService + "/Unary").String(); after != before {
		t.Errorf("it is now\n%s\nand was\n%s", after, before)
	}
	if _, err := p.Load(policy.Document{}); err == nil {
		t.Error("an empty document was loaded")
	}
}

// Policies are loaded while RPCs of all kinds run: none fails, and the limits, which
// move between 2 and 4, never let more in.
func TestLoadUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := func(i int) string {
			n := 2 + i%3
			return rules(fmt.Sprintf("client: {limit: {max: %d, queue: {max: %d}}, timeout: %ds, retry: {}}, server: {limit: {max: %d, queue: {max: 100}}}", n, 100+i%2, 100+i%5, n))
		}
		p := compile(t, text(0), policy.Config{})
		w := newWorld(t, interceptors.New(p.Client()), interceptors.New(p.Server()))
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		var calls [8]int
		for i := range calls {
			callers.Go(func() {
				for ctx.Err() == nil {
					if err := w.call(context.WithoutCancel(ctx), kinds[i%len(kinds)], slow(3*time.Millisecond)); err != nil {
						t.Errorf("an RPC failed: %v", err)
						return
					}
					calls[i]++
				}
			})
		}
		for i := range loadsUnderLoad {
			load(t, p, text(i))
			time.Sleep(time.Millisecond)
		}
		cancel()
		callers.Wait()
		if most := w.most.Load(); most > 4 {
			t.Errorf("%d RPCs were inside at a time, of 4", most)
		}
		for i, n := range calls {
			if n == 0 {
				t.Errorf("caller %d made no call", i)
			}
		}
	})
}

// A tracked is a layer of which a test knows how many there are.
type tracked struct{ interceptors.Service }

func (s *tracked) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	defer runtime.KeepAlive(s)
	return s.Service.Call(ctx, rpc)
}

// A census counts the layers that it has made and that have not been collected.
type census struct{ made []weak.Pointer[tracked] }

func (c *census) layer(inner interceptors.Service) interceptors.Service {
	made := &tracked{inner}
	c.made = append(c.made, weak.Make(made))
	return made
}

// alive counts after what pools and finalizers hold is gone too.
func (c *census) alive() int {
	for range 3 {
		runtime.GC()
	}
	c.made = slices.DeleteFunc(c.made, func(p weak.Pointer[tracked]) bool { return p.Value() == nil })
	return len(c.made)
}

// atMost collects until there are at most n, or no more go: a stopped goroutine may
// hold a pointer for a while that it does not use any more. It returns how many
// there are.
func (c *census) atMost(n int) int {
	alive := c.alive()
	for range 100 {
		if alive <= n {
			break
		}
		runtime.Gosched()
		alive = c.alive()
	}
	return alive
}

// Layers of policies that were replaced, and of stacks that are gone, are collected.
// What is left does not grow with the number of policies that were loaded.
func TestLoadsLeaveNothingBehind(t *testing.T) {
	one, two := rules("client: {limit: {max: 1}, retry: {}}"), rules("client: {limit: {max: 2}, timeout: 1s}")
	var layers census
	p := compile(t, one, policy.Config{Methods: shop(t), UnknownMethods: true, PerAttempt: []interceptors.Layer{layers.layer}})
	stack := interceptors.New(p.Client(), p.Server())
	documents := []policy.Document{parse(t, one), parse(t, two)}
	of := layers.alive() // of one policy
	run := func(n int) {
		for i := range n {
			if _, err := p.Load(documents[i%2]); err != nil {
				t.Fatal(err)
			}
			if i%100 == 0 { // a stack that is gone when the collector has run
				_ = interceptors.New(p.Client())
				runtime.GC()
			}
		}
	}
	run(200)
	goroutines, before := runtime.NumGoroutine(), heap()
	run(manyLoads)
	// A few may be held by a stack that the last load has seen.
	if n := layers.atMost(3 * of); of == 0 || n > 3*of {
		t.Errorf("%d layers are alive after %d loads, a policy has %d", n, manyLoads, of)
	}
	if after := heap(); after > before+before/2+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, were %d", n, goroutines)
	}
	runtime.KeepAlive(stack)
}

// The layers of a policy that was replaced live as long as an RPC that began in
// them, and no longer.
func TestReplacedLayersGoWithTheirLastRPC(t *testing.T) {
	one, two := rules("client: {limit: {max: 1}}"), rules("client: {limit: {max: 2}}")
	var layers census
	p := compile(t, one, policy.Config{PerAttempt: []interceptors.Layer{layers.layer}})
	entered, leave := make(chan struct{}), make(chan struct{})
	stack := interceptors.New(p.Client())
	ended := make(chan error)
	go func() {
		ended <- stack.UnaryClient()(t.Context(), echoService+"/Unary", new(echov1.UnaryRequest), new(echov1.UnaryResponse), nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				close(entered)
				<-leave
				return nil
			})
	}()
	<-entered
	of := layers.alive()
	for _, text := range []string{two, one, two} {
		load(t, p, text)
	}
	if n := layers.atMost(of + 1); n != of+1 {
		t.Errorf("%d layers are alive while an RPC runs in a replaced one, want %d", n, of+1)
	}
	close(leave)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := layers.atMost(of); n != of {
		t.Errorf("%d layers are alive after the RPC, want %d", n, of)
	}
	runtime.KeepAlive(stack)
}

func heap() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
