package adaptive

import "math"

const (
	pauseInside = 4  // calls inside below which a gap says nothing
	pauseEnds   = 12 // calls that should have ended in a gap
	pauseOver   = 10 // gaps after which the backlog of one is no excuse any more
)

// A pause notices that the process stood still: nothing came, ended or fell due
// for so long that many calls should have ended.
type pause struct {
	touched    int64 // when anything last happened, or the gate was last empty
	over       int64 // when the process last went on
	recovering bool  // there is a backlog of a pause
	until      int64 // when recovering ends at the latest
}

// never is the state in which there was no pause.
func (p *pause) never() { p.over = math.MinInt64 }

// begin says that a call enters an empty gate at now.
func (p *pause) begin(now int64) { p.touched = now }

// touch says that something happens at now. It returns how long the process
// stood still just before, 0 if it did not.
func (p *pause) touch(now int64, inside int, unloaded float64) int64 {
	gap := now - p.touched
	p.touched = max(p.touched, now)
	if inside < pauseInside || unloaded == 0 ||
		float64(gap) < 2*unloaded || float64(gap)*float64(inside) < pauseEnds*unloaded {
		return 0
	}
	p.over, p.recovering, p.until = now, true, now+pauseOver*gap
	return gap
}

// recover notices at now that the backlog is gone, for which the line has to be
// empty one latency or more after the pause.
func (p *pause) recover(now int64, waiting int, unloaded float64) {
	if p.recovering && (now >= p.until || waiting == 0 && float64(now-p.over) >= unloaded) {
		p.recovering = false
		p.over = now
	}
}

// spans reports whether the latency of a call that entered at start says nothing
// because of a pause.
func (p *pause) spans(start int64) bool { return p.recovering || start < p.over }
