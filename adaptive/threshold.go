package adaptive

import (
	"math"
	"time"

	"github.com/turret-go/turret/criticality"
)

const (
	thresholdEvery = int64(100 * time.Millisecond)
	thresholdCalls = 20                 // that a window has,
	thresholdMost  = int64(time.Second) // if they come within this time
	thresholdLeast = 0.01

	excessWanted = 0.08 // part of the calls that is to be refused under overload,
	excessMost   = 0.10 // and between which bounds the threshold stays as it is
	excessFew    = 0.06
	lowerBy      = 3    // a window corrects that part of what is too much
	riseStep     = 0.03 // of a window
	riseFaster   = 1.5
	riseMost     = 0.5
)

// A threshold finds the lowest level of criticality that is worth sending: a
// number v between 0 and criticality.Levels. Of the calls whose level has an index
// below floor(v) all are wanted, of those with the index floor(v) the fraction of
// v, and none of the others.
//
// Clients that keep to it send somewhat more than the gate admits. A gate that
// refuses nothing cannot tell how much more it could admit.
//
// A threshold is a pure function of the calls that come and are refused.
type threshold struct {
	value  float64
	step   float64 // by which value rises next
	opened int64

	asked, refused int
	full           [criticality.Levels]int // calls that found no room, by level
}

func newThreshold() threshold { return threshold{value: criticality.Levels, step: riseStep} }

// asks counts a call that comes at now.
func (t *threshold) asks(now int64) {
	t.asked++
	if age := now - t.opened; age >= thresholdEvery && (t.asked >= thresholdCalls || age >= thresholdMost) {
		t.close(now)
	}
}

// close moves the threshold by what the window says, and opens the next.
func (t *threshold) close(now int64) {
	refused, asked := float64(t.refused), float64(t.asked)
	switch {
	case refused > excessMost*asked:
		t.lower((refused - excessWanted*asked) / lowerBy)
		t.step = riseStep
	case refused < excessFew*asked:
		t.rise(float64(now-t.opened) / float64(thresholdEvery))
	}
	*t = threshold{value: t.value, step: t.step, opened: now}
}

// lower moves the threshold so that excess of the calls of a window like this one
// do not come. The levels of calls that found room at once are not known; they are
// taken to be those of the others.
func (t *threshold) lower(excess float64) {
	known := 0
	for _, n := range t.full {
		known += n
	}
	if known == 0 { // those refused came in an earlier window
		return
	}
	scale := float64(t.asked) / float64(known)
	for excess > 0 && t.value > thresholdLeast {
		level := int(math.Ceil(t.value)) - 1
		came := scale * float64(t.full[level])
		if came > excess {
			t.value -= (t.value - float64(level)) * excess / came
			break
		}
		excess -= came
		t.value = float64(level)
	}
	t.value = max(t.value, thresholdLeast)
}

// rise raises the threshold by what the time of windows, which was so many times
// the least that a window takes, is worth. As long as nothing at all is refused it
// rises ever faster.
func (t *threshold) rise(windows float64) {
	t.value = min(t.value+t.step*max(windows, 1), criticality.Levels)
	if t.refused == 0 {
		t.step = min(riseFaster*t.step, riseMost)
	} else {
		t.step = riseStep
	}
}
