package limit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// Defaults and bounds of [KeyedConfig].
const (
	defaultKeys     = 10_000
	mostKeys        = 10_000_000
	defaultKeyLimit = 100
	longestKey      = 128 // bytes of a key that are kept; of a longer one a hash is
)

// A KeyedConfig says what gate each key of a [Keyed] has. The zero value is a good
// one.
type KeyedConfig struct {
	// New returns the gate of a key that has none. nil means a [Concurrency] of
	// 100 calls without a line. It is called with a mutex held, one call at a
	// time, and must not use the Keyed; it must not return nil.
	New func(key string) turret.Gate
	// MaxKeys is how many keys may have a gate at once. When there are as many,
	// the one that was used longest ago and holds nothing makes room for another.
	// If all hold something, further keys share one gate, made for the key "". 0
	// means 10,000. At most 10,000,000; negative: an error.
	MaxKeys int
}

// Validate returns a [*turret.FieldError] if c cannot be used.
func (c KeyedConfig) Validate() error {
	if c.MaxKeys < 0 || c.MaxKeys > mostKeys {
		return invalid("MaxKeys", c.MaxKeys, fmt.Sprintf("between 0 (which means %d) and %d", defaultKeys, mostKeys))
	}
	return nil
}

// A Keyed has a gate for each key: a tenant, a peer, a method. Its memory is
// bounded: it holds at most MaxKeys gates and one more, and of a key at most 128
// bytes: of a longer one the first 64 and a hash, which New gets as the key.
//
// A key that makes room for another loses what its gate knew: the tokens that it
// had used, the state of its breaker. Give MaxKeys room for the keys that are
// active within the time that a gate remembers.
//
// It is no Gate by itself, since a [turret.Gate] knows no key; [Keyed.By] makes
// one. It is made by [NewKeyed]. Its methods may be called concurrently.
type Keyed struct {
	config KeyedConfig

	mu      sync.Mutex
	gates   map[string]*keyedGate
	idle    keyedList  // gates that hold nothing, used longest ago first
	shared  *keyedGate // of keys that found no room; nil until there was one
	evicted uint64
	beyond  uint64 // calls that went to the shared gate
}

// A keyedGate is the gate of a key.
type keyedGate struct {
	gate       turret.Gate
	key        string
	users      int // calls inside, in line, or on their way there
	prev, next *keyedGate
}

// NewKeyed returns a [Keyed]. It panics with the error of c.Validate if there is
// one.
func NewKeyed(c KeyedConfig) *Keyed {
	misuse.Check("limit: NewKeyed", c.Validate())
	c.MaxKeys = cmp.Or(c.MaxKeys, defaultKeys)
	if c.New == nil {
		c.New = func(string) turret.Gate { return NewConcurrency(defaultKeyLimit, Queue{}) }
	}
	return &Keyed{config: c, gates: map[string]*keyedGate{}}
}

// Enter enters the gate of key.
func (k *Keyed) Enter(ctx context.Context, key string) (turret.Ticket, error) {
	g := k.take(key)
	entered := false
	defer func() {
		if !entered { // refused, or the gate panicked
			k.release(g)
		}
	}()
	ticket, err := g.gate.Enter(ctx)
	entered = err == nil
	return g.mark(ticket), err
}

// TryEnter enters the gate of key if there is room now.
func (k *Keyed) TryEnter(ctx context.Context, key string) (turret.Ticket, error) {
	g := k.take(key)
	entered := false
	defer func() {
		if !entered {
			k.release(g)
		}
	}()
	ticket, err := g.gate.TryEnter(ctx)
	entered = err == nil
	return g.mark(ticket), err
}

// Leave leaves the gate that t is of.
func (k *Keyed) Leave(t turret.Ticket, o turret.Outcome) {
	g, ok := t.Ref.(*keyedGate)
	if !ok {
		m := t.Ref.(*markedTicket)
		g, t.Ref = m.gate, m.ref
	} else {
		t.Ref = nil
	}
	defer k.release(g)
	g.gate.Leave(t, o)
}

// A markedTicket is the Ref of a ticket whose gate has a Ref of its own.
type markedTicket struct {
	gate *keyedGate
	ref  any
}

// mark puts g into t, for Leave.
func (g *keyedGate) mark(t turret.Ticket) turret.Ticket {
	if t.Ref == nil {
		t.Ref = g
	} else {
		t.Ref = &markedTicket{g, t.Ref}
	}
	return t
}

