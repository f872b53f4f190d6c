package metrics

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/turret-go/turret"
)

// An instrument of the catalogue exports a figure: that of one kind of node, or of
// all that have no instrument for it of their own.
type instrument struct {
	kind, figure string // kind "": any
	name, unit   string
	what         string
	counter      bool
	gate         bool          // its figures are of gates: they have turret.gate.kind
	state        bool          // the figure is a State, and the value 1 for the state that it is in
	reason       attribute.Key // what the reason of a figure becomes; empty: turret.reason
	because      string        // the reason of a figure that has none

	observable metric.Float64Observable
}

const faultsAre = "Calls that were delayed or failed on purpose."

// instruments are the catalogue. The first one is not of a figure. Those of one
// kind come before those of any.
var instruments = []instrument{
	{name: "turret.metrics.left_out", unit: "{series}", what: "Series that were not exported, because there were too many."},

	{kind: "breaker", figure: "state", name: "turret.breaker.state", unit: "{breaker}", what: "1 for the state that the breaker is in.", state: true},
	{kind: "breaker", figure: "transitions", name: "turret.breaker.transitions", unit: "{transition}", what: "How often the breaker entered a state.", counter: true, reason: ToKey},
	{kind: "retry", figure: "retries", name: "turret.retries", unit: "{retry}", what: "Retries, by the code or the refusal that they followed.", counter: true},
	{kind: "retry_budget", figure: "left", name: "turret.retry.budget.left", unit: "{retry}", what: "Retries that the budget has room for."},
	{kind: "retry_budget", figure: "refused", name: "turret.retry.budget.refused", unit: "{retry}", what: "Retries that the budget had no room for.", counter: true},
	{kind: "hedge", figure: "hedges", name: "turret.hedges", unit: "{hedge}", what: "Hedges, by what came of them.", counter: true},
	{kind: "timeout", figure: "timeouts", name: "turret.timeouts", unit: "{call}", what: "Calls that a timeout ended.", counter: true},
	{kind: "recover", figure: "panics", name: "turret.panics", unit: "{panic}", what: "Panics that were caught.", counter: true},
	{kind: "drain", figure: "phase", name: "turret.drain.phase", unit: "{server}", what: "1 for the phase that the server is in.", state: true},
	{kind: "fault", figure: "delayed", name: "turret.faults", unit: "{call}", what: faultsAre, counter: true, because: "DELAYED"},
	{kind: "fault", figure: "injected", name: "turret.faults", unit: "{call}", what: faultsAre, counter: true},

	{figure: "in_flight", name: "turret.gate.in_flight", unit: "{call}", what: "Calls inside.", gate: true},
	{figure: "waiting", name: "turret.gate.waiting", unit: "{call}", what: "Calls in line.", gate: true},
	{figure: "max", name: "turret.gate.max", unit: "{call}", what: "The limit.", gate: true},
	{figure: "entered", name: "turret.gate.entered", unit: "{call}", what: "Calls that were let in.", counter: true, gate: true},
	{figure: "cancelled", name: "turret.gate.cancelled", unit: "{call}", what: "Calls that gave up in line.", counter: true, gate: true},
	{figure: "wait", name: "turret.gate.wait", unit: "s", what: "Time that calls have been in line.", counter: true, gate: true},
	{figure: "refused", name: "turret.refusals", unit: "{call}", what: "Calls that were refused before they were sent.", counter: true},
}

// catalogue makes the instruments of the catalogue.
func catalogue(m metric.Meter) []instrument {
	rules := make([]instrument, len(instruments))
	made := map[string]metric.Float64Observable{} // several figures may share an instrument
	for i, r := range instruments {
		if _, ok := made[r.name]; !ok {
			made[r.name] = observable(m, r.counter, r.name, r.unit, r.what)
		}
		r.observable = made[r.name]
		rules[i] = r
	}
	return rules
}

// ruleOf returns the instrument of a figure; nil if the catalogue has none.
func ruleOf(rules []instrument, n *turret.Node, f *turret.Figure) *instrument {
	if n.Kind == shadow {
		return nil
	}
	for i := 1; i < len(rules); i++ {
		r := &rules[i]
		if r.figure == f.Name && (r.kind == "" || r.kind == n.Kind) && r.fits(f.Kind) {
			return r
		}
	}
	return nil
}

// fits reports whether the value of a figure of kind k is one for r. A limit is a
// setting that can be changed, and so is exported as a gauge.
func (r *instrument) fits(k turret.FigureKind) bool {
	switch k {
	case turret.State:
		return r.state
	case turret.Counter:
		return r.counter
	default:
		return !r.counter && !r.state
	}
}
