package throttle

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/turrettest"
)

func TestThresholdIsAGate(t *testing.T) {
	turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return NewThreshold(), -1 })
}

// pass counts of n calls of each level those that pass.
func pass(t *testing.T, th *Threshold, n int) (passed [criticality.Levels]int) {
	t.Helper()
	for i := range passed {
		ctx := criticality.With(t.Context(), criticality.CriticalPlus+criticality.Level(i))
		for range n {
			ticket, err := th.Enter(ctx)
			if err == nil {
				passed[i]++
				th.Leave(ticket, turret.Success)
				continue
			}
			r, ok := errors.AsType[*turret.Refusal](err)
			if !ok || r.Reason != ReasonBelowThreshold || r.Kind != turret.KindOverloaded || !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, ErrBelowThreshold) {
				t.Fatalf("Enter: %#v, want a refusal", err)
			}
		}
	}
	return passed
}

// learned is a Threshold that has known nothing but v for long.
func learned(v float64) *Threshold {
	th := NewThreshold()
	learn(th, v)
	return th
}

func learn(th *Threshold, v float64) { answer(th, Answer{Threshold: v}) }

// answer gives the same answer for five seconds. What was wanted before has then a
// part of exp(-50) in what is wanted, so that no call passes by chance.
func answer(th *Threshold, a Answer) {
	for range 500 {
		th.Learn(a)
		time.Sleep(10 * time.Millisecond)
	}
	th.Learn(a)
}

func TestLessCriticalCallsAreNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThreshold()
		if got := pass(t, th, 100); got != [4]int{100, 100, 100, 100} {
			t.Errorf("%v pass of 100 of each level before anything was learned", got)
		}
		learn(th, 2.5)
		if got := pass(t, th, 1000); got[0] != 1000 || got[1] != 1000 || got[2] < 400 || got[2] > 600 || got[3] != 0 {
			t.Errorf("%v pass of 1000 of each level with the threshold 2.5", got)
		}
		if s := th.Stats(); s.Passed+s.Refused != 4400 || s.Wanted[3] > 0.001 {
			t.Errorf("%+v", s)
		}
		learn(th, criticality.Levels)
		if got := pass(t, th, 100); got != [4]int{100, 100, 100, 100} {
			t.Errorf("%v pass of 100 of each level with the threshold 4", got)
		}
	})
}

// A client that sends nothing learns nothing: it must not stay like that.
func TestSilenceIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := learned(0)
		ctx := criticality.With(t.Context(), criticality.Sheddable)
		passed := 0
		for range 99 {
			time.Sleep(10 * time.Millisecond)
			if _, err := th.Enter(ctx); err == nil {
				passed++
			}
		}
		if passed != 9 {
			t.Errorf("%d calls pass in 990 ms without an answer, want one in 100 ms", passed)
		}
		time.Sleep(10 * time.Millisecond)
		if got := pass(t, th, 100); got != [4]int{100, 100, 100, 100} {
			t.Errorf("%v pass of 100 of each level after a second without an answer", got)
		}
	})
}

// One full server of ten must not keep away what the others want.
func TestThresholdsOfSeveralServersAreAveraged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThreshold()
		for range 100 {
			th.Learn(Answer{Threshold: 1})
			for range 9 {
				time.Sleep(time.Millisecond)
				th.Learn(Answer{Threshold: criticality.Levels})
			}
			time.Sleep(time.Millisecond)
		}
		if got := th.Stats().Wanted; got[0] < 1 || math.Abs(got[3]-0.9) > 0.05 {
			t.Errorf("%.2f of each level pass, want all of the first and 0.9 of the others", got)
		}
	})
}

// A level that the server does not allow is turned away as the one that it gives
// in its place, and only as long as it does not allow it.
func TestLevelsBeyondWhatIsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThreshold()
		answer(th, Answer{Threshold: 1, Sent: criticality.CriticalPlus, Given: criticality.Critical})
		if got := pass(t, th, 10); got != [4]int{} {
			t.Errorf("%v pass of 10 of each level, want none", got)
		}
		answer(th, Answer{Threshold: 1, Sent: criticality.Critical, Given: criticality.Critical})
		if got := pass(t, th, 10); got != [4]int{} {
			t.Errorf("%v pass of 10 of each level after answers to other calls, want none", got)
		}
		answer(th, Answer{Threshold: 1, Sent: criticality.CriticalPlus, Given: criticality.CriticalPlus})
		if got := pass(t, th, 10); got != [4]int{10, 0, 0, 0} {
			t.Errorf("%v pass of 10 of each level, want those of the level that is allowed now", got)
		}
	})
}

// What peers send is not to be relied on.
func TestOddThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, v := range []float64{math.NaN(), math.Inf(1), 17, criticality.Levels} {
			if got := pass(t, learned(v), 10); got != [4]int{10, 10, 10, 10} {
				t.Errorf("threshold %v: %v pass of 10 of each level", v, got)
			}
		}
		for _, v := range []float64{math.Inf(-1), -5, 0} {
			if got := pass(t, learned(v), 10); got != [4]int{} {
				t.Errorf("threshold %v: %v pass of 10 of each level", v, got)
			}
		}
	})
}

// Shares stay shares, whatever is learned in whatever order and time.
func FuzzWanted(f *testing.F) {
	f.Add(uint64(1), uint8(10))
	f.Add(uint64(7), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, pace uint8) {
		random := rand.New(rand.NewPCG(seed, 1))
		w, now := everything, int64(0)
		for range 500 {
			now += random.Int64N(int64(pace)*int64(time.Millisecond) + 1)
			if random.IntN(2) == 0 {
				w.learn(now, Answer{
					Threshold: 6*random.Float64() - 1,
					Sent:      criticality.Level(random.IntN(4)) - 1, Given: criticality.Level(random.IntN(4)) - 1,
				}, w.limits())
			} else {
				w.ask(now, random.IntN(criticality.Levels), random.Uint64())
			}
			for level, share := range w.share {
				if !(share >= 0 && share <= 1) || level > 0 && share > w.share[level-1]+1e-9 {
					t.Fatalf("shares %v", w.share)
				}
			}
		}
	})
}

func TestThresholdAllocatesNothing(t *testing.T) {
	th := NewThreshold()
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		th.Learn(Answer{Threshold: criticality.Levels})
		ticket, _ := th.Enter(ctx)
		th.Leave(ticket, turret.Success)
	}); n != 0 {
		t.Errorf("Learn, Enter and Leave allocate %v times", n)
	}
}

func TestThresholdDescribesItself(t *testing.T) {
	th := NewThreshold()
	if got := th.String(); !strings.HasPrefix(got, "threshold: 100 % of critical-plus") {
		t.Error(got)
	}
	if n := turret.Describe(th, 10); n.Kind != "threshold" || len(n.Figures) != 6 {
		t.Errorf("%+v", n)
	}
}