// Ready asks the gate of key. A key that has no gate yet is ready.
func (k *Keyed) Ready(ctx context.Context, key string) error {
	key = short(key)
	k.mu.Lock()
	g, ok := k.gates[key]
	if !ok && len(k.gates) >= k.config.MaxKeys && k.idle.first == nil {
		g, ok = k.shared, k.shared != nil
	}
	if !ok {
		k.mu.Unlock()
		return nil
	}
	k.use(g)
	k.mu.Unlock()
	defer k.release(g)
	return g.gate.Ready(ctx)
}

// By returns a [turret.Gate] that asks key for the key of each call. key may be
// called concurrently. It panics if key is nil.
func (k *Keyed) By(key func(ctx context.Context) string) turret.Gate {
	if key == nil {
		misuse.Check("limit: Keyed.By", invalid("key", nil, "non-nil"))
	}
	return &keyedBy{k, key}
}

type keyedBy struct {
	keyed *Keyed
	key   func(ctx context.Context) string
}

func (b *keyedBy) Ready(ctx context.Context) error { return b.keyed.Ready(ctx, b.key(ctx)) }

func (b *keyedBy) Enter(ctx context.Context) (turret.Ticket, error) {
	return b.keyed.Enter(ctx, b.key(ctx))
}

func (b *keyedBy) TryEnter(ctx context.Context) (turret.Ticket, error) {
	return b.keyed.TryEnter(ctx, b.key(ctx))
}

func (b *keyedBy) Leave(t turret.Ticket, o turret.Outcome) { b.keyed.Leave(t, o) }

func (b *keyedBy) String() string { return b.keyed.String() }

func (b *keyedBy) Describe(d *turret.Description) { d.Forward(b.keyed) }

// short returns key, or the beginning of one that is too long to keep, with a hash.
// Invariant: it is the same in all processes, which may share the limit of a key.
func short(key string) string {
	if len(key) <= longestKey {
		return key
	}
	hash := sha256.Sum256([]byte(key))
	return fmt.Sprintf("%s…%x", strings.ToValidUTF8(key[:64], ""), hash[:16])
}

// take returns the gate of key and counts one user more of it.
func (k *Keyed) take(key string) *keyedGate {
	key = short(key)
	k.mu.Lock()
	defer k.mu.Unlock()
	if g, ok := k.gates[key]; ok {
		k.use(g)
		return g
	}
	if len(k.gates) >= k.config.MaxKeys {
		oldest := k.idle.first
		if oldest == nil {
			return k.share()
		}
		k.idle.remove(oldest)
		delete(k.gates, oldest.key)
		k.evicted++
	}
	g := &keyedGate{key: strings.Clone(key), users: 1}
	g.gate = k.made(g.key)
	k.gates[g.key] = g
	return g
}

// share returns the gate of keys for which there is no room. k.mu is held.
func (k *Keyed) share() *keyedGate {
	if k.shared == nil {
		k.shared = &keyedGate{gate: k.made("")}
	}
	k.beyond++
	k.use(k.shared)
	return k.shared
}

func (k *Keyed) made(key string) turret.Gate {
	g := k.config.New(key)
	if g == nil {
		misuse.Check("limit: Keyed", invalid("result of New", nil, "non-nil"))
	}
	return g
}

// use counts one user more of g. k.mu is held.
func (k *Keyed) use(g *keyedGate) {
	if g.users == 0 && g != k.shared {
		k.idle.remove(g)
	}
	g.users++
}

// release counts one user less of g.
func (k *Keyed) release(g *keyedGate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g.users--
	if g.users == 0 && g != k.shared {
		k.idle.push(g)
	}
}

// A keyedList is gates in the order in which they became idle.
type keyedList struct {
	first, last *keyedGate
	n           int
}

func (l *keyedList) push(g *keyedGate) {
	g.prev, g.next = l.last, nil
	if l.last != nil {
		l.last.next = g
	} else {
		l.first = g
	}
	l.last = g
	l.n++
}

func (l *keyedList) remove(g *keyedGate) {
	if g.prev != nil {
		g.prev.next = g.next
	} else {
		l.first = g.next
	}
	if g.next != nil {
		g.next.prev = g.prev
	} else {
		l.last = g.prev
	}
	g.prev, g.next = nil, nil
	l.n--
}
