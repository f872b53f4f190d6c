package policy

import (
	"github.com/turret-go/turret/interceptors"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A slot is what the enforced rules say at one level for one pattern.
type slot struct {
	blocks      [2][maxBlocks]*block
	idempotency *rule
}

// compiled is a document with the .proto files, checked, ready to be asked what
// holds for a method. It does not change.
type compiled struct {
	document  Document
	catalogue *Catalogue
	asked     func(*Method) policyv1.Idempotency // Config.Idempotency

	rules    []*rule
	byName   map[string]*rule
	slots    [levels]map[string]*slot
	shadows  []*rule
	warnings Errors
}

// compile reads a document and checks it. The error is an Errors.
func compile(document Document, c Config) (*compiled, error) {
	d := &reader{document: document, catalogue: c.Methods, unknown: c.UnknownMethods}
	made := &compiled{
		document: document, catalogue: c.Methods, asked: c.Idempotency,
		rules: d.rules(), byName: map[string]*rule{},
	}
	for i := range made.slots {
		made.slots[i] = map[string]*slot{}
	}
	for _, r := range made.rules {
		made.byName[r.name] = r
		switch {
		case r.shadow():
			made.shadows = append(made.shadows, r)
		case r.enforced():
			made.place(d, r)
		}
	}
	if len(d.errs) == 0 {
		(&crossCheck{reader: d, compiled: made}).run()
	}
	made.warnings = made.warnings.Sorted()
	return made, d.errs.Err()
}

// place puts what an enforced rule says into the slots of its patterns. Two rules
// of one pattern and level must not say the same.
func (c *compiled) place(d *reader, r *rule) {
	told := map[[2]*block]bool{} // for the first pattern that both rules have
	for _, p := range r.patterns {
		s := c.slots[p.level][p.text]
		if s == nil {
			s = new(slot)
			c.slots[p.level][p.text] = s
		}
		for _, b := range r.blocks {
			at := &s.blocks[b.kind.side][b.kind.index]
			if *at == nil {
				*at = b
			} else if pair := [2]*block{b, *at}; !told[pair] {
				told[pair] = true
				d.problem(r, b.at, b.path, "applies to %s%s, and so does that of rule %q (%v), which is as specific: one of them must go",
					p.text, andMore(r.sharedWith((*at).rule)-1), (*at).rule.name, (*at).at)
			}
		}
		if r.idempotency == policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED {
			continue
		}
		path := r.path + ".idempotency"
		switch first := s.idempotency; {
		case first == nil:
			s.idempotency = r
		case first.idempotency != r.idempotency:
			d.problem(r, r.position(path), path, "applies to %s, and so does that of rule %q (%v), which is as specific and says otherwise: one of them must go",
				p.text, first.name, first.position(first.path+".idempotency"))
		}
	}
}

// sharedWith returns how many patterns r has in common with another rule.
func (r *rule) sharedWith(other *rule) (n int) {
	for _, p := range r.patterns {
		if other.has[p.text] {
			n++
		}
	}
	return n
}

// A target is a method, known or not, and what is asked for it.
type target struct {
	name    string  // the full method; "" for all that no rule and no catalogue names
	service string  // "" for any
	method  *Method // nil if it is not known
}

func (c *compiled) target(method string) target {
	if m := c.catalogue.byName[method]; m != nil {
		return target{method, m.service, m}
	}
	return target{name: method, service: serviceOf(method)}
}

// at returns the slots that match t, the most specific first; nil where there is
// none.
func (c *compiled) at(t target) (found [levels]*slot) {
	service := "/" + t.service + "/*"
	found[0] = c.slots[levelMethod][t.name]
	found[1] = c.slots[levelProtoMethod][t.name]
	found[2] = c.slots[levelService][service]
	found[3] = c.slots[levelProtoService][service]
	found[4] = c.slots[levelAll]["/*"]
	return found
}

// A verdict is what holds for a method on one side. It is comparable: methods
// with equal verdicts share their layers.
type verdict struct {
	blocks     [maxBlocks]*block // by the order of layers; nil where there is none
	idempotent bool              // a request may be carried out twice
	method     string            // where a block has a state for each method
}

// resolve returns what holds for t on a side.
func (c *compiled) resolve(t target, side interceptors.Side) (v verdict) {
	slots := c.at(t)
	for _, s := range slots {
		if s == nil {
			continue
		}
		for i, b := range s.blocks[side] {
			if b != nil && v.blocks[i] == nil {
				v.blocks[i] = b
			}
		}
	}
	for _, b := range v.blocks {
		if b != nil && b.byMethod() {
			v.method = ownMethod(t)
			break
		}
	}
	level, _ := c.idempotency(t, slots)
	v.idempotent = repeatable(level)
	return v
}

// ownMethod is what a state of t alone is known by. Those that the program does
// not know share one.
func ownMethod(t target) string {
	if t.method == nil {
		return otherMethods
	}
	return t.name
}

// otherMethods stands for all methods that the program does not know.
const otherMethods = "(others)"

func repeatable(i policyv1.Idempotency) bool {
	return i == policyv1.Idempotency_IDEMPOTENCY_IDEMPOTENT || i == policyv1.Idempotency_IDEMPOTENCY_NO_SIDE_EFFECTS
}

// idempotency returns what is known of sending a request of t twice, and where
// that is from: a rule, "idempotency_level", "Config.Idempotency" or nothing.
func (c *compiled) idempotency(t target, slots [levels]*slot) (level policyv1.Idempotency, by string) {
	for i, s := range slots {
		if i == 1 && t.method != nil { // where an option of the method is
			if t.method.Idempotency != policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED {
				return t.method.Idempotency, "idempotency_level"
			}
			if c.asked != nil {
				if level := c.asked(t.method); level != policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED {
					return level, "Config.Idempotency"
				}
			}
		}
		if s != nil && s.idempotency != nil {
			return s.idempotency.idempotency, "rule " + s.idempotency.name
		}
	}
	return policyv1.Idempotency_IDEMPOTENCY_UNKNOWN, ""
}

// shadowsOf returns the blocks of shadow rules that match t, in the order of the
// rules. Each counts for itself; of one rule a method has each block once.
func (c *compiled) shadowsOf(t target, side interceptors.Side) (found []*block) {
	for _, r := range c.shadows {
		if !r.has["/*"] && !r.has["/"+t.service+"/*"] && !r.has[t.name] {
			continue
		}
		for _, b := range r.blocks {
			if b.kind.side == side {
				found = append(found, b)
			}
		}
	}
	return found
}

// named returns the methods that need an entry of their own in the table: those
// that the program knows, and others that rules name.
func (c *compiled) named() map[string]target {
	all := make(map[string]target, len(c.catalogue.methods))
	for _, m := range c.catalogue.methods {
		all[m.Name] = target{m.Name, m.service, m}
	}
	for _, r := range c.rules {
		for _, p := range r.patterns {
			if _, known := all[p.text]; p.level == levelMethod && !known {
				all[p.text] = target{name: p.text, service: p.service}
			}
		}
	}
	return all
}

// services returns the services that a pattern names.
func (c *compiled) services() map[string]bool {
	all := map[string]bool{}
	for _, r := range c.rules {
		for _, p := range r.patterns {
			if p.level == levelService || p.level == levelProtoService {
				all[p.service] = true
			}
		}
	}
	return all
}

// blocks returns all blocks of rules that are not off, by their state's name.
func (c *compiled) blocks() map[string]*block {
	all := map[string]*block{}
	for _, r := range c.rules {
		if r.mode == policyv1.Mode_MODE_OFF {
			continue
		}
		for _, b := range r.blocks {
			if !b.off {
				all[b.id()] = b
			}
		}
	}
	return all
}
