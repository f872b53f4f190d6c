package policy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// seeds is how many random policies each property is tested with.
var seeds = flag.Uint64("seeds", defaultSeeds, "how many random policies, and sequences of them, to test")

// A generator makes random policies. What it makes depends on its seed only.
type generator struct {
	*rand.Rand

	// twice allows what lets requests be carried out twice: rules that say that
	// methods are idempotent, and retries that always send again.
	twice bool
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0x706f6c696379))}
}

func (g *generator) oneOf(from ...string) string { return from[g.IntN(len(from))] }

func (g *generator) chance(share float64) bool { return g.Float64() < share }

// some returns each of the fields with a chance of one half, in one line.
func (g *generator) some(fields ...string) string {
	var given []string
	for _, f := range fields {
		if g.chance(0.5) {
			given = append(given, f)
		}
	}
	return strings.Join(given, ", ")
}

func (g *generator) ms(most int) string {
	return (time.Duration(1+g.IntN(most)) * time.Millisecond).String()
}

func (g *generator) scope() string { return "scope: " + g.oneOf("RULE", "METHOD") }

func (g *generator) budget() string {
	return fmt.Sprintf("budget: {%s}", g.some("ratio: 10", "min_per_second: 100", fmt.Sprintf("window: %dms", 10+g.IntN(5000)), g.scope()))
}

func (g *generator) codes() string {
	var all []string
	for _, c := range []string{"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"} {
		if g.chance(0.6) {
			all = append(all, c)
		}
	}
	return "codes: [" + strings.Join(all, ", ") + "]"
}

func (g *generator) retry() string {
	resend := g.oneOf("resend: NEVER", "resend: IF_IDEMPOTENT")
	if g.twice && g.chance(0.5) {
		resend = "resend: ALWAYS"
	}
	return "retry: {" + g.some(fmt.Sprintf("max_attempts: %d", 2+g.IntN(9)), g.codes(), resend, "backoff: {base: "+g.ms(30)+"}", g.budget()) + "}"
}

func (g *generator) limit() string {
	l := fmt.Sprintf("limit: {max: %d", 1+g.IntN(4))
	if g.chance(0.5) {
		l += fmt.Sprintf(", queue: {max: %d, timeout: %s}", 1+g.IntN(5), g.ms(60))
	}
	return l + ", " + g.scope() + "}"
}

func (g *generator) rate() string {
	return fmt.Sprintf("rate_limit: {requests: %d, per: %s, %s}", 1+g.IntN(50), g.ms(1000), g.scope())
}

func (g *generator) client() string {
	return g.some(
		fmt.Sprintf("timeout: %dms", 50+g.IntN(1000)), "attempt_timeout: "+g.ms(49), "stream_timeout: "+g.ms(1000), g.retry(),
		fmt.Sprintf("hedge: {delay: %s, max_hedges: %d, budget: {ratio: 10}}", g.ms(30), 1+g.IntN(4)),
		g.limit(), g.rate(), fmt.Sprintf("wait_for_ready: %v", g.chance(0.5)),
		fmt.Sprintf("breaker: {consecutive: %d, open_for: %s, window: 10s, %s}", 2+g.IntN(5), g.ms(100), g.scope()),
		"throttle: {"+g.scope()+"}", "threshold: {"+g.scope()+"}", "criticality: {level: "+g.oneOf("CRITICAL", "SHEDDABLE")+"}",
	)
}

func (g *generator) server() string {
	return g.some(
		"stream_timeout: "+g.ms(200), g.limit(), g.rate(),
		"adaptive_limit: {initial: 2, max: 5}", "criticality: {allow: SHEDDABLE_PLUS}",
		"per_key: {metadata: x-id, limit: {max: 1}}",
	)
}

// rule returns a rule for methods of Echo, or for all.
func (g *generator) rule(name string) string {
	if g.chance(0.15) {
		return fmt.Sprintf("{name: %s, mode: SHADOW, server: {rate_limit: {requests: 1}, timeout: %s}, ", name, g.ms(50))
	}
	idempotency := g.oneOf("UNKNOWN", "UNKNOWN", "")
	if g.twice {
		idempotency = g.oneOf("UNKNOWN", "IDEMPOTENT", "NO_SIDE_EFFECTS")
	}
	if idempotency != "" {
		idempotency = "idempotency: " + idempotency + ", "
	}
	return fmt.Sprintf("{name: %s, %sclient: {%s}, server: {timeout: %s, %s}, ", name, idempotency, g.client(), g.ms(300), g.server())
}

// policy returns a policy of a rule for all methods, and perhaps one for Echo and
// one for one of its methods.
func (g *generator) policy() string {
	var b strings.Builder
	b.WriteString("rules:\n- " + g.rule("all") + "methods: [\"/*\"]}\n")
	if g.chance(0.5) {
		b.WriteString("- " + g.rule("echo") + "methods: [\"" + echoService + "/*\"]}\n")
	}
	if g.chance(0.5) {
		b.WriteString("- {name: one, client: {" + g.retry() + "}, methods: [\"" + echoService + "/" + g.oneOf("Unary", "ClientStream", "BidiStream") + "\"]}\n")
	}
	return b.String()
}
