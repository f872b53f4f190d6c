package policy

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy/internal/render"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// kinds says of which kinds of RPC a block is.
type kinds uint8

const (
	allKinds kinds = iota
	onlyUnary
	onlyStreams
)

func (k kinds) fit(rpc interceptors.Kind) bool {
	switch k {
	case onlyUnary:
		return rpc == interceptors.KindUnary
	case onlyStreams:
		return rpc != interceptors.KindUnary
	case allKinds:
	}
	return true
}

// A blockKind is one of the fields of Client or Server.
type blockKind struct {
	side  interceptors.Side
	name  string // "rate_limit"
	index int    // in the order of the layers, outermost first
	field protoreflect.FieldDescriptor
	kinds kinds
	// unshadowed says that a shadow rule must not have it.
	unshadowed bool
}

// path returns "client.rate_limit".
func (k *blockKind) path() string { return k.side.String() + "." + k.name }

// maxBlocks is how many kinds of block a side has at most.
const maxBlocks = 12

// perAttempt is where Config.PerAttempt goes: in front of this block.
const perAttempt = "criticality"

// order is the order of the layers of each side, outermost first.
var order = [2][]*blockKind{
	interceptors.SideClient: kindsOf(interceptors.SideClient, (*policyv1.Client)(nil).ProtoReflect().Descriptor(),
		"wait_for_ready", "timeout", "stream_timeout", "threshold", "retry", "hedge", "criticality", "throttle",
		"breaker", "rate_limit", "attempt_timeout", "limit"),
	interceptors.SideServer: kindsOf(interceptors.SideServer, (*policyv1.Server)(nil).ProtoReflect().Descriptor(),
		"criticality", "rate_limit", "per_key", "adaptive_limit", "limit", "timeout", "stream_timeout"),
}

func kindsOf(side interceptors.Side, d protoreflect.MessageDescriptor, names ...string) []*blockKind {
	all := make([]*blockKind, len(names))
	for i, name := range names {
		k := &blockKind{side: side, name: name, index: i, field: d.Fields().ByTextName(name)}
		switch name {
		case "timeout", "attempt_timeout":
			k.kinds = onlyUnary
		case "stream_timeout":
			k.kinds = onlyStreams
		case "hedge":
			k.kinds, k.unshadowed = onlyUnary, true
		case "retry", "wait_for_ready", "criticality", "threshold", "adaptive_limit":
			k.unshadowed = true
		}
		all[i] = k
	}
	return all
}

// kind returns the kind of block of that name.
func kind(side interceptors.Side, name string) *blockKind {
	i := slices.IndexFunc(order[side], func(k *blockKind) bool { return k.name == name })
	return order[side][i]
}

// Order returns the names of the blocks of a side in the order of their layers,
// outermost first. It is the same for all policies.
func Order(side interceptors.Side) []string {
	names := make([]string, len(order[side]))
	for i, k := range order[side] {
		names[i] = k.name
	}
	return names
}

// A block is what a rule says of one kind.
type block struct {
	rule  *rule
	kind  *blockKind
	value protoreflect.Value
	off   bool // the block takes away what less specific rules say
	text  string
	path  string // "rules[0].client.retry"
	at    Position

	used int // methods that have the block
}

func newBlock(r *rule, k *blockKind, value protoreflect.Value) *block {
	b := &block{
		rule: r, kind: k, value: value,
		text: render.Value(k.field, value),
		path: joinPath(r.path, k.path()),
	}
	b.at = r.position(b.path)
	b.off = isOff(k, value)
	return b
}

func joinPath(path, field string) string { return strings.TrimPrefix(path+"."+field, ".") }

// isOff reports whether a block says that there is to be none.
func isOff(k *blockKind, v protoreflect.Value) bool {
	if k.field.Kind() != protoreflect.MessageKind {
		return false
	}
	m := v.Message()
	if d, ok := m.Interface().(*durationpb.Duration); ok {
		return d.AsDuration() == 0
	}
	off := m.Descriptor().Fields().ByName("off")
	return off != nil && m.Get(off).Bool()
}

// scope returns the scope of a block, or of the budget in it.
func (b *block) scope() policyv1.Scope {
	var scope policyv1.Scope
	switch m := b.message().(type) {
	case *policyv1.Retry:
		scope = m.GetBudget().GetScope()
	case *policyv1.Hedge:
		scope = m.GetBudget().GetScope()
	case interface{ GetScope() policyv1.Scope }:
		scope = m.GetScope()
	}
	return scope
}

// byMethod reports whether each method has a state of its own.
func (b *block) byMethod() bool {
	return !b.off && b.scope() == policyv1.Scope_SCOPE_METHOD
}

// message returns the message of the block; nil for a block that is a bool.
func (b *block) message() any {
	if b.kind.field.Kind() != protoreflect.MessageKind {
		return nil
	}
	return b.value.Message().Interface()
}

// id is what the state of a block is known by when the policy is loaded again.
func (b *block) id() string {
	id := b.rule.name + " " + b.kind.path()
	if b.rule.shadow() {
		id += " (shadow)"
	}
	return id
}

// stateful reports whether a block has a unit.
func (b *block) stateful() bool {
	switch b.message().(type) {
	case *policyv1.Retry, *policyv1.Hedge, *policyv1.Limit, *policyv1.RateLimit, *policyv1.Breaker,
		*policyv1.Throttle, *policyv1.Threshold, *policyv1.AdaptiveLimit, *policyv1.PerKey:
		return !b.off
	}
	return false
}
