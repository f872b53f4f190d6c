package policy

import (
	"cmp"
	"slices"
	"sync"
	"weak"

	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret/interceptors"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A Policy is a compiled policy: the layers of [Policy.Client] and
// [Policy.Server] carry it out, and [Policy.Load] replaces it while they run.
// It may be used concurrently. Use [New].
type Policy struct {
	config Config

	mu   sync.Mutex
	now  *compiled
	sets []weak.Pointer[set]
}

// New compiles a document. The error is an [Errors] with all that is wrong, by
// position; [Policy.Warnings] has what is merely strange.
func New(d Document, c Config) (*Policy, error) {
	c = c.withDefaults()
	c.PerAttempt = slices.DeleteFunc(slices.Clone(c.PerAttempt), func(l interceptors.Layer) bool { return l == nil })
	made, err := compile(owned(d), c)
	if err != nil {
		return nil, err
	}
	return &Policy{config: c, now: made}, nil
}

// owned returns d with a copy of its message, so that a caller that changes it
// does no harm.
func owned(d Document) Document {
	d.Policy = proto.CloneOf(d.Policy)
	if d.Policy == nil {
		d.Policy = new(policyv1.Policy)
	}
	return d
}

// Document returns the document that is loaded. It must not be changed.
func (p *Policy) Document() Document {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.document
}

// Warnings returns what is strange in the policy that is loaded, by position: a
// block that has no effect on any method, for example. It must not be changed.
func (p *Policy) Warnings() Errors {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.warnings
}

// Client returns a [interceptors.Layer] that carries out the client side of the
// policy. Each call returns one with a state of its own (limits, budgets,
// breakers): use one for each target, and one Layer in several stacks to have
// them share it.
//
// It does nothing to RPCs of a server. Its Ready is that of what is inside it.
func (p *Policy) Client() interceptors.Layer { return p.layer(interceptors.SideClient) }

// Server returns a [interceptors.Layer] that carries out the server side of the
// policy. Each call returns one with a state of its own.
//
// It does nothing to RPCs of a client. Its Ready is that of what is inside it.
func (p *Policy) Server() interceptors.Layer { return p.layer(interceptors.SideServer) }

func (p *Policy) layer(side interceptors.Side) interceptors.Layer {
	s := &set{side: side, policy: p, perAttempt: p.config.PerAttempt, units: map[unitKey]*unit{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets = append(slices.DeleteFunc(p.sets, isGone), weak.Make(s))
	return s.add
}

func isGone[T any](p weak.Pointer[T]) bool { return p.Value() == nil }

// add puts the policy around inner.
func (s *set) add(inner interceptors.Service) interceptors.Service {
	made := &service{Service: inner, set: s}
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	b := newBuilder(s, s.policy.now)
	made.table.Store(b.table(inner))
	s.units = b.units
	s.services = append(slices.DeleteFunc(s.services, isGone), weak.Make(made))
	return made
}

// Load replaces the policy by that of d. It does all of it or, if d has an
// error, nothing.
//
// What a block keeps is found by the name of its rule, its side and its kind,
// and by the method where the scope is METHOD. If the block is the same, its
// state is kept. If only values have changed, it is retuned in place: what is
// counted, waits or is open stays. A few changes need a new state; the Changes
// name them. An RPC that has begun, streams included, ends under the policy that
// it began under, and leaves the gates that it entered.
//
// Load does not stop callers. It may be called concurrently; each call replaces
// the policy of the one before it.
func (p *Policy) Load(d Document) (Changes, error) {
	made, err := compile(owned(d), p.config)
	if err != nil {
		return Changes{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets = slices.DeleteFunc(p.sets, isGone)
	var commits []func()
	for _, w := range p.sets {
		if s := w.Value(); s != nil {
			commits = append(commits, s.prepare(made))
		}
	}
	for _, commit := range commits {
		commit()
	}
	changes := changesOf(p.now, made)
	p.now = made
	return changes, nil
}

// prepare makes all that the set needs for a policy. What it returns puts it in
// place, and cannot fail.
func (s *set) prepare(c *compiled) (commit func()) {
	b := newBuilder(s, c)
	s.services = slices.DeleteFunc(s.services, isGone)
	var stores []func()
	for _, w := range s.services {
		if made := w.Value(); made != nil {
			t := b.table(made.Service)
			stores = append(stores, func() { made.table.Store(t) })
		}
	}
	return func() {
		for _, retune := range b.retunes {
			retune()
		}
		for _, store := range stores {
			store()
		}
		s.units = b.units
	}
}

// ordered returns the units in the order of layers, then rules.
func (s *set) ordered() []*unit {
	all := make([]*unit, 0, len(s.units))
	keys := make(map[*unit]unitKey, len(s.units))
	for k, u := range s.units {
		all = append(all, u)
		keys[u] = k
	}
	slices.SortFunc(all, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.block.kind.index, b.block.kind.index), cmp.Compare(keys[a].block, keys[b].block), cmp.Compare(keys[a].method, keys[b].method))
	})
	return all
}

// Diff returns what p.Load(d) would change, and changes nothing. The error is
// that of Load.
func (p *Policy) Diff(d Document) (Changes, error) {
	made, err := compile(owned(d), p.config)
	if err != nil {
		return Changes{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return changesOf(p.now, made), nil
}

// Explain says what holds for a full method, "/package.Service/Method". It may be
// one that the program does not know.
func (p *Policy) Explain(method string) Explanation {
	p.mu.Lock()
	c := p.now
	p.mu.Unlock()
	return c.explain(method)
}
