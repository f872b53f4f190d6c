package policy

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/interceptors"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A crossCheck checks what rules say together, and for which methods.
type crossCheck struct {
	*reader

	compiled *compiled

	// What was found, by the blocks that it is about: one mistake is one error,
	// for however many methods.
	timeouts map[[2]*block]*found
	hedges   map[*block]*found
	loses    map[*block]*found // a block of the file to one of a .proto file
	winner   map[*block]*block
	resends  map[*block]bool // retries that an idempotent method has
}

// found counts methods, and keeps the first by name.
type found struct {
	first string
	count int
}

// count notes that something was found for a method. Methods come by name.
func count[K comparable](in map[K]*found, k K, method string) {
	if f := in[k]; f != nil {
		f.count++
		return
	}
	in[k] = &found{method, 1}
}

func (c *crossCheck) run() {
	c.timeouts, c.hedges, c.loses = map[[2]*block]*found{}, map[*block]*found{}, map[*block]*found{}
	c.winner, c.resends = map[*block]*block{}, map[*block]bool{}
	for _, t := range c.targets() {
		for side := range order {
			c.method(t, interceptors.Side(side)) //nolint:gosec // 0 or 1
		}
	}
	for pair, f := range c.timeouts {
		attempt, whole := pair[0], pair[1]
		c.problem(attempt.rule, attempt.at, attempt.path, "is %s, must be below client.timeout, which is %s for %s%s%s",
			attempt.text, whole.text, f.first, andMore(f.count-1), ofAnother(attempt, whole))
	}
	for b, f := range c.hedges {
		c.problem(b.rule, b.at, b.path, "is for %s%s, of which nothing says that it may be carried out twice: the rule must say idempotency: IDEMPOTENT, if it is",
			f.first, andMore(f.count-1))
	}
	for _, r := range c.compiled.rules {
		if r.enforced() || r.shadow() {
			c.rule(r)
		}
	}
}

// targets returns the methods that the program knows, by name, one that it does
// not know, and those that rules name.
func (c *crossCheck) targets() []target {
	named := c.compiled.named()
	all := make([]target, 0, len(named)+1)
	for _, t := range named {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b target) int { return cmp.Compare(a.name, b.name) })
	return append(all, target{name: "methods that the program does not know"})
}

// method checks what holds for t on one side.
func (c *crossCheck) method(t target, side interceptors.Side) {
	v := c.compiled.resolve(t, side)
	for i, b := range v.blocks {
		if b == nil {
			continue
		}
		if t.method == nil || b.kind.kinds.fit(t.method.Kind) {
			b.used++
		}
		if b.kind.name == "retry" && v.idempotent {
			c.resends[b] = true
		}
		if b.rule.fromProto {
			c.overridden(t, side, i, b)
		}
	}
	if side == interceptors.SideClient && (t.method == nil || t.method.Kind == interceptors.KindUnary) {
		c.attempts(t, &v)
		c.hedged(t, &v)
	}
}

// overridden notes the blocks of less specific rules of the file that b, of a
// .proto file, takes the place of.
func (c *crossCheck) overridden(t target, side interceptors.Side, i int, b *block) {
	for _, s := range c.compiled.at(t) {
		if s == nil || s.blocks[side][i] == nil || s.blocks[side][i].rule.fromProto {
			continue
		}
		loser := s.blocks[side][i]
		count(c.loses, loser, t.name)
		if c.winner[loser] == nil {
			c.winner[loser] = b
		}
	}
}

func (c *crossCheck) attempts(t target, v *verdict) {
	attempt, whole := v.blocks[kind(interceptors.SideClient, "attempt_timeout").index], v.blocks[kind(interceptors.SideClient, "timeout").index]
	if attempt == nil || whole == nil || attempt.off || whole.off {
		return
	}
	if durationOf(attempt) >= durationOf(whole) {
		count(c.timeouts, [2]*block{attempt, whole}, t.name)
	}
}

