package shared

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/turret-go/turret/limit"
)

// FuzzLedger runs a ledger through the steps that the input describes and holds
// its invariants: no token that was not granted is used, one question is under
// way at most, none while the ledger is silent, no question is too large, and no
// more is held or under way than calls came in the Horizon before the question.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 200, 0, 3, 1, 4, 9}, uint16(100), uint16(50))
	f.Add([]byte{0, 255, 0, 3, 255, 0, 2, 0, 0, 4, 4, 0}, uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, steps []byte, rate, burst uint16) {
		l := newLedger(Config{
			Key: "k", Rate: limit.Rate{N: int(rate) + 1, Per: time.Second, Burst: int(burst) + 1}, MaxLease: 100,
		}.withDefaults())
		var now int64
		var granted, used, asked int
		var calls []int64
		held := 0 // at most, since the last question
		for i := 0; i+1 < len(steps); i += 2 {
			arg := int(steps[i+1])
			now += int64(arg) * int64(arg) * int64(time.Millisecond) / 16
			switch steps[i] % 5 {
			case 0:
				l.demand.add(now)
				calls = append(calls, now)
				if l.take(now) {
					used++
				}
			case 1, 2:
				was, silent := l.asking, l.silent(now)
				n := l.question(now, arg%8)
				if n == 0 {
					continue
				}
				if was || silent || n < 0 || n > min(100, int(burst)+1) {
					t.Fatalf("a question for %d tokens; one was under way: %v, silent: %v", n, was, silent)
				}
				asked, held = n, n+l.tokens(now)
				if most := max(within(calls, now-int64(l.cfg.Horizon)), arg%8, 1); held > min(most, 100, int(burst)+1) {
					t.Fatalf("%d tokens are held or asked for after %d calls in a Horizon", held, most)
				}
			case 3:
				if l.asking {
					got := min(arg, asked)
					granted += got
					l.answer(now, asked, arg, time.Duration(arg)*time.Second, uint64(arg)<<56)
				}
			case 4:
				if l.asking {
					l.failed(now, uint64(arg)<<56)
				}
			}
			if left := l.tokens(now); left < 0 || used+left > granted || left > held {
				t.Fatalf("%d tokens were granted, %d are used and %d left, want at most %d left", granted, used, left, held)
			}
			if wait := l.retryAfter(now); wait < 0 || wait > time.Hour {
				t.Fatalf("retry after %v", wait)
			}
			if err := l.localRate().Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// within returns how many calls came at from or later.
func within(calls []int64, from int64) (n int) {
	for _, at := range calls {
		if at >= from {
			n++
		}
	}
	return n
}

// TestWindowCountsTheLastWidth gives a window calls at random instants: what it
// counts came within the width, and is all that came within fifteen sixteenths of it.
func TestWindowCountsTheLastWidth(t *testing.T) {
	const width = 100 * time.Millisecond
	random := rand.New(rand.NewPCG(1, 1))
	w := newWindow(width)
	var calls []int64
	var now int64
	for range 5000 {
		now += int64(random.ExpFloat64() * float64(4*time.Millisecond))
		if random.IntN(200) == 0 {
			now += random.Int64N(int64(3 * width))
		}
		w.add(now)
		calls = append(calls, now)
		if random.IntN(10) == 0 {
			now += random.Int64N(int64(width) / 2)
		}
		least, most := within(calls, now-int64(width)*15/16), within(calls, now-int64(width))
		if got := w.count(now); got < least || got > most {
			t.Fatalf("counts %d calls at %v, want %d to %d", got, time.Duration(now), least, most)
		}
		calls = calls[max(len(calls)-200, 0):]
	}
}

// TestNextLeaseIsAskedForInTime holds when a process asks ahead: at an eighth of the
// Horizon, at two round trips where these are longer, and at half of the Horizon where
// they are longer still.
func TestNextLeaseIsAskedForInTime(t *testing.T) {
	for _, tt := range []struct {
		trip time.Duration
		left int // of 80 tokens, at the next question
	}{
		{time.Millisecond, 10},
		{10 * time.Millisecond, 16},
		{20 * time.Millisecond, 32},
		{90 * time.Millisecond, 40},
	} {
		l := newLedger(Config{Key: "k", Rate: limit.PerSecond(10_000)}.withDefaults())
		now := int64(time.Second)
		for range 80 {
			l.demand.add(now)
		}
		l.question(now, 80)
		now += int64(tt.trip)
		l.answer(now, 80, 80, 0, 0)
		for l.tokens(now) > 0 && l.question(now, 0) == 0 {
			l.take(now)
		}
		if got := l.tokens(now); got != tt.left {
			t.Errorf("with a round trip of %v the next lease is asked for at %d tokens of 80, want %d", tt.trip, got, tt.left)
		}
	}
}

// TestEngineThatIsNeverProbed has the longest Probe that there is: an engine that is
// away is not asked at once.
func TestEngineThatIsNeverProbed(t *testing.T) {
	for _, random := range []uint64{0, math.MaxUint64} {
		l := newLedger(Config{Key: "k", Rate: limit.PerSecond(1), Probe: math.MaxInt64}.withDefaults())
		now := int64(time.Hour)
		l.failed(now, random)
		if l.probeAt <= now || l.question(now, 1) != 0 {
			t.Errorf("random word %d: the engine is asked at %d", random, l.probeAt)
		}
	}
}

func TestMeanIsExactFromTheBeginning(t *testing.T) {
	for _, lasts := range []time.Duration{500 * time.Millisecond, 5 * time.Second, time.Minute} {
		m := mean{tau: float64(10 * time.Second)}
		for at := time.Duration(0); at <= lasts; at += 10 * time.Millisecond {
			m.add(int64(at), 3)
		}
		if got := m.rate() * float64(time.Second); got < 290 || got > 310 {
			t.Errorf("300 a second for %v have the mean %.1f", lasts, got)
		}
	}
}

func TestAbsenceIsNotInTheMean(t *testing.T) {
	m := mean{tau: float64(10 * time.Second)}
	for at := time.Duration(0); at <= 20*time.Second; at += 10 * time.Millisecond {
		m.add(int64(at), 3)
	}
	before := m.rate()
	m.skip(int64(time.Hour))
	if after := m.rate(); after != before {
		t.Errorf("the mean is %v after an absence, %v before it", after, before)
	}
}
