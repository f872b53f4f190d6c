package balance

import (
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
)

// A visit is one call at an endpoint that it has entered, from its start to its
// end. What is measured by its duration, and who is told of its outcome, is
// decided here alone, for all balancers.
type visit struct {
	ticket turret.Ticket
	passes passes
	stream bool // its life is no latency
}

// start begins the visit v with the passes of enter.
func (e *endpoint) start(v *visit, now int64, p passes, stream bool) {
	v.passes, v.stream = p, stream
	if stream {
		v.ticket = e.tracker.StartStream(now)
	} else {
		v.ticket = e.tracker.Start(now)
	}
}

// finish ends v with its outcome. retryAfter is for how long the endpoint asked
// to be left alone.
func (e *endpoint) finish(v *visit, now int64, o turret.Outcome, retryAfter time.Duration) {
	e.depart(v, now, o, retryAfter)
	e.judge(now, v.passes, o)
	if v.stream {
		e.clock(now, v.passes, turret.Unused, 0)
	} else {
		e.clock(now, v.passes, o, time.Duration(now-v.ticket.Start))
	}
}

// depart takes v off what is in flight.
func (e *endpoint) depart(v *visit, now int64, o turret.Outcome, retryAfter time.Duration) {
	e.leave()
	e.tracker.Done(now, v.ticket, o, retryAfter)
}

// judge tells the circuit for failures how a call went.
func (e *endpoint) judge(now int64, p passes, o turret.Outcome) {
	e.pool.failing.observe(now, o)
	if v := e.failures.Leave(now, p.failures.ticket(), o); v != breaker.Unchanged {
		e.pool.heed(now, e, &e.failures, v)
	}
}

// clock tells the circuit for latency how long a call took.
func (e *endpoint) clock(now int64, p passes, o turret.Outcome, took time.Duration) {
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
	if v := e.slowness.Leave(now, p.slowness.ticket(), verdict); v != breaker.Unchanged {
		e.pool.heed(now, e, &e.slowness, v)
	}
}
