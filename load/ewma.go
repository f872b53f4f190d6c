package load

import (
	"cmp"
	"fmt"
	"time"
	"unsafe"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// EWMAConfig says how latencies are averaged. The zero value is the default of
// both [NewPeakEWMA] and [NewEWMA], which differ in their decay and penalty.
type EWMAConfig struct {
	// Decay is the time in which the weight of the past falls to 1/e. 0 means
	// 10 s for PeakEWMA, as in Finagle, and 800 ms for EWMA; at least 1 µs. A long
	// decay remembers a slow endpoint for longer, and a short pause too.
	Decay time.Duration
	// DefaultRTT is what an endpoint that was never measured is taken for while
	// its first calls are in flight and no typical latency is known. 0 means 30 ms;
	// not negative. With nothing in flight such an endpoint has no load: an
	// average falls while an endpoint is idle, so anything else would leave it
	// behind those that were used once.
	DefaultRTT time.Duration
	// Penalty is the latency that a failure stands for: at least this, however
	// fast it came, else an endpoint that fails at once would look like the
	// best one. 0 means 5 s for PeakEWMA, as in Linkerd, and for EWMA ten times
	// the latency of an endpoint that was never measured: enough to prefer
	// others for a moment. What fails for longer is a breaker's business; a
	// penalty that is high enough for that starves an endpoint for a minute
	// after a single failure. Negative: none, a failure counts as the time it
	// took.
	Penalty time.Duration
	// Typical, if not nil, returns the typical latency of all the endpoints
	// together, or 0 while none is known: an endpoint that was never measured is
	// taken for a typical one while its first calls are in flight, neither avoided
	// nor flooded. It is called at each Load, concurrently, and must not block.
	Typical func() time.Duration
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c EWMAConfig) Validate() error {
	switch {
	case c.Decay != 0 && c.Decay < time.Microsecond:
		return invalid("Decay", c.Decay, fmt.Sprintf("at least %v (0 means the default)", time.Microsecond))
	case c.DefaultRTT < 0:
		return invalid("DefaultRTT", c.DefaultRTT, fmt.Sprintf("at least 0 (0 means %v)", defaultRTT))
	}
	return nil
}

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "load", Field: field, Value: value, Bound: bound}
}

// Defaults of [EWMAConfig].
const (
	defaultRTT         = 30 * time.Millisecond
	defaultPeakDecay   = 10 * time.Second
	defaultPeakPenalty = 5 * time.Second
	defaultDecay       = 800 * time.Millisecond
	penaltyFactor      = 10
	// longestSample bounds what one answer does to a mean, as a multiple of it:
	// one call of a long tail, or one that a pause held up, says little about
	// the next one.
	longestSample = 2
)

// maxRetryAfter bounds what a server can ask for, as Linkerd does: one wrong
// header must not take an endpoint out for a day.
const maxRetryAfter = 5 * time.Minute

// latency is how long an endpoint takes to answer: an average of what it took,
// or for how long it has owed an answer, whichever is longer.
type latency struct {
	flight  flight
	average average
	prior   float64
	penalty float64              // 0: penaltyFactor x unmeasured
	typical func() time.Duration // may be nil
}

func newLatency(where string, c EWMAConfig, decay, penalty time.Duration) latency {
	misuse.Check(where, c.Validate())
	return latency{
		average: newAverage(int64(cmp.Or(c.Decay, decay))),
		prior:   float64(cmp.Or(c.DefaultRTT, defaultRTT)),
		penalty: float64(cmp.Or(c.Penalty, penalty)),
		typical: c.Typical,
	}
}

// done records what the end of a call says about latency.
func (l *latency) done(now int64, t turret.Ticket, o turret.Outcome, retryAfter time.Duration, peak bool) {
	timed := l.flight.done(now, t, o)
	elapsed := 0.0
	if timed {
		elapsed = float64(max(0, now-t.Start))
	}
	switch o {
	case turret.Unused:
	case turret.Success:
		if timed && peak {
			l.average.record(now, elapsed, true)
		} else if timed {
			l.average.record(now, min(elapsed, longestSample*l.average.last()), false)
		}
	case turret.Ignored: // it would have taken at least this long
		if known, ok := l.average.load(now); ok && elapsed > known || !ok && elapsed > l.unmeasured() {
			l.average.record(now, elapsed, peak)
		}
	default: // Failure, Overload, and what is none of the outcomes
		wait := float64(min(max(0, retryAfter), maxRetryAfter))
		known, _ := l.average.load(now)
		l.average.record(now, max(l.leastPenalty(), wait, known, elapsed), peak)
	}
}

