package load

import (
	"time"

	"github.com/turret-go/turret"
)

// A Tracker is how loaded one endpoint is. The sender of a call to the endpoint must
// call Start before and Done after it; a balancer compares the Loads of
// endpoints that it may choose.
//
// now is in nanoseconds since an instant that the owner of the trackers chose
// once, not negative, and the same for all of them. Nothing here reads a clock.
// The methods may be called concurrently; Load must not wait for the others.
type Tracker interface {
	// Start notes that a call begins. Each Start is followed by one Done.
	Start(now int64) turret.Ticket
	// Done notes that the call of t has ended. retryAfter is how long the other
	// side asked to be left alone, 0 if it did not.
	//
	// A Failure or an Overload must not make the endpoint look fast, however
	// fast it came. Ignored says only that the call took at least until now.
	// Unused is to leave no trace.
	Done(now int64, t turret.Ticket, o turret.Outcome, retryAfter time.Duration)
	// Load is the load at now: finite, at least 0, and the greater the worse.
	// Reading it changes nothing: with nothing started or done in between, two
	// reads at the same now are equal.
	Load(now int64) float64
}

// A StreamTracker is a [Tracker] that distinguishes streams. Between
// StartStream and Done a stream counts as a call in flight, but its life is not
// a latency, and its silence is not a sign of anything.
type StreamTracker interface {
	Tracker
	// StartStream is Start for a call whose duration means nothing.
	StartStream(now int64) turret.Ticket
}

// Constant is a [Tracker] whose load is always itself: for endpoints whose load
// is known otherwise, and for tests. Two equal constants make a balancer of two
// choices a random one. It must be finite and at least 0.
type Constant float64

// Start does nothing.
func (Constant) Start(int64) turret.Ticket { return turret.Ticket{} }

// Done does nothing.
func (Constant) Done(int64, turret.Ticket, turret.Outcome, time.Duration) {}

// Load returns c.
func (c Constant) Load(int64) float64 { return float64(c) }
