package retry

import (
	"math"
	"testing"
	"time"
)

// A ratio is exact for every percentage and every spacing of calls. Tower turns a
// ratio into one deposit for so many withdrawals, and cuts that number to a whole
// one: 51 % and more become 100 %, 34 % become 50. The last check makes sure that
// the bounds here are narrow enough to tell.
func TestBudgetEveryPercentage(t *testing.T) {
	const windows = 2
	towers := func(ratio float64) float64 {
		if ratio <= 1 {
			return 1 / math.Trunc(1/ratio)
		}
		return 1000 / math.Trunc(1000/ratio)
	}
	for _, tt := range []struct {
		every  time.Duration
		window time.Duration
		misses int // how many of the first hundred percentages Tower's formula gets wrong, at least
	}{
		{1001 * time.Microsecond, 2 * time.Second, 80},
		{13 * ms, 26 * time.Second, 80},
		{119 * ms, 4 * time.Minute, 80},
		{333 * ms, 10 * time.Second, 60}, // more than a bucket apart
		{1001 * ms, 10 * time.Minute, 60},
	} {
		misses := 0
		for percent := 1; percent <= 250; percent++ {
			if percent > 100 {
				percent += 9
			}
			ratio := float64(percent) / 100
			b := newTally(BudgetConfig{Ratio: ratio, MinPerSecond: -1, Window: tt.window}.withDefaults())
			retries, at := 0, time.Duration(0)
			for ; at < (windows+1)*tt.window; at += tt.every {
				b.deposit(at)
				for b.withdraw(at) {
					if at >= tt.window {
						retries++
					}
				}
			}
			// A Window, with the bucket that lies partly in it, has a whole number
			// of retries, for the calls that are wholly in it.
			inside := float64((tt.window - b.width) / tt.every)
			least := math.Floor(ratio*inside*0.999) * math.Floor(float64(windows*tt.window)/float64(tt.window+b.width))
			most := ratio * float64((windows*tt.window)/tt.every+1)
			if got := float64(retries); got < least || got > most {
				t.Errorf("%d %%, a call every %v: %v retries, want at least %v and at most %v", percent, tt.every, got, least, most)
			}
			if percent <= 100 && most*towers(ratio)/ratio > most+1 {
				misses++
			}
		}
		if misses < tt.misses {
			t.Errorf("a call every %v: Tower's formula would miss for %d of 100 percentages only, want %d", tt.every, misses, tt.misses)
		}
	}
}

// A call pays as long as the Window is, whatever comes in between. In Tower's
// budget calls a little more than a tenth of the Window apart move it on by two
// tenths, so that a call pays for half as long.
func TestBudgetCallsPayForAWholeWindow(t *testing.T) {
	const window = 10 * time.Second
	for _, every := range []time.Duration{1001 * time.Microsecond, 13 * ms, 333 * ms, 1001 * ms} {
		b := newTally(BudgetConfig{Ratio: 1, MinPerSecond: -1, Window: window}.withDefaults())
		at := time.Duration(0)
		for ; at < 3*window; at += every {
			b.deposit(at)
		}
		b.advance(b.bucket(at))
		granted := int(b.longRoom() / million)
		if least, most := int((window-2*b.width)/every), int(window/every)+1; granted < least || granted > most {
			t.Errorf("a call every %v: %d calls pay, want %d to %d", every, granted, least, most)
		}
	}
}

// A storm that begins after a long quiet time gets what the calls of half a second
// pay for, and ten, in its first instant; and no more than its ratio later.
func TestBudgetHasAShortBound(t *testing.T) {
	for _, tt := range []struct {
		config BudgetConfig
		first  int // retries at once
	}{
		{BudgetConfig{}, 10 + 100},                 // and one a second, of which all may come at once
		{BudgetConfig{MinPerSecond: -1}, 10 + 100}, // a call every millisecond pays a fifth
		{BudgetConfig{MinPerSecond: 50}, 500 + 100},
		{BudgetConfig{Ratio: -1}, 10},
		{BudgetConfig{Ratio: -1, MinPerSecond: -1}, 0},
	} {
		u := newTally(tt.config.withDefaults())
		at := time.Duration(0)
		for ; at < 20*time.Second; at += ms {
			u.deposit(at)
		}
		greedy := func() (n int) {
			for u.withdraw(at) {
				n++
			}
			return n
		}
		first := greedy()
		if first < tt.first*98/100 || first > tt.first*122/100 {
			t.Errorf("%+v: %d retries at once, want about %d", tt.config, first, tt.first)
		}
		for range 10 { // half a second each
			n := 0
			for end := at + 500*ms; at < end; at += ms {
				u.deposit(at)
				n += greedy()
			}
			if most := tt.first * 122 / 100; n > most {
				t.Errorf("%+v: %d retries in half a second, want at most %d", tt.config, n, most)
			}
		}
	}
}

// The reserve is a rate. (Tower's comes back faster than it says.)
func TestBudgetReserveComesBackAsItSays(t *testing.T) {
	const perSecond, length = 10, 110 * time.Second
	b := newTally(BudgetConfig{Ratio: -1, MinPerSecond: perSecond, Window: 10 * time.Second}.withDefaults())
	granted := 0
	for at := time.Duration(0); at < length; at += 1001 * time.Microsecond {
		if b.withdraw(at) {
			granted++
		}
	}
	if want := perSecond * int(length.Seconds()); granted > want || granted < want*9/10 {
		t.Errorf("%d retries in %v, want at most %d and hardly fewer", granted, length, want)
	}
}
