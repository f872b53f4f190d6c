package policy

import (
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/throttle"
)

// A unitKey is what a unit is known by.
type unitKey struct {
	block  string // block.id
	method string // "" for the whole rule
}

// A unit is the state of a block in one stack: a gate, a budget. It outlives the
// policy that it was made for, as long as later ones have its block.
type unit struct {
	block  *block // of the policy that is loaded
	gate   turret.Gate
	budget *retry.Budget
	hedge  *hedge.Policy
	keyed  []turret.Gate        // of a per_key
	known  interceptors.Service // of a threshold: shows what all services of layer know
	layer  interceptors.Layer   // of gates, hedges and thresholds
}

// A fate is what becomes of a unit when a policy is loaded.
type fate uint8

const (
	kept fate = iota
	retuned
	renewed
)

// fateOf says what becomes of the state of a block that is now another.
func fateOf(old, now *block) fate {
	switch {
	case old.text == now.text:
		return kept
	case old.scope() != now.scope():
		return renewed
	}
	switch old.message().(type) {
	case *policyv1.Throttle, *policyv1.PerKey:
		return renewed
	}
	return retuned
}

// newUnit makes the state of a block.
func newUnit(b *block) *unit {
	u := &unit{block: b}
	switch m := b.message().(type) {
	case *policyv1.Retry:
		u.budget = retry.NewBudget(budgetConfig(m.GetBudget(), false))
	case *policyv1.Hedge:
		u.budget = retry.NewBudget(budgetConfig(m.GetBudget(), true))
		c := hedgeConfig(m)
		c.Budget = u.budget
		u.hedge = interceptors.NewHedgePolicy(c)
		u.layer = interceptors.HedgeWith(u.hedge)
	case *policyv1.Limit:
		u.gate = limit.NewConcurrency(int(m.GetMax()), queueOf(m.GetQueue()))
	case *policyv1.RateLimit:
		u.gate = limit.NewTokenBucket(rateOf(m), queueOf(m.GetQueue()))
	case *policyv1.Breaker:
		u.gate = breaker.New(breakerConfig(m))
	case *policyv1.Throttle:
		u.gate = throttle.New(throttleConfig(m))
	case *policyv1.Threshold:
		u.layer = interceptors.Threshold()
		u.known = u.layer(nil)
	case *policyv1.PerKey:
		u.keyed = perKeyGates(m)
		u.layer = layersOf(u.keyed, b.rule.shadow())
	case *policyv1.AdaptiveLimit:
		gate := adaptive.New(adaptiveConfig(m))
		u.gate, u.layer = gate, interceptors.AdmitAdaptive(gate)
	}
	switch {
	case u.gate == nil || u.layer != nil:
	case b.rule.shadow():
		u.layer = interceptors.Shadow(u.gate)
	default:
		u.layer = interceptors.Admit(u.gate)
	}
	return u
}

// retune gives a unit the values of b, which has passed all checks.
func (u *unit) retune(b *block) {
	same := u.block.text == b.text
	u.block = b
	if same {
		return
	}
	switch m := b.message().(type) {
	case *policyv1.Retry:
		u.budget.Set(budgetConfig(m.GetBudget(), false))
	case *policyv1.Hedge:
		u.budget.Set(budgetConfig(m.GetBudget(), true))
		u.hedge.Set(hedgeConfig(m))
	case *policyv1.Limit:
		gate := u.gate.(*limit.Concurrency)
		gate.SetMax(int(m.GetMax()))
		gate.SetQueue(queueOf(m.GetQueue()))
	case *policyv1.RateLimit:
		gate := u.gate.(*limit.TokenBucket)
		gate.SetRate(rateOf(m))
		gate.SetQueue(queueOf(m.GetQueue()))
	case *policyv1.Breaker:
		gate, c := u.gate.(*breaker.Breaker), breakerConfig(m)
		gate.SetConsecutive(c.Consecutive)
		gate.SetRatio(c.Ratio, c.MinCalls)
		gate.SetWindow(c.Window)
		gate.SetBackoff(c.Backoff)
	case *policyv1.AdaptiveLimit:
		c := adaptiveConfig(m)
		u.gate.(*adaptive.Limit).SetBounds(c.Min, c.Max)
	}
}

// layerOf returns the layer of a block in the layers of v. u is nil where the
// block has no state. A nil layer is one that v does not need.
func layerOf(b *block, u *unit, v *verdict) interceptors.Layer {
	switch m := b.message().(type) {
	case *policyv1.Retry:
		return interceptors.Retry(retryFor(m, u.budget, v.idempotent))
	case *policyv1.Hedge:
		if !v.idempotent {
			return nil
		}
		return u.layer
	case interface{ AsDuration() time.Duration }:
		if b.rule.shadow() {
			return interceptors.ShadowTimeout(m.AsDuration())
		}
		return interceptors.Timeout(m.AsDuration())
	case *policyv1.Criticality:
		return interceptors.Criticality(criticalityConfig(m))
	case nil:
		return waitForReady(b.value.Bool())
	}
	if u == nil {
		panic(fmt.Sprintf("policy: %s has no layer", b.path))
	}
	return u.layer
}

// retryFor returns the Config for a method of which idempotent is known.
func retryFor(m *policyv1.Retry, budget *retry.Budget, idempotent bool) retry.Config {
	c := retryConfig(m)
	c.Budget = budget
	if resends(m, idempotent) {
		c.Retryable = interceptors.RetryCodes(retryCodes(m)...)
	} else {
		c.Retryable = interceptors.RetryAsked()
	}
	return c
}

// resends reports whether a request that may have been carried out is sent again.
func resends(m *policyv1.Retry, idempotent bool) bool {
	switch m.GetResend() {
	case policyv1.Resend_RESEND_ALWAYS:
		return true
	case policyv1.Resend_RESEND_NEVER:
		return false
	case policyv1.Resend_RESEND_UNSPECIFIED, policyv1.Resend_RESEND_IF_IDEMPOTENT:
	}
	return idempotent
}

// String returns the unit in one line: its rule, its block and what it counts.
func (u *unit) String() string {
	text := u.block.rule.name + ": " + u.block.kind.path()
	if u.block.rule.shadow() {
		text += " (shadow)"
	}
	switch {
	case u.keyed != nil:
		return fmt.Sprintf("%s: %v", text, u.keyed)
	case u.gate != nil:
		return fmt.Sprintf("%s: %v", text, u.gate)
	case u.known != nil:
		return fmt.Sprintf("%s: %v", text, u.known)
	case u.hedge != nil:
		return fmt.Sprintf("%s: %v", text, u.hedge)
	case u.budget != nil:
		return fmt.Sprintf("%s: %v", text, u.budget)
	default:
		return text
	}
}
