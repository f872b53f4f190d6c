package adaptive

import (
	"fmt"
	"math"
	"time"
)

// A Verdict is what a [Trial] found.
type Verdict uint8

// The verdicts. The zero Verdict says that there was no trial.
const (
	NoVerdict  Verdict = iota
	Idle               // few calls waited in the second reading: nothing was learnt
	Changed            // latency moved against the limit, or by far more than it, twice: nothing was learnt
	Elsewhere          // latency does not depend on the limit: the unloaded latency was set to it
	Waiting            // latency falls with the limit, less than in proportion: calls wait for each other
	Full               // latency falls in proportion: the service is busy even at the lower limit
	Incomplete         // too few calls succeeded
)

var verdicts = [...]string{"none", "idle", "changed", "elsewhere", "waiting", "full", "incomplete"}

// String returns the name of v in lower case.
func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText returns what String does. It never fails.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// A Trial is a test of the unloaded latency: the limit was halved for a moment
// (or doubled, from one).
type Trial struct {
	Lower, Upper               int           // the two limits
	LowerLatency, UpperLatency time.Duration // mean latencies of successes at them
	// Elasticity is the ratio of the logarithms of the changes of latency and
	// limit: 0 where latency does not depend on the limit, 1 where it is
	// proportional.
	Elasticity float64
	Verdict    Verdict
}

// steepest is the greatest elasticity that a service has: that of calls that wait
// for each other is 1, and what calls cost each other beside that adds to it.
const steepest = 1.5

// A trial is a test that is going on.
type trial struct {
	running bool
	up      bool // the second reading is that of the higher limit
	again   bool // this is the second comparison
	began   int64
	first   reading
}

// overdue reports whether the trial has lasted too long to wait for its end.
func (t *trial) overdue(now int64, w *window) bool {
	return float64(now-w.opened) >= max(float64(onlySlow), 60*t.first.cost)
}

// try begins a trial with the reading first: the limit is halved.
func (k *knee) try(now int64, first reading) {
	k.trial = trial{running: true, began: now, first: first}
	lower := math.Ceil(math.Floor(k.limit) / 2)
	if lower >= math.Floor(k.limit) || lower < k.least {
		if k.limit+1 > k.most {
			k.trial = trial{}
			k.nextDip = now + dipsApart
			k.approach(k.target(first))
			return
		}
		k.trial.up = true
		k.limit = min(2*math.Floor(k.limit), k.most)
		return
	}
	k.limit = lower
}

// conclude ends the trial with the window of its second reading.
func (k *knee) conclude(now int64) {
	t, w := k.trial, &k.window
	k.note(now)
	lower, upper := w.reading(k.limit), t.first
	if t.up {
		lower, upper = upper, lower
	}
	found := k.judge(lower, upper)
	if found.Verdict == Changed && !t.again {
		k.trial = trial{running: true, up: !t.up, again: true, began: t.began, first: w.reading(k.limit)}
		k.limit = t.first.limit
		return
	}
	k.trial, k.last, k.tried = trial{}, found, k.tried+1
	length := now - t.began
	k.nextDip = now + max(dipsApart, min(dipsShare*length, dipsMost))
	if found.Verdict == Full {
		k.nextDip = now + 4*length // it cost nothing
	}
	k.limit = upper.limit
	switch found.Verdict {
	case Elsewhere, Waiting, Full:
		k.limit = k.target(upper)
		if found.Verdict == Elsewhere {
			k.limit = max(k.limit, upper.limit)
		}
	default:
	}
}

// judge says what the two readings mean, and corrects the unloaded latency.
func (k *knee) judge(lower, upper reading) Trial {
	found := Trial{
		Lower: int(lower.limit), Upper: int(upper.limit),
		LowerLatency: time.Duration(lower.mean), UpperLatency: time.Duration(upper.mean),
	}
	span := math.Log(upper.limit / lower.limit)
	ofMean := math.Log(upper.mean/lower.mean) / span
	ofCost := math.Log(upper.cost/lower.cost) / span
	e, noise := ofCost, math.Hypot(upper.costError, lower.costError)/span
	if k.credits(upper) {
		e, noise = ofMean, math.Hypot(upper.meanError, lower.meanError)/span
	}
	found.Elasticity = e
	switch {
	case k.window.n < samplesLeast/2:
		found.Verdict = Incomplete
	case !k.window.busy():
		found.Verdict = Idle
	case e < -0.5 || min(e, ofMean) > steepest+2*noise: // calls that time out make the cost steeper than that
		found.Verdict = Changed
	case e < 0.25 && e+2*noise < 0.75:
		found.Verdict = Elsewhere
		k.unloaded = lower.mean
	case e > 0.75+noise:
		found.Verdict = Full
		k.unloaded = min(k.unloaded, lower.mean)
	default:
		found.Verdict = Waiting
		switch {
		case lower.limit < 2: // a call that is alone waits for none
			k.unloaded = lower.mean
		case e < 0.75:
			weight := precision / max(lower.meanError, precision)
			k.unloaded += 0.5 * weight * weight * (lower.mean - k.unloaded)
		}
	}
	if found.Verdict == Waiting || found.Verdict == Full { // what was measured under load is a bound, but for noise
		k.unloaded = min(k.unloaded, lower.mean*(1+2*lower.meanError))
	}
	k.suspect(found.Verdict, ofCost, math.Hypot(upper.costError, lower.costError)/span)
	return found
}

// suspect decides whether slow failures are still taken for calls that hang.
// Those that fall with the limit are calls that waited too long for each other.
func (k *knee) suspect(v Verdict, e, noise float64) {
	switch {
	case v == Incomplete || v == Idle || v == Changed:
	case e > 0.75+noise:
		k.hangs = false
	case e < 0.25:
		k.hangs = true
	}
}
