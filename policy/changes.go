package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A Fate says what became of a block when a policy was loaded.
type Fate uint8

// The fates. The zero value is none of them.
const (
	// FateRetuned: its values have changed, and its state is kept.
	FateRetuned Fate = iota + 1
	// FateRenewed: it has begun with a new state.
	FateRenewed
	// FateDropped: it is gone. RPCs that were inside leave the old gate.
	FateDropped
	// FateMade: it is new.
	FateMade
)

// String returns the name of f in lower case.
func (f Fate) String() string {
	switch f {
	case FateRetuned:
		return "retuned"
	case FateRenewed:
		return "renewed"
	case FateDropped:
		return "dropped"
	case FateMade:
		return "made"
	default:
		return fmt.Sprintf("Fate(%d)", uint8(f))
	}
}

// MarshalText returns what String does, for JSON. It never fails; an unknown fate
// is Fate(9).
func (f Fate) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// A Change is what became of one block of one rule.
type Change struct {
	Rule  string `json:"rule"`
	Block string `json:"block"` // "client.retry"
	Fate  Fate   `json:"fate"`
	// Old and New are the block as YAML in one line; empty where there is none.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
	// At is where the block is written, for a dropped one where it was.
	At Position `json:"at"`
	// Shadow says that the rule is only counted.
	Shadow bool `json:"shadow,omitempty"`
}

// String returns c in one line: "retuned everything client.limit: {max: 3} -> {max: 4}".
func (c Change) String() string {
	text := c.Fate.String() + " " + c.Rule + " " + c.Block
	if c.Shadow {
		text += " (shadow)"
	}
	switch {
	case c.Old == "":
		return text + ": " + c.New
	case c.New == "":
		return text + ": " + c.Old
	default:
		return text + ": " + c.Old + " -> " + c.New
	}
}

// Changes is what a policy that was loaded has changed.
type Changes struct {
	// Kept is how many blocks are as they were, with their state.
	Kept int `json:"kept"`
	// Changed are the others, by rule and block.
	Changed []Change `json:"changed"`
}

// String returns one line for each change, and the number of blocks that are as
// they were.
func (c Changes) String() string {
	lines := make([]string, 0, len(c.Changed)+1)
	for _, change := range c.Changed {
		lines = append(lines, change.String())
	}
	return strings.Join(append(lines, fmt.Sprintf("kept %d", c.Kept)), "\n")
}

// changesOf returns what becomes of the blocks of a policy when another takes its
// place.
func changesOf(old, now *compiled) (c Changes) {
	before, after := old.blocks(), now.blocks()
	for id, b := range after {
		was := before[id]
		switch {
		case was == nil:
			c.add(FateMade, nil, b)
		case fateOf(was, b) == kept:
			c.Kept++
		case fateOf(was, b) == renewed:
			c.add(FateRenewed, was, b)
		default:
			c.add(FateRetuned, was, b)
		}
	}
	for id, b := range before {
		if after[id] == nil {
			c.add(FateDropped, b, nil)
		}
	}
	slices.SortFunc(c.Changed, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Block, b.Block), cmp.Compare(a.Fate, b.Fate))
	})
	return c
}

// add adds what became of a block. Either old or now may be nil.
func (c *Changes) add(f Fate, old, now *block) {
	change, b := Change{Fate: f}, cmp.Or(now, old)
	change.Rule, change.Block, change.At, change.Shadow = b.rule.name, b.kind.path(), b.at, b.rule.mode == policyv1.Mode_MODE_SHADOW
	if old != nil {
		change.Old = old.text
	}
	if now != nil {
		change.New = now.text
	}
	c.Changed = append(c.Changed, change)
}

// andMore returns " (and 3 more)"; "" for none.
func andMore(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}
