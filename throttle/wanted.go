package throttle

import (
	"math"
	"time"

	"github.com/turret-go/turret/criticality"
)

const (
	wantedMemory = int64(100 * time.Millisecond)
	probesApart  = int64(100 * time.Millisecond)
	silence      = int64(time.Second) // after which what was learned does not hold any more
	firstWeight  = int64(10 * time.Millisecond)
	nearlyAll    = 0.99
)

// wanted is the part of the calls of each level that a server wants. It is a pure
// function of what the server says and when. Its owner serializes access.
type wanted struct {
	share  [criticality.Levels]float64
	most   int   // index of the most critical level that the server allows, as far as it is known
	last   int64 // when the last answer came
	probed int64 // when a call last passed for the sake of its answer
}

// everything is what a server that says nothing wants.
var everything = wanted{share: [criticality.Levels]float64{1, 1, 1, 1}}

// limits reports whether some calls are not wanted.
func (w *wanted) limits() bool { return w.share != everything.share }

// learn takes an answer that came at now. limiting says that what was known
// before is about the time before now; if not, the time since the last answer says nothing.
func (w *wanted) learn(now int64, a Answer, limiting bool) {
	switch sent, given := a.Sent.Index(), a.Given.Index(); {
	case given > sent:
		w.most = given
	case sent < w.most: // it is allowed now
		w.most = sent
	}
	since := now - w.last
	if !limiting {
		since = firstWeight
	}
	weight := 1 - math.Exp(-float64(max(since, 0))/float64(wantedMemory))
	for level := range w.share {
		said := min(max(a.Threshold-float64(max(level, w.most)), 0), 1)
		w.share[level] += weight * (said - w.share[level])
		if w.share[level] > nearlyAll {
			w.share[level] = 1
		}
	}
	w.last = now
}

// ask reports whether a call of the level with this index may be sent at now.
func (w *wanted) ask(now int64, level int, random uint64) bool {
	w.forget(now)
	switch {
	case float64(random>>11)/(1<<53) < w.share[level]:
		return true
	case now-max(w.last, w.probed) >= probesApart:
		w.probed = now
		return true
	default:
		return false
	}
}

// forget drops what was learned when the server has said nothing for long.
func (w *wanted) forget(now int64) {
	if now-w.last >= silence {
		w.share = everything.share
	}
}