// ofAnother names the rule of whole if it is not that of b.
func ofAnother(b, whole *block) string {
	if b.rule == whole.rule {
		return ""
	}
	return fmt.Sprintf(" by rule %q (%v)", whole.rule.name, whole.at)
}

func durationOf(b *block) int64 { return int64(b.message().(*durationpb.Duration).AsDuration()) }

// hedged finds hedges of rules that name a method which is not idempotent. One
// that is inherited merely has no effect.
func (c *crossCheck) hedged(t target, v *verdict) {
	b := v.blocks[kind(interceptors.SideClient, "hedge").index]
	if b == nil || b.off || v.idempotent || !b.rule.has[t.name] && !b.rule.fromProto {
		return
	}
	if b.rule.fromProto && b.rule.patterns[0].level != levelProtoMethod {
		return
	}
	count(c.hedges, b, t.name)
}

// rule checks the blocks of one rule against the kinds of its methods. The pattern
// "/*" is for methods of all kinds, whichever of them this program knows: one file
// may be that of many programs.
func (c *crossCheck) rule(r *rule) {
	var unary, streams, all int
	everything := false
	for _, p := range r.patterns {
		everything = everything || p.level == levelAll
		for _, m := range c.compiled.catalogue.matching(p) {
			all++
			if m.Kind == interceptors.KindUnary {
				unary++
			} else {
				streams++
			}
			if unary > 0 && streams > 0 {
				break
			}
		}
	}
	for _, b := range r.blocks {
		switch {
		case b.off:
		case everything:
			c.warnings(b, all)
		case b.kind.kinds == onlyUnary && streams > 0 && unary == 0 && !r.hasBlock(kind(b.kind.side, "stream_timeout")):
			c.problem(r, b.at, b.path, "is for unary RPCs, and the rule has no unary method, must go%s", c.insteadOf(b))
		case b.kind.kinds == onlyStreams && unary > 0 && streams == 0 && !r.hasBlock(kind(b.kind.side, "timeout")):
			c.problem(r, b.at, b.path, "is for streams, and the rule has unary methods only, must go (did you mean timeout?)")
		default:
			c.warnings(b, all)
		}
	}
}

func (c *crossCheck) insteadOf(b *block) string {
	if b.kind.name == "timeout" {
		return " (did you mean stream_timeout?)"
	}
	return ""
}

// warnings warns of what has no effect.
func (c *crossCheck) warnings(b *block, methods int) {
	if b.rule.shadow() {
		if l, ok := b.message().(interface{ GetQueue() *policyv1.Queue }); ok && l.GetQueue() != nil {
			c.warn(b, "queue", "has no effect in a rule whose mode is SHADOW: RPCs that would wait count as refused")
		}
		return
	}
	if f := c.loses[b]; f != nil {
		w := c.winner[b]
		c.warn(b, "", "does not hold for %s%s: the .proto file is more specific (%v)", f.first, andMore(f.count-1), w.at)
	}
	if b.used == 0 && methods > 0 {
		c.warn(b, "", "has no effect: for all methods of the rule more specific rules have %s, or they are of another kind", b.kind.name)
		return
	}
	if m, ok := b.message().(*policyv1.Retry); ok && !resends(m, c.resends[b]) {
		c.warn(b, "", "sends nothing again but what was not sent, or what the server asks for: %s", whyNot(m))
	}
}

func whyNot(m *policyv1.Retry) string {
	if m.GetResend() == policyv1.Resend_RESEND_NEVER {
		return "resend is NEVER"
	}
	return "of none of the methods anything says that it is idempotent, and resend is not ALWAYS"
}

func (c *crossCheck) warn(b *block, field, format string, args ...any) {
	w := &checker{reader: &reader{}, block: b}
	w.wrong(field, format, args...)
	c.compiled.warnings = append(c.compiled.warnings, w.errs...)
}
