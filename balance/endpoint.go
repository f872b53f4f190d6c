package balance

import (
	"sync/atomic"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/internal/tried"
	"github.com/turret-go/turret/load"
)

// An endpoint is what the policy knows of one endpoint of the channel. It lives
// from the resolver update that names the endpoint to the first that does not:
// pickers come and go, and connections too.
type endpoint struct {
	id      uint64 // in the records of package tried
	address string
	config  *settings

	tracker  load.Tracker
	streams  load.StreamTracker // tracker, if it is one
	failures *breaker.Circuit
	slowness *breaker.Circuit

	inflight atomic.Int64
	born     atomic.Int64 // when it became ready last; its slow start begins here

	// Guarded by policy.mu.
	order int  // by address
	ready bool // in the newest snapshot
	gone  bool // no longer named by the resolver
	out   bool // counted in policy.out
}

// newEndpoint returns an endpoint without a past.
func newEndpoint(c *settings, fleet *load.Fleet, address string) *endpoint {
	e := &endpoint{
		id: tried.NewID(), address: address, config: c,
		tracker:  c.newTracker(fleet),
		failures: breaker.NewCircuit(c.Failures.circuit()),
		slowness: breaker.NewCircuit(c.Outliers.circuit()),
	}
	e.streams, _ = e.tracker.(load.StreamTracker)
	return e
}

// A standing says how fit an endpoint is for a call; the greater the worse.
type standing uint8

const (
	onTrial standing = iota // its ban is over: the next call to it is a probe
	inUse                   // like any other
	again                   // fit, but this RPC has tried it
	banned
	full
)

// standing returns how fit e is for a call of the RPC of this record. An RPC
// that was tried before is not used to try an endpoint out.
func (e *endpoint) standing(now int64, record *tried.Record) standing {
	if e.config.Limit > 0 && e.inflight.Load() >= int64(e.config.Limit) {
		return full
	}
	if !e.failures.IsClosed() || !e.slowness.IsClosed() {
		if record.Len() > 0 || e.failures.Refuses(now) || e.slowness.Refuses(now) {
			return banned
		}
		return onTrial
	}
	if record.Has(e.id) {
		return again
	}
	return inUse
}

// load is what endpoints are compared by.
func (e *endpoint) load(now int64) float64 {
	l := e.tracker.Load(now)
	if age := now - e.born.Load(); age < int64(e.config.SlowStart) {
		l /= max(coldest, float64(age)/float64(e.config.SlowStart))
	}
	return l
}

// coldest bounds what slow start makes of a load.
const coldest = 0.1

// passes are the tickets of an endpoint's two circuits for one call, without
// what circuits do not use: a call's closure is one allocation, and small.
type passes struct{ failures, slowness pass }

type pass struct {
	start int64
	data  uint64
}

func (p pass) ticket() turret.Ticket { return turret.Ticket{Start: p.start, Data: p.data} }

// An admission says how a call enters an endpoint.
type admission uint8

const (
	asking    admission = iota // for room, and the circuits' leave
	panicking                  // for room only
	crowding                   // for nothing
)

// enter takes a call in. It fails if others have taken the room, or the place
// of the probe, since the standing was asked for. a says what not to ask for.
func (e *endpoint) enter(now int64, a admission) (p passes, ok bool) {
	if n := e.inflight.Add(1); e.config.Limit > 0 && n > int64(e.config.Limit) && a != crowding {
		e.inflight.Add(-1)
		return p, false
	}
	f, _, ok := e.failures.Enter(now)
	if !ok && a == asking {
		e.inflight.Add(-1)
		return p, false
	}
	p.failures = pass{f.Start, f.Data}
	s, _, ok := e.slowness.Enter(now)
	if !ok && a == asking {
		e.inflight.Add(-1)
		e.failures.Leave(now, f, turret.Unused, 0)
		return p, false
	}
	p.slowness = pass{s.Start, s.Data}
	return p, true
}

// cancel gives back what enter took for a call that was not sent.
func (e *endpoint) cancel(now int64, p passes) {
	e.inflight.Add(-1)
	e.failures.Leave(now, p.failures.ticket(), turret.Unused, 0)
	e.slowness.Leave(now, p.slowness.ticket(), turret.Unused, 0)
}
