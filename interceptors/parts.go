package interceptors

import "github.com/turret-go/turret"

// A part is a layer of a stack, for code that looks at a stack as a whole.
type part struct {
	service Service
	kind    string         // as [turret.Node] has it: "timeout", "for" ...
	name    string         // given with Named; empty: none
	gate    turret.Gate    // of Admit and its like; nil: none
	branch  *branchService // of For and its like; nil: none
	inside  []part         // the layers of the branch, outermost first
}

// partsOf returns the parts that are layers, in their order.
func partsOf(layers []Service) []part {
	parts := make([]part, len(layers))
	for i, layer := range layers {
		parts[i] = partOf(layer)
	}
	return parts
}

// partOf returns the part of one layer. kind and name come from its description, so
// that a layer of another package is a part too. Behind a Named layer is the layer that
// has the name: its gate and its branch are looked for there.
func partOf(s Service) part {
	node := turret.Describe(alone{s}, 1)
	p := part{service: s, kind: node.Kind, name: node.Name}
	for n, ok := s.(*namedService); ok; n, ok = s.(*namedService) {
		s = n.Service
	}
	if g, ok := s.(interface{ Gate() turret.Gate }); ok {
		p.gate = g.Gate()
	}
	if b, ok := s.(*branchService); ok {
		p.branch, p.inside = b, partsOf(b.layers)
	}
	return p
}

// alone describes a layer without those that it passes RPCs on to.
type alone struct{ layer Service }

// Describe says what the layer says.
func (a alone) Describe(d *turret.Description) { d.Forward(a.layer) }
