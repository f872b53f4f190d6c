package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

var (
	_ turret.Describer    = (*service)(nil)
	_ interceptors.Router = (*service)(nil)
)

// Describe describes the gates and budgets of the policy that is loaded, in the
// order of the layers.
func (s *service) Describe(d *turret.Description) {
	s.set.policy.mu.Lock()
	units, document := s.set.ordered(), s.set.policy.now.document
	described := make([]unit, len(units))
	for i, u := range units {
		described[i] = *u
	}
	s.set.policy.mu.Unlock()
	d.Is("policy", strings.TrimSpace("policy "+document.Name))
	d.Setting("rules", "{rule}", len(document.Policy.GetRules()))
	for i := range described {
		d.Inside(&described[i])
	}
}

// Describe describes the gate or the budget, with the name of its rule.
func (u *unit) Describe(d *turret.Description) {
	d.Named(u.block.rule.name)
	d.State("block", u.block.kind.path())
	if u.block.rule.shadow() || u.keyed != nil {
		if u.block.rule.shadow() {
			d.Is("shadow", "shadow")
		}
		d.Is("per_key", "per key")
		for _, gate := range append(slices.Clone(u.keyed), u.gate) {
			d.Inside(gate)
		}
		return
	}
	switch {
	case u.gate != nil:
		d.Forward(u.gate)
	case u.known != nil:
		d.Forward(u.known)
	case u.hedge != nil:
		d.Forward(u.hedge)
	case u.budget != nil:
		d.Forward(u.budget)
	}
}

// Inner returns what is inside the policy's layers.
func (s *service) Inner() any { return s.Service }

// Routes returns the layers of each group of methods, for Lint.
func (s *service) Routes(most int) (all []interceptors.Route) {
	t := s.table.Load()
	seen := map[*route]bool{}
	add := func(title string, r *route) {
		if seen[r] {
			return
		}
		seen[r] = true
		for i := range r.ways {
			made := interceptors.Route{Title: title, Kinds: []interceptors.Kind{interceptors.KindUnary}}
			if i == wayOf(interceptors.KindBidiStream) {
				made.Kinds = []interceptors.Kind{interceptors.KindClientStream, interceptors.KindServerStream, interceptors.KindBidiStream}
			}
			for _, layer := range r.ways[i].made {
				made.Layers = append(made.Layers, layer)
			}
			if len(all) < most {
				all = append(all, made)
			}
		}
	}
	add("methods that no rule names", t.other)
	for _, method := range sortedKeys(t.methods) {
		add(method, t.methods[method])
	}
	for _, service := range sortedKeys(t.services) {
		add(fmt.Sprintf("/%s/*", service), t.services[service])
	}
	return all
}

func sortedKeys(m map[string]*route) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
