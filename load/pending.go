package load

import (
	"time"
	"unsafe"

	"github.com/turret-go/turret"
)

// Pending is a [Tracker] whose load is the number of calls in flight, streams
// included: Tower's PendingRequests. It does not see latency or failures: an
// endpoint that fails at once has nothing in flight and looks idle, so keep a
// breaker beside it. Make one with [NewPending].
type Pending struct {
	f flight
	_ [cacheLines - unsafe.Sizeof(flight{})]byte
}

// NewPending returns a Pending with nothing in flight.
func NewPending() *Pending { return new(Pending) }

// Start notes that a call begins.
func (p *Pending) Start(now int64) turret.Ticket { return p.f.start(now) }

// StartStream is Start.
func (p *Pending) StartStream(now int64) turret.Ticket { return p.f.startStream(now) }

// Done notes that a call has ended.
func (p *Pending) Done(now int64, t turret.Ticket, o turret.Outcome, _ time.Duration) {
	p.f.done(now, t, o)
}

// Load returns the number of calls in flight.
func (p *Pending) Load(now int64) float64 {
	pending, _ := p.f.now(now)
	return float64(pending)
}

// InFlight returns the number of calls in flight.
func (p *Pending) InFlight() int64 { return p.f.inFlight() }
