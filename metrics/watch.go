package metrics

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// The keys of Turret's own attributes; see the package documentation.
const (
	StackKey    = attribute.Key("turret.stack")
	LayerKey    = attribute.Key("turret.layer")
	GateKindKey = attribute.Key("turret.gate.kind")
	ReasonKey   = attribute.Key("turret.reason")
	StateKey    = attribute.Key("turret.state")
	ToKey       = attribute.Key("turret.to")
	SideKey     = attribute.Key("turret.side")
)

// maxPoints is how many series one Watch exports at most.
const maxPoints = 2000

// Watch exports what d and all that is inside it count, under the name of
// turret.stack, until stop is called. It may be called at any time. It panics if
// name is empty or in use, or d is nil.
//
// What d counts is read when metrics are collected, by [turret.Describe]: a part of
// it that does not answer or panics is missing from that collection. A Watch
// exports at most 2,000 series; turret.metrics.left_out says how many more there
// were.
func (m *Meter) Watch(name string, d turret.Describer) (stop func()) {
	wrong := func(field string, value any, bound string) {
		misuse.Check("metrics: Meter.Watch", &turret.FieldError{Package: "metrics", Field: field, Value: value, Bound: bound})
	}
	if d == nil {
		wrong("describer", nil, "non-nil")
	}
	if name == "" {
		wrong("name", name, "not empty")
	}
	node := turret.Describe(d, 1)
	m.watching.Lock()
	defer m.watching.Unlock()
	if _, ok := m.watched[name]; ok {
		wrong("name", name, "not in use")
	}
	m.watched[name] = struct{}{}
	w := &watch{name: name, what: d, rules: m.rules, others: m.discover(node)}
	registration, err := m.meter.RegisterCallback(w.collect, w.instruments()...)
	report(err)
	return sync.OnceFunc(func() {
		if registration != nil {
			report(registration.Unregister())
		}
		m.watching.Lock()
		defer m.watching.Unlock()
		delete(m.watched, name)
	})
}

// discover makes the instruments of figures that are not in the catalogue. It
// requires m.watching.
func (m *Meter) discover(node turret.Node) map[string]metric.Float64Observable {
	found := map[string]metric.Float64Observable{}
	each(node, func(n *turret.Node, f *turret.Figure) {
		name, ok := nameOf(n, f)
		if !ok || len(found) >= maxPoints || ruleOf(m.rules, n, f) != nil {
			return
		}
		if _, known := m.others[name]; !known {
			m.others[name] = observable(m.meter, f.Kind == turret.Counter, name, f.Unit, "")
		}
		if o := m.others[name]; o != nil {
			found[name] = o
		}
	})
	return found
}

// observable makes an instrument; it returns nil if the provider refuses.
func observable(m metric.Meter, counter bool, name, unit, what string) metric.Float64Observable {
	var o metric.Float64Observable
	var err error
	if counter {
		o, err = m.Float64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(what))
	} else {
		o, err = m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
	}
	if err != nil {
		report(err)
		return nil
	}
	return o
}

// nameOf returns the name of the instrument of a figure that is not in the
// catalogue: turret.KIND.FIGURE.
func nameOf(n *turret.Node, f *turret.Figure) (name string, ok bool) {
	if f.Kind != turret.Gauge && f.Kind != turret.Counter || !isWord(n.Kind) || !isWord(f.Name) {
		return "", false
	}
	return fmt.Sprintf("turret.%s.%s", n.Kind, f.Name), true
}

// isWord reports whether s may be part of the name of an instrument.
func isWord(s string) bool {
	return s != "" && len(s) <= 64 && s[0] >= 'a' && s[0] <= 'z' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// unexported are the kinds of node that are left out with all that is inside them:
// endpoints come and go, and gRPC exports the metrics of the policy turret.P2C.
var unexported = []string{"endpoint", "p2c"}

// each calls f for each figure of n and of what is inside it. Nothing of what a
// shadow has inside is enforced: its figures are those of the shadow, so that its
// refusals are not taken for refusals. A gate that stands in several places of a
// tree is counted once, where it comes first.
func each(n turret.Node, f func(n *turret.Node, f *turret.Figure)) {
	if slices.Contains(unexported, n.Kind) {
		return
	}
	if !n.Again {
		for i := range n.Figures {
			f(&n, &n.Figures[i])
		}
	}
	for _, child := range n.Children {
		if n.Kind == shadow {
			child.Kind = shadow
		}
		each(child, f)
	}
}

// shadow is the kind of what is measured and not enforced.
const shadow = "shadow"

// A watch exports one Describer.
type watch struct {
	name   string
	what   turret.Describer
	rules  []instrument
	others map[string]metric.Float64Observable
}

// A point is the place of a value: an instrument, with attributes.
type point struct {
	instrument metric.Float64Observable
	attributes attribute.Distinct
}

// instruments returns what collect observes.
func (w *watch) instruments() []metric.Observable {
	var all []metric.Observable
	for i := range w.rules {
		if o := w.rules[i].observable; o != nil && !slices.Contains(all, metric.Observable(o)) {
			all = append(all, o)
		}
	}
	for _, o := range w.others {
		all = append(all, o)
	}
	return all
}

// collect observes what is counted now. What has the same attributes is added up
// first: an instrument takes one value for each.
func (w *watch) collect(_ context.Context, o metric.Observer) error {
	values, sets := map[point]float64{}, map[point]attribute.Set{}
	left := 0
	each(turret.Describe(w.what, 1), func(n *turret.Node, f *turret.Figure) {
		to, set, value, ok := w.place(n, f)
		if !ok {
			return
		}
		at := point{to, set.Equivalent()}
		if _, known := sets[at]; !known && len(sets) >= maxPoints {
			left++
			return
		}
		values[at] += value
		sets[at] = set
	})
	for at, value := range values {
		o.ObserveFloat64(at.instrument, value, metric.WithAttributeSet(sets[at]))
	}
	if out := &w.rules[0]; out.observable != nil {
		o.ObserveFloat64(out.observable, float64(left), metric.WithAttributes(StackKey.String(w.name)))
	}
	return nil
}

// place returns where the value of a figure goes.
func (w *watch) place(n *turret.Node, f *turret.Figure) (to metric.Float64Observable, set attribute.Set, value float64, ok bool) {
	layer := n.Name
	if layer == "" {
		layer = n.Kind
	}
	attributes := []attribute.KeyValue{StackKey.String(w.name), LayerKey.String(layer)}
	reason, because := ReasonKey, f.Reason
	value = f.Value
	if rule := ruleOf(w.rules, n, f); rule != nil {
		to = rule.observable
		if rule.reason != "" {
			reason = rule.reason
		}
		because = cmp.Or(because, rule.because)
		if rule.gate {
			attributes = append(attributes, GateKindKey.String(n.Kind))
		}
		if rule.state {
			value = 1
			attributes = append(attributes, StateKey.String(f.Text))
		}
	} else if name, named := nameOf(n, f); named {
		to = w.others[name]
	}
	if because != "" {
		attributes = append(attributes, reason.String(because))
	}
	return to, attribute.NewSet(attributes...), value, to != nil
}
