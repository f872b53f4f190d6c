package throttle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

func TestThrottleIsAGate(t *testing.T) {
	turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return New(Config{}), -1 })
}

func TestConfigNamesTheInvalidField(t *testing.T) {
	for field, c := range map[string]Config{
		"K is 1,":         {K: 1},
		"K is -2,":        {K: -2},
		"K is 2000,":      {K: 2000},
		"Window is 1ms,":  {Window: time.Millisecond},
		"Window is 1h0m0": {Window: time.Hour},
	} {
		err := c.Validate()
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || !strings.Contains(err.Error(), field) {
			t.Errorf("Validate(%+v) = %v, want %q", c, err, field)
		}
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "throttle: New: "+field) {
					t.Errorf("New panics with %q", p)
				}
			}()
			New(c)
		}()
	}
}

// A server that accepts a fixed rate gets at most about K times that, whatever
// is asked, and the throttle is gone soon after the surge.
func TestServerGetsTwiceWhatItAccepts(t *testing.T) {
	const capacity, step = 500, int64(time.Millisecond) / 5 // 5,000 calls a second
	random := rand.New(rand.NewPCG(1, 2))
	c := counts{width: int64(100 * time.Millisecond)}
	sent, accepted, room, refusedAfter := 0, 0, 0.0, 0
	for now := int64(0); now < int64(20*time.Second); now += step {
		room = min(room+capacity*float64(step)/float64(time.Second), 20)
		surge := now < int64(15*time.Second)
		if !surge && now%(25*step) != 0 { // 200 calls a second
			continue
		}
		passes := c.ask(now, 2, random.Uint64)
		switch {
		case now < int64(2*time.Second):
		case surge && passes:
			sent++
		case !passes && now > int64(16500*time.Millisecond):
			refusedAfter++
		}
		if !passes {
			continue
		}
		if room < 1 {
			c.refuse(now)
			continue
		}
		room--
		if surge && now >= int64(2*time.Second) {
			accepted++
		}
	}
	t.Logf("the server got %.2f times what it accepted", float64(sent)/float64(accepted))
	if ratio := float64(sent) / float64(accepted); ratio > 2.15 || ratio < 1.8 || float64(accepted) < 0.97*13*capacity {
		t.Errorf("the server got %.2f times the %d calls that it accepted, want about 2 and no fewer than %v", ratio, accepted, 13*capacity)
	}
	if refusedAfter > 0 {
		t.Errorf("%d calls turned away 1.5 s after the surge and later", refusedAfter)
	}
}

// Calls that take longer than the window, and have not been refused, keep none
// out.
func TestSlowServerIsNotThrottled(t *testing.T) {
	c := counts{width: int64(100 * time.Millisecond)}
	for i := range int64(10_000) {
		if !c.ask(i*int64(time.Millisecond), 2, func() uint64 { return 0 }) {
			t.Fatalf("call %d turned away although nothing was refused", i)
		}
	}
}

func TestUnsentCallsDoNotCount(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4)).Uint64
	c := counts{width: 100}
	for i := range 50 {
		c.ask(int64(i), 2, random)
		c.unsent(int64(i), int64(i))
	}
	c.ask(51, 2, random)
	if c.sum != (tally{asked: 1, sent: 1}) || c.passed != 1 {
		t.Errorf("%+v, %d passed", c.sum, c.passed)
	}
	c.unsent(100_000, 51) // long ago
	if c.sum != (tally{}) {
		t.Errorf("after a long time %+v", c.sum)
	}
}

func TestOutcomesThatCount(t *testing.T) {
	for _, failures := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { // in which the window does not pass
			th := New(Config{Failures: failures})
			for o := range turret.Unused + 1 {
				ticket, err := th.TryEnter(t.Context())
				if err != nil {
					continue
				}
				th.Leave(ticket, o)
			}
			want := 1
			if failures {
				want = 2 // and what came after was likely turned away
			}
			if got := th.Stats().Refused; got < 1 || got > want+1 {
				t.Errorf("Failures %t: %d refused", failures, got)
			}
		})
	}
}

func TestThrottlePrintsAndDescribesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{})
		for range 3 {
			if ticket, err := th.Enter(t.Context()); err == nil {
				th.Leave(ticket, turret.Overload)
			}
		}
		if got := th.String(); !strings.HasPrefix(got, "throttle: ") {
			t.Error(got)
		}
		if n := turret.Describe(th, 1); n.Kind != "throttle" || len(n.Figures) != 5 {
			t.Errorf("%+v", n)
		}
		if s := th.Stats(); s.Asked != 3 || s.Probability <= 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	th := New(Config{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if ticket, err := th.Enter(ctx); err == nil {
			th.Leave(ticket, turret.Overload)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCounts checks the sums against the buckets.
func FuzzCounts(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 250, 0, 0, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		c := counts{width: 100}
		now := int64(0)
		var sent []int64
		for _, b := range steps {
			switch b % 5 {
			case 0:
				if c.ask(now, 2, func() uint64 { return uint64(b) << 56 }) {
					sent = append(sent, now)
				}
			case 1:
				now += int64(b) * 7
			case 2:
				c.refuse(now)
			case 4:
				c.answer(now)
			case 3:
				if len(sent) > 0 {
					c.unsent(now, sent[0])
					sent = sent[1:]
				}
			}
			var sum tally
			for _, tally := range c.buckets {
				sum.asked += tally.asked
				sum.sent += tally.sent
				sum.refused += tally.refused
			}
			if p := c.probability(2); sum != c.sum || p < 0 || p > 1 || sum.sent > sum.asked || sum.sent < 0 {
				t.Fatalf("buckets %+v, sum %+v, probability %v", sum, c.sum, p)
			}
		}
	})
}
