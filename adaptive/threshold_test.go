package adaptive

import (
	"math/rand/v2"
	"testing"

	"github.com/turret-go/turret/criticality"
)

// obedient is a gate whose clients keep to its threshold, of which they learn ten
// milliseconds later.
type obedient struct {
	gated

	known float64
	sent  []int64
}

func (o *obedient) enter(c *simCall, then func(bool)) {
	v := o.s.gate.threshold.value
	o.s.at(o.s.now+10*ms, func() { o.known = v })
	if share := o.known - float64(c.level); share < 1 && o.s.rand.Float64() >= share {
		then(false)
		return
	}
	o.sent = append(o.sent, o.s.now)
	o.gated.enter(c, then)
}

// playObedient plays sc with clients that keep to the threshold. sent is what they
// send in the event but for its first second, as a part of capacity.
func playObedient(sc scenario, seed uint64) (r result, sent float64) {
	o := &obedient{known: criticality.Levels}
	r = sc.play(seed, func(s *sim) admission {
		adaptively(Config{})(s)
		o.s = s
		return o
	})
	sc = sc.filled()
	from, to := sc.quiet+sec, sc.quiet+sc.event
	for _, at := range o.sent {
		if at >= from && at < to {
			sent++
		}
	}
	return r, sent / (sc.capacity * float64(to-from) / float64(sec))
}

// Clients that keep to the threshold send hardly more than is admitted, the most
// critical first, and all of it soon after the surge.
func TestThresholdKeepsAwayWhatWouldBeRefused(t *testing.T) {
	skipUnderRace(t)
	seeds := []uint64{1}
	if *table != "" {
		seeds = tableSeeds
	}
	for _, seed := range seeds {
		r, sent := playObedient(scenario{normal: 0.7, during: 3, level: fourLevels}, seed)
		t.Logf("| %d | %.1f | %.2f | %.2f | %.1f | %.1f | %.2f | %.1f |", seed, 100*r.goodput, sent,
			100*r.byLevel[0], 100*r.byLevel[1], 100*r.byLevel[2], 100*r.byLevel[3], r.recovered)
		if r.goodput < 0.93 || sent > 1.15 || r.byLevel[0] < 0.994 || r.byLevel[1] < 0.85 || r.recovered > 2 || r.refused > 0.001 {
			t.Errorf("seed %d: goodput %.3f with %.2f times the capacity sent, by level %.4f, recovered after %.1f s, %.4f refused before",
				seed, r.goodput, sent, r.byLevel, r.recovered, r.refused)
		}
	}
}

// The threshold stays between its bounds, and is back soon after the last refusal,
// whatever comes.
func TestThresholdBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		th := newThreshold()
		now := int64(0)
		level, share := random.IntN(criticality.Levels), random.Float64()
		for range 5_000 {
			now += random.Int64N(10 * ms)
			th.full[level]++
			th.asks(now)
			if random.Float64() < share {
				th.refused++
			}
			if th.value < thresholdLeast || th.value > criticality.Levels {
				t.Fatalf("threshold %v", th.value)
			}
		}
		for range 3_000 {
			now += ms
			th.asks(now)
		}
		if th.value != criticality.Levels {
			t.Fatalf("threshold %v three seconds after the last refusal, of %.2f of the calls of level %d", th.value, share, level)
		}
	}
}

// After a time without calls the threshold is back where it began.
func TestThresholdIsForgottenInSilence(t *testing.T) {
	th := newThreshold()
	th.value = 0.5
	th.asks(15 * sec)
	if th.value != criticality.Levels {
		t.Errorf("threshold %v after 15 s without a call", th.value)
	}
}

// Calls that TryEnter turns away have no level, and must not move the threshold.
func TestTurnedAwayCallsDoNotMoveTheThreshold(t *testing.T) {
	g := newGate(Config{Max: 1}.withDefaults())
	g.enter(0, 0)
	for now := int64(0); now < sec; now += ms {
		g.turnAway(now, 10)
	}
	g.leave(sec, 0, 0)
	for range 100 {
		g.enter(2*sec, 0)
	}
	if g.threshold.value != criticality.Levels {
		t.Errorf("threshold %v", g.threshold.value)
	}
}
