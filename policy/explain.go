package policy

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy/internal/render"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// An Explanation says what holds for a method, and why.
type Explanation struct {
	// Method is the full method that was asked for.
	Method string `json:"method"`
	// Known says whether the program knows the method.
	Known bool `json:"known"`
	// Kind is the kind of its RPCs, if it is known.
	Kind string `json:"kind,omitempty"`
	// File is its .proto file, if it is known.
	File string `json:"file,omitempty"`
	// Idempotency is what is known of carrying out a request twice: UNKNOWN,
	// IDEMPOTENT, NO_SIDE_EFFECTS.
	Idempotency string `json:"idempotency"`
	// IdempotencyBy says where that is from; empty where nothing says it.
	IdempotencyBy string `json:"idempotency_by,omitempty"`
	// Blocks are the blocks that hold, those of the client first, each side in the
	// order of the layers, outermost first.
	Blocks []Held `json:"blocks"`
	// Shadows are the blocks that are only counted.
	Shadows []Held `json:"shadows,omitempty"`
}

// A Held is a block that holds for a method.
type Held struct {
	Side  string   `json:"side"`  // "client"
	Block string   `json:"block"` // "retry"
	Value string   `json:"value"` // YAML in one line
	Rule  string   `json:"rule"`
	Why   string   `json:"why,omitempty"` // what the rule says of itself
	At    Position `json:"at"`
	// Effect says what the block does not do for this method; empty where it does
	// all that it says.
	Effect string `json:"effect,omitempty"`
	// Over are the blocks of less specific rules, whose place it takes.
	Over []Held `json:"over,omitempty"`
}

// explain says what holds for a full method.
func (c *compiled) explain(method string) Explanation {
	t := c.target(method)
	level, by := c.idempotency(t, c.at(t))
	e := Explanation{Method: method, Idempotency: render.Enum(level.Descriptor(), level.Number()), IdempotencyBy: by}
	if m := t.method; m != nil {
		e.Known, e.Kind, e.File = true, m.Kind.String(), m.File
	}
	for side := range order {
		side := interceptors.Side(side) //nolint:gosec // 0 or 1
		v := c.resolve(t, side)
		for _, b := range v.blocks {
			if b == nil {
				continue
			}
			held := heldOf(b)
			held.Effect = effectOf(b, t, &v)
			held.Over = c.over(t, b)
			e.Blocks = append(e.Blocks, held)
		}
		for _, b := range c.shadowsOf(t, side) {
			held := heldOf(b)
			held.Effect = effectOf(b, t, &v)
			e.Shadows = append(e.Shadows, held)
		}
	}
	return e
}

func heldOf(b *block) Held {
	return Held{Side: b.kind.side.String(), Block: b.kind.name, Value: b.text, Rule: b.rule.name, Why: b.rule.why, At: b.at}
}

// over returns the blocks of less specific rules whose place b takes for t.
func (c *compiled) over(t target, b *block) (all []Held) {
	for _, s := range c.at(t) {
		if s == nil {
			continue
		}
		if other := s.blocks[b.kind.side][b.kind.index]; other != nil && other != b {
			all = append(all, heldOf(other))
		}
	}
	return all
}

// effectOf says what b does not do for t; "" if it does all that it says.
func effectOf(b *block, t target, v *verdict) string {
	switch {
	case b.off:
		return ""
	case t.method != nil && !b.kind.kinds.fit(t.method.Kind):
		return "no effect: " + map[kinds]string{onlyUnary: "a stream", onlyStreams: "a unary RPC"}[b.kind.kinds]
	}
	switch m := b.message().(type) {
	case *policyv1.Hedge:
		if !v.idempotent {
			return "no effect: not known to be idempotent"
		}
	case *policyv1.Retry:
		if !resends(m, v.idempotent) {
			return "only what was not sent, or what the server asks for"
		}
	}
	return ""
}

// String returns the explanation as a table.
func (e Explanation) String() string {
	var b strings.Builder
	kind := "not known to the program"
	if e.Known {
		kind = e.Kind
	}
	fmt.Fprintf(&b, "%s  %s, idempotency %s", e.Method, kind, e.Idempotency)
	if e.IdempotencyBy != "" {
		fmt.Fprintf(&b, " by %s", e.IdempotencyBy)
	}
	if e.File != "" {
		fmt.Fprintf(&b, " (%s)", e.File)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, h := range e.Blocks {
		h.write(w, "")
	}
	for _, h := range e.Shadows {
		h.write(w, "shadow ")
	}
	if len(e.Blocks)+len(e.Shadows) == 0 {
		fmt.Fprintln(w, "  nothing holds")
	}
	_ = w.Flush() // to a Builder, which takes everything
	e.writeWhy(&b)
	return strings.TrimRight(b.String(), "\n")
}

// writeWhy writes why each rule is there, once.
func (e Explanation) writeWhy(b *strings.Builder) {
	said := map[string]bool{}
	for _, h := range append(slices.Clone(e.Blocks), e.Shadows...) {
		if h.Why != "" && !said[h.Rule] {
			said[h.Rule] = true
			fmt.Fprintf(b, "  why %s: %s\n", h.Rule, h.Why)
		}
	}
}

func (h Held) write(w *tabwriter.Writer, prefix string) {
	line := fmt.Sprintf("  %s%s %s\t%s\t%s\t%s", prefix, h.Side, h.Block, h.Value, h.Rule, h.At)
	if h.Effect != "" {
		line += "\t[" + h.Effect + "]"
	}
	fmt.Fprintln(w, line)
	for _, o := range h.Over {
		fmt.Fprintf(w, "  \tover %s\t%s\t%s\n", o.Value, o.Rule, o.At)
	}
}
