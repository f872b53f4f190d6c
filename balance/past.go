package balance

import (
	"cmp"
	"maps"
	"slices"
)

// A past is what is remembered of members that have left: their endpoints, by name,
// for as long as the policy remembers its own. A source that flaps lifts no ban.
//
// Its methods require bans.mu. Those of a nil past do nothing.
type past struct {
	departed map[string]departure
	there    int   // members
	most     int   // the most members at once since none has departed; bounds departed
	swept    int64 // when departed was looked through last
}

// A departure is an endpoint that may come back.
type departure struct {
	*endpoint

	left int64
}

// arrive counts a member that has come, and returns its endpoint if it has left a
// short time ago; nil if it has not.
func (p *past) arrive(name string, now int64) *endpoint {
	if p == nil {
		return nil
	}
	p.there++
	p.most = max(p.most, p.there)
	known, ok := p.departed[name]
	delete(p.departed, name)
	if !ok || now-known.left > remembered {
		return nil
	}
	return known.endpoint
}

// leave keeps the endpoint of a member that has left.
func (p *past) leave(e *endpoint, now int64) {
	if p == nil {
		return
	}
	p.there--
	p.departed[e.name] = departure{e, now}
	if len(p.departed) > p.most || now-p.swept > remembered {
		p.sweep(now)
	}
}

// sweep drops endpoints that left a long time ago. If those that are left are more
// than p.most, it keeps the newest of them: half as many, so that it is rarely called.
func (p *past) sweep(now int64) {
	p.swept = now
	maps.DeleteFunc(p.departed, func(_ string, d departure) bool { return now-d.left > remembered })
	if len(p.departed) > p.most {
		all := slices.SortedFunc(maps.Values(p.departed), func(a, b departure) int { return cmp.Compare(b.left, a.left) })
		for _, d := range all[max(1, p.most/2):] {
			delete(p.departed, d.name)
		}
	}
	if len(p.departed) == 0 {
		p.most = p.there
	}
}
