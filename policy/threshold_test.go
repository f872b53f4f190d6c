package policy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/retry"
)

const belowThreshold = "ResourceExhausted/BELOW_THRESHOLD"

// announces is a layer of a server that says which levels it admits, for methods that
// match.
func announces(threshold, pattern string) interceptors.Layer {
	return interceptors.For(pattern, turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(criticality.ThresholdKey, threshold))
		return inner.Call(ctx, rpc)
	}))
}

// learns makes critical RPCs, so that w's client learns what the server says: what
// was known before has then a part of exp(-26) in what is known.
func (w *world) learns(ctx context.Context, k interceptors.Kind) {
	for range 30 {
		_ = w.call(criticality.With(ctx, criticality.Critical), k, nil)
		time.Sleep(90 * time.Millisecond)
	}
}

// thresholds runs f with a client of a policy of one rule whose server admits what is
// critical, and which has learnt that.
func thresholds(t *testing.T, client string, f func(t *testing.T, w *world, p *policy.Policy)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := compile(t, rules(client), policy.Config{})
		w := newWorld(t, interceptors.New(p.Client()), interceptors.New(announces("2", "/*")))
		w.learns(t.Context(), interceptors.KindUnary)
		f(t, w, p)
		w.pair.Stop()
	})
}

// The threshold is outside of the retry, and the criticality inside of it. The
// threshold must know the level of the rule all the same.
func TestThresholdKnowsTheLevelOfTheRule(t *testing.T) {
	const client = "client: {threshold: {}, retry: {backoff: {base: 1s, jitter: 0}}, criticality: {level: SHEDDABLE}}"
	thresholds(t, client, func(t *testing.T, w *world, _ *policy.Policy) {
		ran, start := w.ran.Load(), time.Now()
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != belowThreshold {
			t.Errorf("an RPC of the level of the rule ends with %s", got)
		}
		if w.ran.Load() != ran || time.Since(start) > 0 {
			t.Errorf("it was sent %d times, and took %v", w.ran.Load()-ran, time.Since(start))
		}
		ctx := criticality.With(t.Context(), criticality.Critical)
		if got := endOf(w.call(ctx, interceptors.KindUnary, nil)); got != "OK" {
			t.Errorf("an RPC that is critical by its context ends with %s", got)
		}
	})
}

// A rule without a threshold, or one that is off, sends what the server does not admit.
func TestThresholdOff(t *testing.T) {
	for _, client := range []string{"client: {criticality: {level: SHEDDABLE}}", "client: {threshold: {off: true}, criticality: {level: SHEDDABLE}}"} {
		thresholds(t, client, func(t *testing.T, w *world, _ *policy.Policy) {
			if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != "OK" {
				t.Errorf("%s: ends with %s", client, got)
			}
		})
	}
}

// Retries go over the wire a level lower than the first attempt, which the threshold
// has let through.
func TestRetriesBehindAThresholdAreLessCritical(t *testing.T) {
	const client = "idempotency: IDEMPOTENT, client: {threshold: {}, retry: {backoff: {base: 1ms}}, criticality: {level: CRITICAL}}"
	thresholds(t, client, func(t *testing.T, w *world, _ *policy.Policy) {
		before := len(w.levels())
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, failing(codes.Unavailable, 1))); got != "OK" {
			t.Fatalf("ends with %s", got)
		}
		want := []string{"[critical] critical", "[sheddable-plus] critical"}
		if got := w.levels()[before:]; !slices.Equal(got, want) {
			t.Errorf("the handler has seen %v, want %v", got, want)
		}
	})
}

// What is known of the server outlives a policy that changes other blocks, and does
// not outlive another scope.
func TestThresholdIsKept(t *testing.T) {
	const with = "client: {threshold: {}, criticality: {level: SHEDDABLE}"
	thresholds(t, with+"}", func(t *testing.T, w *world, p *policy.Policy) {
		load(t, p, rules(with+", timeout: 1h}"))
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != belowThreshold {
			t.Errorf("after a change of another block an RPC ends with %s", got)
		}
		load(t, p, rules("client: {threshold: {scope: METHOD}, criticality: {level: SHEDDABLE}}"))
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != "OK" {
			t.Errorf("after a change of the scope an RPC ends with %s", got)
		}
	})
}

// With scope METHOD what a server says of one method does not hold for others.
func TestThresholdOfEachMethod(t *testing.T) {
	for scope, want := range map[string]string{"METHOD": "OK", "RULE": belowThreshold} {
		synctest.Test(t, func(t *testing.T) {
			p := compile(t, rules("client: {threshold: {scope: "+scope+"}, criticality: {level: SHEDDABLE}}"), policy.Config{})
			w := newWorld(t, interceptors.New(p.Client()), interceptors.New(announces("2", echoService+"/Unary")))
			w.learns(t.Context(), interceptors.KindUnary)
			if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != belowThreshold {
				t.Errorf("%s: the method itself ends with %s", scope, got)
			}
			if got := endOf(w.call(t.Context(), interceptors.KindServerStream, nil)); got != want {
				t.Errorf("%s: another method ends with %s, want %s", scope, got, want)
			}
			w.pair.Stop()
		})
	}
}

func TestPolicyDescribesItsThreshold(t *testing.T) {
	thresholds(t, "client: {threshold: {}}", func(t *testing.T, _ *world, p *policy.Policy) {
		stack := interceptors.New(p.Client()) // a state of its own
		if text := stack.String(); !strings.Contains(text, "r0: client.threshold: threshold: 100 % of critical-plus") {
			t.Errorf("the stack prints\n%s", text)
		}
		children := turret.Describe(stack, 0).Children[0].Children
		if len(children) != 1 || children[0].Kind != "threshold" || children[0].Name != "r0" {
			t.Errorf("the policy has %+v", children)
		}
	})
}

// Lint must find nothing in a policy, whatever blocks it has.
func TestLintFindsNothingInAThresholdOfAPolicy(t *testing.T) {
	p := compile(t, rules("client: {threshold: {}, timeout: 2s, attempt_timeout: 1s, retry: {}, criticality: {level: SHEDDABLE}}"), policy.Config{})
	if got := interceptors.New(p.Client()).Lint(interceptors.SideClient); len(got) > 0 {
		t.Errorf("findings %v", got)
	}
	got := interceptors.New(interceptors.Retry(retry.Config{}), p.Client()).Lint(interceptors.SideClient)
	if !slices.ContainsFunc(got, func(f interceptors.Finding) bool { return f.Check == "threshold-inside-retry" }) {
		t.Errorf("a retry outside of the policy has findings %v", got)
	}
}
