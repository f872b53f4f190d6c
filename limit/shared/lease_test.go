package shared

import (
	"testing"
	"time"

	"github.com/turret-go/turret/limit"
)

// FuzzLedger runs a ledger through the steps that the input describes and holds
// its invariants: no token that was not granted is used, one question is under
// way at most, none while the ledger is silent, and no question is too large.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 200, 0, 3, 1, 4, 9}, uint16(100), uint16(50))
	f.Add([]byte{0, 255, 0, 3, 255, 0, 2, 0, 0, 4, 4, 0}, uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, steps []byte, rate, burst uint16) {
		l := newLedger(Config{
			Key: "k", Rate: limit.Rate{N: int(rate) + 1, Per: time.Second, Burst: int(burst) + 1}, MaxLease: 100,
		}.withDefaults())
		var now int64
		var granted, used, asked int
		for i := 0; i+1 < len(steps); i += 2 {
			arg := int(steps[i+1])
			now += int64(arg) * int64(arg) * int64(time.Millisecond) / 16
			switch steps[i] % 5 {
			case 0:
				l.demand.add(now)
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
				asked = n
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
			if left := l.tokens(now); left < 0 || used+left > granted {
				t.Fatalf("%d tokens were granted, %d are used and %d left", granted, used, left)
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
