package balance

import (
	"math"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/connectivity"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/circuit"
)

// A phase is what a policy with [FailOver] reports to its parent.
type phase uint8

const (
	serving phase = iota // what its connections call for
	away                 // TRANSIENT_FAILURE: every connected endpoint is banned
	trying               // READY: one call is let through, and the others wait for its end
)

// String returns the name of the phase in descriptions.
func (p phase) String() string {
	return [...]string{"serving", "handed_over", "on_trial"}[p]
}

// trialFor is how long a trial keeps calls waiting, at most. It begins with the
// first call: without calls no time passes.
const trialFor = time.Second

// excused is the share of failures, of the calls to all endpoints, that a policy
// with [FailOver] takes for chance at most: where more calls fail, the endpoints
// are banned, and others get the calls.
const excused = 1. / 8

// A handover decides what a policy reports to its parent. With [FailOver] a parent
// that knows other endpoints gets TRANSIENT_FAILURE while all endpoints of the
// policy are banned, and sends the calls elsewhere. After a time that doubles with
// each trial in vain, the policy reports READY, lets one call through, and keeps
// the others waiting until the end of that call is known, or for trialFor.
//
// The mutex of the policy guards all fields. It is not held while the parent is
// called, for the parent may be calling the policy.
type handover struct {
	policy *policy

	child     balancer.State // of the connections
	connected int            // how many are READY

	phase   phase
	circuit circuit.Circuit // of all endpoints together
	ticket  turret.Ticket   // of the trial at circuit
	tryAt   int64           // no trial begins before this
	trial   uint64          // the number of the newest trial
	begun   bool            // the trial has a call that waits, or a probe
	probe   *endpoint       // that has the trial's call; nil: none
	timer   *time.Timer     // begins a trial, or ends one
	closed  bool

	next       balancer.State
	due        bool // next is to be reported
	delivering bool // a goroutine is about it
}

func (h *handover) init(p *policy) {
	h.policy = p
	h.circuit.Init(Failures{}.circuit(), randomness(0))
}

// configure takes over the configuration c. The mutex must be held.
func (h *handover) configure(c *settings) { h.circuit.SetConfig(c.Failures.circuit()) }

// update reports the state that bans and connections call for now, if it has
// changed.
func (h *handover) update() { h.change(h.advance) }

// connections takes the newest state of the connections over and reports it.
func (h *handover) connections(s balancer.State, children []endpointsharding.ChildState) {
	h.change(func(now int64) bool {
		h.policy.children = children
		h.child, h.connected = s, 0
		for _, c := range children {
			if c.State.ConnectivityState == connectivity.Ready {
				h.connected++
			}
		}
		h.advance(now)
		return true
	})
}

// change calls f with the mutex held, and reports the state to the parent if f
// returns true. States are reported one at a time and in order: a goroutine that
// finds another one reporting leaves its state to that one.
func (h *handover) change(f func(now int64) bool) {
	mu := &h.policy.mu
	mu.Lock()
	defer mu.Unlock()
	if h.closed {
		return
	}
	if f(h.policy.now()) {
		h.next, h.due = h.state(), true
	}
	if h.delivering {
		return
	}
	h.delivering = true
	for h.due && !h.closed {
		h.due = false
		h.deliver(h.next)
	}
	h.delivering = false
}

// deliver reports s without the mutex, which is held before and after.
func (h *handover) deliver(s balancer.State) {
	h.policy.mu.Unlock()
	defer h.policy.mu.Lock()
	h.policy.ClientConn.UpdateState(s)
}

// state returns what is to be reported in this phase.
func (h *handover) state() balancer.State {
	s, p := h.child, h.policy
	number := p.pickers.Add(1)
	switch {
	case s.ConnectivityState == connectivity.Ready:
		chooser := &picker{policy: p, number: number, states: p.children}
		s.Picker = chooser
		switch h.phase {
		case serving:
		case away: // a parent without other endpoints goes on to pick
			s.ConnectivityState = connectivity.TransientFailure
		case trying:
			s.Picker = &trialPicker{chooser, h.trial}
		}
	case len(p.children) == 0:
		s.Picker = noEndpoint{}
	}
	return s
}

// advance moves to the phase that bans and connections call for now, and reports
// whether it is another one.
func (h *handover) advance(now int64) bool {
	before := h.phase
	wait, banned := h.banned(now)
	switch {
	case !banned:
		h.serve(now)
	case h.phase == serving:
		h.circuit.Trip(now)
		h.retreat(now)
		h.wake(max(wait, h.tryAt-now))
	case h.phase == away && max(wait, h.tryAt-now) > 0:
		h.wake(max(wait, h.tryAt-now))
	case h.phase == away:
		h.try(now)
	}
	return h.phase != before
}

