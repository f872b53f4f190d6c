package balance

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret/ready"
)

// A member is an endpoint that is a service: the service, its measurements, and
// the number of its users. It stands for this service, not for whatever is under its
// key.
type member[S ready.Readier] struct {
	*endpoint

	service S
	weight  float64 // at least 1
	// uses is twice the number of calls that hold the member, and one more when
	// it has gone: a call either holds it before that or does not get it.
	uses    atomic.Int64
	retired atomic.Bool
	seen    bool // in a lineup; guarded by group.building
}

const (
	memberGone = 1
	memberCall = 2
)

// Ready asks the service.
func (m *member[S]) Ready(ctx context.Context) error { return m.service.Ready(ctx) }

// hold keeps the service from being retired until an unhold, unless it has gone.
// A hold that failed must be ended with unhold too: it was counted.
func (m *member[S]) hold() bool { return m.uses.Add(memberCall)&memberGone == 0 }

// unhold ends a hold, one that failed too, and reports whether m is to be
// retired.
func (m *member[S]) unhold() bool {
	return m.uses.Add(-memberCall) == memberGone && m.retired.CompareAndSwap(false, true)
}

// quit notes that m has gone, and reports whether it is to be retired.
// Of quit and the last unhold, whichever comes last retires the member, once.
func (m *member[S]) quit() bool {
	return m.uses.Or(memberGone) == 0 && m.retired.CompareAndSwap(false, true)
}

// A lineup is the members of a group that are ready, as far as is known, in the
// order of its choices.
type lineup[K comparable, S ready.Readier] struct {
	snapshot

	members []*ready.Member[K, *member[S]]
	listed  []*ready.Member[K, *member[S]] // the same as the cache lists them
	// made is when, on the pool's clock.
	made int64
}

const (
	// current is how many members a lineup may have and be made anew at every
	// change. Under load, members become full and have room again all the time,
	// and what that costs grows with their number.
	current = 256
	// pace is how old a lineup of more may become, for each of its members, before
	// it is rebuilt. A member in it that is not ready is found so when it is tried; a
	// ready member that is not in it waits this long for its first call.
	pace = int64(time.Microsecond)
	// patience is how often a call asks members of such a lineup in vain before it
	// wants a new one.
	patience = 3
)

// A roster makes the lineups of a group.
type roster[K comparable, S ready.Readier] struct {
	config *settings
	cache  *ready.Cache[K, *member[S]]
	count  func(ready int) // is called with the size of each new lineup

	newest   atomic.Pointer[lineup[K, S]]
	building sync.Mutex // held while a lineup is made
}

// lineup returns the members to choose from: those of this moment if fresh is
// true or they are few.
// It takes no lock while the list is current.
func (r *roster[K, S]) lineup(now int64, fresh bool) *lineup[K, S] {
	l := r.newest.Load()
	if l == nil {
		return r.line(now)
	}
	if n := len(l.members); !fresh && n > current && now-l.made < int64(n)*pace {
		return l
	}
	if !same(l.listed, r.cache.Members()) {
		return r.line(now)
	}
	return l
}

// line makes a lineup of the members of this moment. One that is in a lineup for
// the first time begins its slow start.
func (r *roster[K, S]) line(now int64) *lineup[K, S] {
	r.building.Lock()
	defer r.building.Unlock()
	listed := r.cache.Members()
	if l := r.newest.Load(); l != nil && same(l.listed, listed) {
		return l // another call was quicker
	}
	members := listed
	if r.config.Seed != 0 {
		// The cache has them in the order in which they became ready. In that of
		// their insertion the same random words make the same choices.
		members = slices.Clone(listed)
		slices.SortFunc(members, func(a, b *ready.Member[K, *member[S]]) int { return cmp.Compare(a.Service.id, b.Service.id) })
	}
	choices, weights := make([]choice, len(members)), make([]float64, len(members))
	for i, m := range members {
		if s := m.Service; !s.seen {
			s.seen = true
			s.warmUp(now)
		}
		choices[i], weights[i] = newChoice(m.Service.endpoint, i), m.Service.weight
	}
	l := &lineup[K, S]{snapshot{choices: choices, weights: aliasOf(weights), config: r.config}, members, listed, now}
	r.newest.Store(l)
	r.count(len(members))
	return l
}

// same reports whether a and b are one slice. The cache returns another one after
// each change.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