// now returns the latency that the next call can expect, in nanoseconds, and
// the calls in flight.
func (l *latency) now(now int64) (expected float64, pending int64) {
	pending, silence := l.flight.now(now)
	expected, ok := l.average.load(now)
	if !ok && pending > 0 {
		expected = l.unmeasured()
	}
	return max(expected, float64(silence)), pending
}

func (l *latency) leastPenalty() float64 {
	if l.penalty == 0 {
		return penaltyFactor * l.unmeasured()
	}
	return l.penalty
}

// unmeasured is what an endpoint without a past is taken for.
func (l *latency) unmeasured() float64 {
	if l.typical != nil {
		if typical := l.typical(); typical > 0 {
			return float64(typical)
		}
	}
	return l.prior
}

// PeakEWMA is a [Tracker] as Finagle and Tower define it: an average of the
// latency that jumps to every sample above it, times the calls in flight plus
// one. The load is in nanoseconds. Its long memory keeps away from an endpoint
// that was slow once, and so from one that paused once: see [EWMA].
//
// It differs from Tower's in this: reading is pure; a failure counts as a
// penalty, never as speed; a cancelled call is a lower bound, not a sample; an
// endpoint that owes an answer is at least as slow as it has been silent.
//
// Make one with [NewPeakEWMA].
type PeakEWMA struct {
	l latency
	_ [cacheLines - unsafe.Sizeof(latency{})]byte
}

// NewPeakEWMA returns a PeakEWMA with nothing measured. It panics with the
// error of [EWMAConfig.Validate] if c is not valid.
func NewPeakEWMA(c EWMAConfig) *PeakEWMA {
	return &PeakEWMA{l: newLatency("load: NewPeakEWMA", c, defaultPeakDecay, defaultPeakPenalty)}
}

// Start notes that a call begins.
func (p *PeakEWMA) Start(now int64) turret.Ticket { return p.l.flight.start(now) }

// StartStream notes that a stream begins.
func (p *PeakEWMA) StartStream(now int64) turret.Ticket { return p.l.flight.startStream(now) }

// Done records the latency of a success, or what stands for it.
func (p *PeakEWMA) Done(now int64, t turret.Ticket, o turret.Outcome, retryAfter time.Duration) {
	p.l.done(now, t, o, retryAfter, true)
}

// Load returns latency x (calls in flight + 1), in nanoseconds.
func (p *PeakEWMA) Load(now int64) float64 {
	expected, pending := p.l.now(now)
	return expected * float64(pending+1)
}

// InFlight returns the number of calls in flight.
func (p *PeakEWMA) InFlight() int64 { return p.l.flight.inFlight() }

// EWMA is a [Tracker] like [PeakEWMA] with two differences. Its average is a
// mean, with a short memory, in which one answer counts as twice the mean at
// most: a long memory, and one that jumps to the peaks, keeps away from
// endpoints that paused for a moment, and sends their load to the others. And
// it does not take small differences from [EWMAConfig].Typical for true. The load is in nanoseconds.
//
// Make one with [NewEWMA].
type EWMA struct {
	l latency
	_ [cacheLines - unsafe.Sizeof(latency{})]byte
}

// NewEWMA returns an EWMA with nothing measured. It panics with the error of
// [EWMAConfig.Validate] if c is not valid.
func NewEWMA(c EWMAConfig) *EWMA {
	return &EWMA{l: newLatency("load: NewEWMA", c, defaultDecay, 0)}
}

// Start notes that a call begins.
func (e *EWMA) Start(now int64) turret.Ticket { return e.l.flight.start(now) }

// StartStream notes that a stream begins.
func (e *EWMA) StartStream(now int64) turret.Ticket { return e.l.flight.startStream(now) }

// Done records the latency of a success, or what stands for it.
func (e *EWMA) Done(now int64, t turret.Ticket, o turret.Outcome, retryAfter time.Duration) {
	e.l.done(now, t, o, retryAfter, false)
}

// Load returns latency x (calls in flight + 1), in nanoseconds.
func (e *EWMA) Load(now int64) float64 {
	expected, pending := e.l.now(now)
	if e.l.typical != nil {
		expected = withoutNoise(expected, float64(e.l.typical()))
	}
	return expected * float64(pending+1)
}

// InFlight returns the number of calls in flight.
func (e *EWMA) InFlight() int64 { return e.l.flight.inFlight() }

// withoutNoise takes a difference of less than a fifth from the typical
// latency for chance, and larger ones for a fifth less than they look. The
// average of a few samples is never exact; without this, of two endpoints that
// are alike the one that was lucky last would have every call until its luck
// turns.
func withoutNoise(expected, typical float64) float64 {
	const noise = 1.2
	switch {
	case typical == 0:
		return expected
	case expected > typical:
		return max(typical, expected/noise)
	default:
		return min(typical, expected*noise)
	}
}
