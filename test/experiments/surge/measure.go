package surge

import (
	"slices"
	"time"
)

// A Result is what came of a run.
type Result struct {
	Scenario

	Calls []*Call
}

// Share returns the answers in time to the calls that came in [from, to), as a part
// of those that could have had one: of what the server can do, or of what does not
// hang, whichever is less.
func (r *Result) Share(from, to time.Duration) float64 {
	asked, answered := 0.0, 0.0
	for _, c := range r.between(from, to) {
		if !c.Hangs {
			asked++
		}
		if c.Answered > 0 {
			answered++
		}
	}
	return answered / min(asked, r.Capacity*r.After*(to-from).Seconds())
}

func (r *Result) between(from, to time.Duration) []*Call {
	i, _ := slices.BinarySearchFunc(r.Calls, from, func(c *Call, at time.Duration) int { return int(c.At - at) })
	j, _ := slices.BinarySearchFunc(r.Calls, to, func(c *Call, at time.Duration) int { return int(c.At - at) })
	return r.Calls[i:j]
}

// Goodput is the share in the event, but for its first second.
func (r *Result) Goodput() float64 { return r.Share(r.Quiet+s1, r.end()) }

// First is the share in the first second of the event.
func (r *Result) First() float64 { return r.Share(r.Quiet, r.Quiet+s1) }

// Later is the share from the third second of the event on.
func (r *Result) Later() float64 { return r.Share(r.Quiet+2*s1, r.end()) }

// Slowness is the p99 of the answers in the event but for its first second, over
// that of the work, and of the downstream where there is one. It is 0 without
// answers.
func (r *Result) Slowness() float64 {
	var took, bare []time.Duration
	for _, c := range r.between(r.Quiet+s1, r.end()) {
		if c.Answered > 0 && !c.Stream {
			took = append(took, c.Answered-c.At)
		}
	}
	for _, c := range r.Calls {
		bare = append(bare, c.Work+time.Duration(float64(r.Elsewhere)*c.elsewhere))
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	slices.Sort(bare)
	return float64(took[len(took)*99/100]) / float64(bare[len(bare)*99/100])
}

// Refused is the share of the calls in the 8 s before the event without an answer.
func (r *Result) Refused() float64 {
	before := r.between(r.Quiet-8*s1, r.Quiet)
	failed := 0
	for _, c := range before {
		if c.Answered == 0 {
			failed++
		}
	}
	return float64(failed) / float64(len(before))
}

// Recovered is when, in seconds after the event, the last 100 ms ended in which
// more than 2 % of the calls, and more than one, failed.
func (r *Result) Recovered() float64 {
	return r.lastTrouble(func(c *Call) bool { return c.Answered == 0 })
}

// Released is the same of calls that clients held back: those that did not come to
// the server.
func (r *Result) Released() float64 {
	return r.lastTrouble(func(c *Call) bool { return c.Answered == 0 && !c.Reached })
}

func (r *Result) lastTrouble(failed func(c *Call) bool) float64 {
	const bin = 100 * ms
	last := 0.0
	for i := range int((r.Rest - r.Deadline) / bin) {
		from := r.end() + time.Duration(i)*bin
		calls, n := r.between(from, from+bin), 0
		for _, c := range calls {
			if failed(c) {
				n++
			}
		}
		if n > 1 && float64(n) > 0.02*float64(len(calls)) {
			last = float64(i+1) / 10
		}
	}
	return last
}

// Late is how many calls were let in and missed their deadline.
func (r *Result) Late() (n int) {
	for _, c := range r.Calls {
		if c.Late {
			n++
		}
	}
	return n
}

// LevelShares is the share of calls of each level that is answered in the event but for
// its first second.
func (r *Result) LevelShares() (shares [4]float64) {
	var asked [4]float64
	for _, c := range r.between(r.Quiet+s1, r.end()) {
		asked[c.Level]++
		if c.Answered > 0 {
			shares[c.Level]++
		}
	}
	for i := range shares {
		shares[i] /= max(asked[i], 1)
	}
	return shares
}

// Fairness is the least, over the tenants, of what is answered in the event but for
// its first second, as a part of what a tenant asks for up to its share of the
// capacity.
func (r *Result) Fairness() float64 {
	asked, answered := make([]float64, r.Tenants), make([]float64, r.Tenants)
	for _, c := range r.between(r.Quiet+s1, r.end()) {
		asked[c.Tenant]++
		if c.Answered > 0 {
			answered[c.Tenant]++
		}
	}
	share := r.Capacity * (r.Event - s1).Seconds() / float64(r.Tenants)
	least := 1.0
	for i := range asked {
		least = min(least, answered[i]/min(asked[i], share))
	}
	return least
}

// Series is the share of each 200 ms.
func (r *Result) Series() (shares []float64) {
	const bin = 200 * ms
	for from := time.Duration(0); from+bin <= r.end()+r.Rest; from += bin {
		after := r.After
		if from < r.Quiet || from >= r.end() {
			r.After = 1
		}
		shares = append(shares, r.Share(from, from+bin))
		r.After = after
	}
	return shares
}

// Reaches is how many times what it can do a server gets in [from, to) of the event.
func (r *Result) Reaches(from, to time.Duration) float64 {
	n := 0.0
	for _, c := range r.between(r.Quiet+from, r.Quiet+to) {
		if c.Reached {
			n++
		}
	}
	return n / (r.Capacity * (to - from).Seconds())
}

// A FrontResult is what came of a server in front, in the event but for its first
// second.
type FrontResult struct {
	Goodput float64 // of the server behind: answers as a part of what it can do
	Reaches float64 // how many times what it can do the server behind gets
	Wasted  float64 // of the work in front for calls that need the server behind: that for calls that failed
	Alone   float64 // answered, of the calls that need the server in front only
	Levels  [4]float64
}

// Front is what came of the two servers.
func (r *Result) Front() (f FrontResult) {
	from, to := r.Quiet+s1, r.end()
	var asked [4]float64
	answered, reached, fronted, wasted, alone, aloneAnswered := 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
	for _, c := range r.between(from, to) {
		ok := 0.0
		if c.Answered > 0 {
			ok = 1
		}
		if c.Alone {
			alone++
			aloneAnswered += ok
			continue
		}
		asked[c.Level]++
		f.Levels[c.Level] += ok
		answered += ok
		if c.Reached {
			reached++
		}
		if c.Fronted {
			fronted++
			wasted += 1 - ok
		}
	}
	for i := range f.Levels {
		f.Levels[i] /= max(asked[i], 1)
	}
	possible := r.Capacity * (to - from).Seconds()
	f.Goodput, f.Reaches = answered/possible, reached/possible
	f.Wasted, f.Alone = wasted/max(fronted, 1), aloneAnswered/max(alone, 1)
	return f
}
