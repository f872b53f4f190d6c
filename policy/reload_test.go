package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
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
		{"window of a breaker", "client: {breaker: {}}", "client: {breaker: {window: 1s}}", "renewed r0 client.breaker: {} -> {window: 1s}\nkept 0"},
		{"retry and its budget", "client: {retry: {}}", "client: {retry: {max_attempts: 4, budget: {ratio: 0.1}}}", "retuned r0 client.retry: {} -> {max_attempts: 4, budget: {ratio: 0.1}}\nkept 0"},
		{"timeout", "client: {timeout: 1s}", "client: {timeout: 2s}", "retuned r0 client.timeout: 1s -> 2s\nkept 0"},
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
	const loads = 1000
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
		for i := range loads {
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

// Stacks that are gone, and policies that were replaced, leave nothing behind.
func TestLoadsLeaveNothingBehind(t *testing.T) {
	one, two := rules("client: {limit: {max: 1}, retry: {}}"), rules("client: {limit: {max: 2}, timeout: 1s}")
	p := compile(t, one, policy.Config{Methods: shop(t), UnknownMethods: true})
	stack := interceptors.New(p.Client(), p.Server())
	documents := []policy.Document{parse(t, one), parse(t, two)}
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
	run(10_000)
	after := heap()
	if after > before+before/2+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, were %d", n, goroutines)
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

// Whatever the policies and the faults, a request that reached a handler is sent
// again only if the method is idempotent, resend is ALWAYS, or the server asks.
func TestNothingIsSentTwiceThatMustNotBe(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	for n := range 60 {
		retry := pick("", "retry: {}", "retry: {max_attempts: 5, codes: [UNAVAILABLE, INTERNAL, ABORTED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED]}",
			"retry: {resend: NEVER, codes: [INTERNAL]}", "retry: {resend: IF_IDEMPOTENT, budget: {ratio: 10}}")
		parts := []string{
			retry, pick("", "timeout: 1s"), pick("", "attempt_timeout: 50ms"), pick("", "hedge: {delay: 10ms, budget: {ratio: 10}}"),
			pick("", "limit: {max: 2, queue: {max: 2, timeout: 10ms}}"), pick("", "breaker: {consecutive: 2, open_for: 100ms}"), pick("", "rate_limit: {requests: 50}"),
		}
		parts = append(parts, "stream_timeout: 10m")
		var given []string
		for _, p := range parts {
			if p != "" {
				given = append(given, p)
			}
		}
		text := rules("client: {"+strings.Join(given, ", ")+"}", "idempotency: UNKNOWN, "+pick("why: x", "server: {limit: {max: 3}}", "server: {timeout: 20ms}"))
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { sentOnce(t, text, random) })
		})
	}
}

func sentOnce(t *testing.T, text string, random *rand.Rand) {
	p := compile(t, text, policy.Config{})
	w := newWorld(t, interceptors.New(p.Client()), interceptors.New(p.Server()))
	for range 30 {
		plan := failing(codes.Code(1+random.IntN(16)), int32(random.IntN(3)))
		if random.IntN(2) == 0 {
			plan = slow(time.Duration(random.IntN(200)) * time.Millisecond)
		}
		before := w.ran.Load()
		_ = w.call(t.Context(), kinds[random.IntN(len(kinds))], plan)
		synctest.Wait()
		if ran := w.ran.Load() - before; ran > 1 {
			t.Fatalf("%d handlers ran for one RPC\n%s", ran, text)
		}
		if random.IntN(5) == 0 {
			load(t, p, text+"# again")
		}
	}
}
