package balance

import (
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/circuit"
)

// An endpoint is what a balancer knows of one endpoint. It lives as long as the
// endpoint is there: snapshots come and go, and connections too.
//
// Of thousands of endpoints none is in a cache when it is drawn. What a pick reads
// of those that it compares comes first, within one line; the circuits, which
// only the one that gets the call is asked for, are part of the endpoint, not
// behind pointers.
type endpoint struct {
	// The first line of memory: what a pick compares.
	id       uint64       // in the records of package attempts
	limit    atomic.Int64 // 0: none
	inflight atomic.Int64 // calls that entered while there was a limit
	warm     atomic.Int64 // when its slow start ends
	current  atomic.Pointer[tracker]
	reported atomic.Int64 // the latency that the endpoint says it has, in ns; 0 while it does not say that it is sick
	out      atomic.Bool  // a circuit is not closed; counted in bans.out unless gone
	gone     bool         // no longer there; guarded by bans.mu, which writers of out hold

	// failures opens for failed calls, slowness for calls that took unusually long.
	failures circuit.Circuit
	config   atomic.Pointer[settings]
	pool     *pool
	calls    atomic.Uint64 // that have ended; in a line that their end reads anyway
	slowness circuit.Circuit

	// For descriptions only.
	failed atomic.Uint64 // of calls
	name   string
	last   atomic.Pointer[Transition]
}

// newEndpoint returns an endpoint of p without a past. name is what people know it
// by.
func newEndpoint(p *pool, c *settings, name string) *endpoint {
	e := &endpoint{id: attempts.NewID(), name: name, pool: p}
	e.config.Store(c)
	e.track()
	e.limit.Store(int64(c.Limit))
	e.failures.Init(c.Failures.circuit(), c.random)
	e.slowness.Init(c.Outliers.circuit(), c.random)
	return e
}

// track measures e with a new tracker from now on. Calls in flight end at the
// tracker with which they began.
// A call holds the tracker with which it began: see visit.
func (e *endpoint) track() {
	t := e.config.Load().newTracker(e.pool.fleet)
	e.current.Store(&t)
}

// tracker returns what measures e.
func (e *endpoint) tracker() tracker { return *e.current.Load() }

// configure makes c the configuration of e, and keeps what is known of e as far
// as c still asks for it.
// Calls in flight that entered before there was a limit are not counted under it.
func (e *endpoint) configure(c *settings) {
	old := e.config.Swap(c)
	e.limit.Store(int64(c.Limit))
	if c.IgnoreAlarms {
		e.reported.Store(0)
	}
	if !old.sameTracker(c.Config) {
		e.track()
	}
	e.failures.SetConfig(c.Failures.circuit())
	e.slowness.SetConfig(c.Outliers.circuit())
}

