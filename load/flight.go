package load

import (
	"sync/atomic"

	"github.com/turret-go/turret"
)

// flight knows the calls that are in flight to one endpoint, and for how long
// it has owed an answer.
type flight struct {
	// counts is the calls that owe an answer in the low half, and the streams,
	// which may be silent for hours, in the high half: one word, so that a
	// reader sees both as they were at one moment.
	counts atomic.Int64
	// alive is when the endpoint last had no debt or last answered.
	alive atomic.Int64
}

// cacheLines is how large a tracker is: what is written at every call to one
// endpoint shares no line with another one's. Two lines, because processors fetch
// them in pairs; the allocator aligns what is as large as that to it.
const cacheLines = 128

const (
	oneCall   = 1
	oneStream = 1 << 32
)

func (f *flight) start(now int64) turret.Ticket {
	if int32(f.counts.Add(oneCall)) == 1 {
		f.alive.Store(now)
	}
	return turret.Ticket{Start: now, Data: oneCall}
}

func (f *flight) startStream(now int64) turret.Ticket {
	f.counts.Add(oneStream)
	return turret.Ticket{Start: now, Data: oneStream}
}

// done takes the call off and reports whether its duration is a latency.
func (f *flight) done(now int64, t turret.Ticket, o turret.Outcome) (timed bool) {
	left := int32(f.counts.Add(-int64(t.Data)))
	// A failure is no sign of life: it may be a deadline of our own. If no call
	// is left, the next one starts the clock.
	if left > 0 && (o == turret.Success || o == turret.Overload) {
		f.alive.Store(now)
	}
	return t.Data == oneCall
}

// now returns how many calls and streams are in flight, and for how long the
// endpoint has owed an answer without giving any.
//
// It is the time since its last answer rather than the age of the oldest call:
// one slow method does not make an endpoint that answers others look dead.
func (f *flight) now(now int64) (pending int64, silence int64) {
	counts := f.counts.Load()
	calls := int64(int32(counts))
	if calls > 0 {
		silence = max(0, now-f.alive.Load())
	}
	return calls + (counts-calls)>>32, silence
}

// inFlight returns how many calls and streams are in flight.
func (f *flight) inFlight() int64 {
	counts := f.counts.Load()
	calls := int64(int32(counts))
	return calls + (counts-calls)>>32
}
