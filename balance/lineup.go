package balance

import (
	"cmp"
	"slices"
	"time"

	"github.com/turret-go/turret/ready"
)

// A lineup is the members of a group that are ready, as far as is known, in the
// order of its choices.
type lineup[K comparable, S ready.Readier] struct {
	snapshot

	members []*ready.Member[K, *member[S]]
	listed  []*ready.Member[K, *member[S]] // the same as the cache lists them
	made    int64
}

const (
	// current is how many members a lineup may have and be made anew at every
	// change. Under load, members become full and have room again all the time,
	// and what that costs grows with their number.
	current = 256
	// pace is how old a lineup of more may become, for each of its members, before
	// it is looked at again. Whoever is in it and not ready is found out when it is
	// asked; whoever is ready and not in it waits this long for its first call.
	pace = int64(time.Microsecond)
	// patience is how often a call asks members of such a lineup in vain before it
	// wants a new one.
	patience = 3
)

// lineup returns the members to choose from: those of this moment if fresh is
// true or they are few.
func (g *group[K, S]) lineup(now int64, fresh bool) *lineup[K, S] {
	l := g.newest.Load()
	if l == nil {
		return g.line(now)
	}
	if n := len(l.members); !fresh && n > current && now-l.made < int64(n)*pace {
		return l
	}
	if !same(l.listed, g.cache.Members()) {
		return g.line(now)
	}
	return l
}

// line makes a lineup of the members of this moment. One that is in a lineup for
// the first time begins its slow start.
func (g *group[K, S]) line(now int64) *lineup[K, S] {
	g.building.Lock()
	defer g.building.Unlock()
	listed := g.cache.Members()
	if l := g.newest.Load(); l != nil && same(l.listed, listed) {
		return l // somebody was quicker
	}
	members := listed
	if g.config.Seed != 0 {
		// The cache has them in the order in which they became ready. In that of
		// their insertion the same random words make the same choices.
		members = slices.Clone(listed)
		slices.SortFunc(members, func(a, b *ready.Member[K, *member[S]]) int { return cmp.Compare(a.Service.id, b.Service.id) })
	}
	choices := make([]choice, len(members))
	for i, m := range members {
		if s := m.Service; !s.seen {
			s.seen = true
			s.warmUp(now)
		}
		choices[i] = m.Service.choice(i)
	}
	l := &lineup[K, S]{snapshot{choices: choices, config: g.config}, members, listed, now}
	g.newest.Store(l)
	g.count(len(members))
	return l
}

// same reports whether a and b are one slice. The cache returns another one after
// each change.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