// A standing says how fit an endpoint is for a call; the greater the worse.
// The order of the constants is the order of preference.
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
// It takes no lock while no circuit of e is open. The answer may be outdated when the
// call enters: enter decides.
func (e *endpoint) standing(now int64, record *attempts.Record) standing {
	if limit := e.limit.Load(); limit > 0 && e.inflight.Load() >= limit {
		return full
	}
	if e.out.Load() && (!e.failures.IsClosed() || !e.slowness.IsClosed()) {
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

// warmth is what a load is divided by: less than 1 in slow start.
func (e *endpoint) warmth(now int64) float64 {
	left := e.warm.Load() - now
	if left <= 0 {
		return 1
	}
	return max(coldest, 1-float64(left)/float64(e.config.Load().SlowStart))
}

// coldest bounds what slow start makes of a load.
const coldest = 0.1

// warmUp begins e's slow start.
func (e *endpoint) warmUp(now int64) { e.warm.Store(now + int64(e.config.Load().SlowStart)) }

// passes are the tickets of an endpoint's two circuits for one call, without
// what circuits do not use.
// Invariant: what enter gave is given back by one finish or one cancel.
type passes struct {
	failures, slowness pass

	counted bool // in inflight
}

type pass struct {
	start int64
	data  uint64
}

// ticket returns p as the circuit gave it.
func (p pass) ticket() turret.Ticket { return turret.Ticket{Start: p.start, Data: p.data} }

// An admission says how a call enters an endpoint.
type admission uint8

const (
	asking    admission = iota // for room, and the circuits' leave
	panicking                  // for room only
	crowding                   // for nothing
)

// enter takes the call of v in, and keeps its passes in v. It fails if others have
// taken the room, or the place of the probe, since the standing was asked for. a says
// what not to ask for.
func (e *endpoint) enter(v *visit, now int64, a admission) (ok bool) {
	v.passes = passes{}
	if limit := e.limit.Load(); limit > 0 {
		// Adding first and looking afterwards keeps two calls from taking the last place
		// together.
		if n := e.inflight.Add(1); n > limit && a != crowding {
			e.inflight.Add(-1)
			return false
		}
		v.passes.counted = true
	}
	var f, s bool
	v.passes.failures.data, f = e.failures.EnterClosed()
	v.passes.slowness.data, s = e.slowness.EnterClosed()
	return f && s || e.enterSlowly(v, now, a)
}

// enterSlowly is enter for an endpoint with a circuit that is not closed, which
// already has room.
// With panicking and crowding the circuits are asked too, and their refusal is ignored:
// the ticket is then empty, and Leave with it counts for nothing.
func (e *endpoint) enterSlowly(v *visit, now int64, a admission) (ok bool) {
	f, _, ok := e.failures.Enter(now)
	if !ok && a == asking {
		e.leave(v.passes.counted)
		return false
	}
	s, _, ok := e.slowness.Enter(now)
	if !ok && a == asking {
		e.leave(v.passes.counted)
		e.failures.Leave(now, f, turret.Unused)
		return false
	}
	v.passes.failures, v.passes.slowness = pass{f.Start, f.Data}, pass{s.Start, s.Data}
	return true
}

// leave gives back the room of a call. counted says whether it has taken any.
// A call that waits for room is woken after the room is there.
func (e *endpoint) leave(counted bool) {
	if counted {
		e.inflight.Add(-1)
		e.pool.vacancies.announce()
	}
}

// cancel gives back what enter took for a call that was not sent.
func (e *endpoint) cancel(v *visit, now int64) {
	e.leave(v.passes.counted)
	e.failures.Leave(now, v.passes.failures.ticket(), turret.Unused)
	e.slowness.Leave(now, v.passes.slowness.ticket(), turret.Unused)
}

// A visit is one call at an endpoint that it has entered, from its start to its
// end. Its methods alone decide, for all balancers, which measurements its duration
// enters and which circuits its outcome.
type visit struct {
	tracker tracker
	ticket  turret.Ticket
	passes  passes
	stream  bool // its life is no latency
}

// start begins the visit of the endpoint that was chosen, and entered.
func (v *visit) start(chosen *choice, now int64, stream bool) {
	v.tracker, v.stream = chosen.tracker, stream
	if stream {
		v.ticket = v.tracker.StartStream(now)
	} else {
		v.ticket = v.tracker.Start(now)
	}
}

// finish ends v with its outcome. retryAfter is for how long the endpoint asked
// to be left alone.
// It is called once for each visit. Nothing of v is used afterwards.
func (e *endpoint) finish(v *visit, now int64, o turret.Outcome, retryAfter time.Duration) {
	e.depart(v, now, o, retryAfter)
	e.judge(now, v.passes.failures, o)
	if v.stream {
		e.clock(now, v.passes.slowness, turret.Unused, 0)
	} else {
		e.clock(now, v.passes.slowness, o, time.Duration(now-v.ticket.Start))
	}
}

// depart takes v off what is in flight.
// It is apart from judge, because the outcome of a stream may be known only later, from
// its sender, when the stream no longer counts as in flight.
func (e *endpoint) depart(v *visit, now int64, o turret.Outcome, retryAfter time.Duration) {
	e.leave(v.passes.counted)
	v.tracker.Done(now, v.ticket, o, retryAfter)
}

// judge tells the circuit for failures how a call went.
func (e *endpoint) judge(now int64, p pass, o turret.Outcome) {
	e.pool.failing.observe(now, o)
	if o != turret.Unused {
		e.calls.Add(1)
	}
	if o != turret.Success && o != turret.Ignored && o != turret.Unused {
		e.failed.Add(1)
	}
	if v := e.failures.Leave(now, p.ticket(), o); v != circuit.Unchanged {
		e.pool.heed(now, e, &e.failures, v)
	}
}

// clock tells the circuit for latency how long a call took.
func (e *endpoint) clock(now int64, p pass, o turret.Outcome, took time.Duration) {
	fleet := e.pool.fleet
	// What is not an answer is no measure of latency, but it took this long.
	verdict := turret.Ignored
	if o == turret.Success {
		fleet.Observe(now, took)
		verdict = turret.Success
	}
	if o != turret.Unused && fleet.Outlier(took) {
		verdict = turret.Failure
	}
	if v := e.slowness.Leave(now, p.ticket(), verdict); v != circuit.Unchanged {
		e.pool.heed(now, e, &e.slowness, v)
	}
}

// evidence returns the ban of e by its circuit c, with what decided about it.
// It is read after the circuit has opened: calls that end at the same moment may be in
// it.
func (e *endpoint) evidence(now int64, c *circuit.Circuit, probe bool) Transition {
	t := Transition{Banned: true, Cause: e.causeOf(c), Probe: probe, BanFor: c.Period()}
	config := e.config.Load()
	row := c.Row()
	switch {
	case probe:
	case c == &e.slowness:
		t.Row = row
	case config.Failures.circuit().Consecutive > 0 && row >= int64(config.Failures.circuit().Consecutive):
		t.Row = row
	default:
		calls, failures := c.Counts(now)
		t.Calls, t.Failed = int64(calls), int64(failures)
	}
	return t
}

// causeIndex returns the index of c's cause in bans.bansFor.
func (e *endpoint) causeIndex(c *circuit.Circuit) int {
	if c == &e.slowness {
		return 1
	}
	return 0
}

// causeOf returns the cause of bans by c, as metrics and transitions name it.
func (e *endpoint) causeOf(c *circuit.Circuit) string {
	return [2]string{causeFailures, causeLatency}[e.causeIndex(c)]
}

// banned returns for how long e cannot be tried out, 0 if it can be; that may
// change earlier.
func (e *endpoint) banned(now int64) int64 {
	failures, _ := e.failures.Refusal(now)
	slowness, _ := e.slowness.Refusal(now)
	return int64(max(failures, slowness))
}