// banned reports whether every connected endpoint is banned, and for how long none
// of them can be tried out.
func (h *handover) banned(now int64) (wait int64, all bool) {
	p := h.policy
	if p.config == nil || p.config.OnBanned != FailOver || h.connected == 0 || p.out < h.connected {
		return 0, false
	}
	wait = math.MaxInt64
	for _, child := range p.children {
		e, ok := p.endpoints.Get(child.Endpoint)
		if !ok || child.State.ConnectivityState != connectivity.Ready {
			continue
		}
		if !e.out.Load() {
			return 0, false
		}
		wait = min(wait, e.banned(now))
	}
	return wait, wait < math.MaxInt64
}

// serve ends a handover.
func (h *handover) serve(now int64) {
	switch h.phase {
	case serving:
		return
	case trying:
		h.circuit.Leave(now, h.ticket, turret.Success)
	case away:
		h.circuit.Reset()
	}
	h.phase = serving
	h.stop()
}

// retreat hands the calls over until the period of the circuit, which has just
// opened, is over.
func (h *handover) retreat(now int64) {
	h.phase, h.tryAt = away, now+int64(h.circuit.Period())
	h.probe = nil
}

// try begins a trial.
func (h *handover) try(now int64) {
	ticket, wait, ok := h.circuit.Enter(now)
	if !ok {
		h.wake(max(int64(wait), 1))
		return
	}
	h.stop()
	h.phase, h.ticket = trying, ticket
	h.trial++
	h.begun, h.probe = false, nil
}

// fail ends a trial in vain. It reports whether this is the trial at present.
func (h *handover) fail(trial uint64, now int64) bool {
	if h.phase != trying || h.trial != trial {
		return false
	}
	h.circuit.Leave(now, h.ticket, turret.Failure)
	h.retreat(now)
	h.advance(now)
	return true
}

// wake has update called in so long.
func (h *handover) wake(in int64) {
	h.stop()
	// A timer that fires although it was stopped does no harm: update looks at the state.
	h.timer = time.AfterFunc(time.Duration(in), h.update)
}

// stop stops the timer, if there is one. It requires the mutex.
func (h *handover) stop() {
	if h.timer != nil {
		h.timer.Stop()
	}
}

// close ends all reports.
// A report that another goroutine has begun may still come.
func (h *handover) close() {
	h.policy.mu.Lock()
	defer h.policy.mu.Unlock()
	h.closed = true
	h.stop()
}

// claim returns an endpoint for the call of a trial, which it has entered, or nil
// if the call has to wait. The first claim of a trial begins its time.
func (h *handover) claim(v *visit, trial uint64, s *snapshot) *choice {
	h.policy.mu.Lock()
	defer h.policy.mu.Unlock()
	if h.closed || h.phase != trying || h.trial != trial {
		return nil // a newer picker comes
	}
	if !h.begun {
		h.begun = true
		h.timer = time.AfterFunc(trialFor, func() {
			h.change(func(now int64) bool { return h.fail(trial, now) })
		})
	}
	if h.probe != nil {
		return nil
	}
	now := h.policy.now()
	first := below(s.config.random(), len(s.choices))
	for k := range s.choices {
		c := &s.choices[(first+k)%len(s.choices)]
		// Without a record: a trial that waits for a call which has not failed
		// before would keep a retry waiting.
		if c.standing(now, nil) != onTrial {
			continue
		}
		if c.enter(v, now, asking) {
			h.probe = c.endpoint
			return c
		}
	}
	return nil
}

// judge looks at e, whose call of a trial has ended. A call that says nothing
// about e, such as one that its caller cancelled, leaves the trial to another.
func (h *handover) judge(trial uint64, e *endpoint) {
	h.change(func(now int64) bool {
		switch {
		case h.phase != trying || h.trial != trial || h.probe != e:
			return false
		case !e.out.Load():
			return h.advance(now)
		case e.failures.Refuses(now) || e.slowness.Refuses(now):
			return h.fail(trial, now)
		default:
			h.probe = nil
			return true // the calls that wait are to pick again
		}
	})
}

// A trialPicker lets one call through.
type trialPicker struct {
	*picker

	trial uint64
}

// Pick chooses an endpoint for the call that is let through. The others wait for
// another picker, which comes within trialFor.
func (t *trialPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	t.once.Do(t.build)
	if len(t.choices) == 0 {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	h := &t.policy.handover
	c := newCall()
	chosen := h.claim(&c.visit, t.trial, &t.snapshot)
	if chosen == nil {
		calls.Put(c)
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	result, err := t.send(c, chosen, t.policy.now(), info, attempts.FromContext(info.Ctx))
	if err != nil {
		h.judge(t.trial, chosen.endpoint)
		return result, err
	}
	done, e := result.Done, chosen.endpoint
	result.Done = func(d balancer.DoneInfo) {
		done(d)
		h.judge(t.trial, e)
	}
	return result, nil
}
