package retry

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const (
	ms      = time.Millisecond
	longest = math.MaxUint64 // a random word that takes the most off
)

func TestBackoffDelay(t *testing.T) {
	tests := []struct {
		name    string
		backoff Backoff
		attempt int
		random  uint64
		want    time.Duration
	}{
		{"default, first, nothing off", Backoff{}, 1, 0, 50 * ms},
		{"default, first, all off", Backoff{}, 1, longest, 1},
		{"default, half off", Backoff{}, 1, 1 << 63, 25 * ms},
		{"default, doubled", Backoff{}, 4, 0, 400 * ms},
		{"default, last below the cap", Backoff{}, 7, 0, 3200 * ms},
		{"default, at the cap", Backoff{}, 8, 0, 5 * time.Second},
		{"default, at the cap there is jitter too", Backoff{}, 8, 1 << 63, 2500 * ms},
		{"attempts below one count as one", Backoff{}, -3, 0, 50 * ms},
		{"almost full jitter of the longest bound", Backoff{Base: math.MaxInt64, Jitter: 1 - 0x1p-53}, 1, longest, 1024},
		{"far beyond any shift", Backoff{}, math.MaxInt, 0, 5 * time.Second},
		{"63 doublings", Backoff{Base: 1, Max: -1}, 64, 0, math.MaxInt64},
		{"62 doublings", Backoff{Base: 1, Max: -1}, 63, 0, 1 << 62},
		{"one doubling too many", Backoff{Base: 3, Max: -1}, 63, 0, math.MaxInt64},
		{"no cap", Backoff{Base: time.Second, Max: -1}, 11, 0, 1024 * time.Second},
		{"no delay", Backoff{Base: -1}, 5, 1 << 63, 0},
		{"no jitter", Backoff{Jitter: -1}, 2, longest, 100 * ms},
		{"a fifth of jitter, all off", Backoff{Base: time.Second, Jitter: 0.2}, 1, longest, 800*ms + 1},
		{"whole seconds are jittered like the rest", Backoff{Base: 4 * time.Second}, 1, 3 << 60, 3250 * ms},
		{"a cap below the default base", Backoff{Max: 10 * ms}, 1, 0, 10 * ms},
		{"a base above the default cap", Backoff{Base: time.Minute}, 3, 0, time.Minute},
		{"a gentle multiplier", Backoff{Base: 100 * ms, Multiplier: 1.3, Max: time.Minute}, 3, 0, 169 * ms},
		{"a steep multiplier", Backoff{Base: ms, Multiplier: 10}, 4, 0, time.Second},
		{"a multiplier, at the cap", Backoff{Base: 100 * ms, Multiplier: 1.3, Max: 150 * ms}, 3, 0, 150 * ms},
		{"a multiplier beyond any number", Backoff{Multiplier: math.MaxFloat64}, math.MaxInt, 0, 5 * time.Second},
		{"a multiplier without a cap", Backoff{Base: 1, Max: -1, Multiplier: 1.5}, 1000, 0, math.MaxInt64},
		{"a multiplier of two is a shift", Backoff{Base: 1, Max: -1, Multiplier: 2}, 63, 0, 1 << 62},
		{"the cap need not be a doubling", Backoff{Base: 30 * ms, Max: 100 * ms}, 3, 0, 100 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.backoff.Delay(tt.attempt, tt.random); got != tt.want {
				t.Errorf("Delay(%d, %#x) = %v, want %v", tt.attempt, tt.random, got, tt.want)
			}
		})
	}
}

// Full jitter is uniform over the whole bound: each tenth of it gets a tenth of
// the delays, for a bound of whole seconds as well.
func TestBackoffJitterIsUniform(t *testing.T) {
	const draws = 100_000
	b := Backoff{Base: 4 * time.Second}
	random := rand.New(rand.NewPCG(1, 2))
	var tenths [10]int
	for range draws {
		d := b.Delay(1, random.Uint64())
		tenths[(d-1)*10/(4*time.Second)]++
	}
	for i, n := range tenths {
		if n < draws/10*95/100 || n > draws/10*105/100 {
			t.Errorf("tenth %d has %d of %d delays: %v", i, n, draws, tenths)
		}
	}
}

func TestBackoffValidate(t *testing.T) {
	for _, b := range []Backoff{
		{},
		{Base: -1, Max: -1, Jitter: -1},
		{Base: time.Second, Max: time.Second, Jitter: 1},
		{Base: time.Hour},
		{Max: 1},
		{Base: time.Hour, Max: -1},
		{Jitter: math.Inf(-1)},
	} {
		if err := b.Validate(); err != nil {
			t.Errorf("%+v: %v", b, err)
		}
	}
	tests := []struct {
		backoff Backoff
		want    string
	}{
		{Backoff{Base: 2 * time.Second, Max: time.Second}, "retry: Max is 1s, must be at least Base (2s)"},
		{Backoff{Jitter: math.NaN()}, "retry: Jitter is NaN, must be at most 1 "},
		{Backoff{Jitter: 1.01}, "retry: Jitter is 1.01, must be at most 1 "},
		{Backoff{Multiplier: 1}, "retry: Multiplier is 1, must be above 1 and finite"},
		{Backoff{Multiplier: -2}, "retry: Multiplier is -2, must be above 1 "},
		{Backoff{Multiplier: math.NaN()}, "retry: Multiplier is NaN, must be above 1 "},
		{Backoff{Multiplier: math.Inf(1)}, "retry: Multiplier is +Inf, must be above 1 "},
		{Backoff{Jitter: math.Inf(1)}, "retry: Jitter is +Inf, must be at most 1 "},
	}
	for _, tt := range tests {
		if err := tt.backoff.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %q", tt.backoff, err, tt.want)
		}
	}
}

// Whatever is valid gives delays within [0, Max], never longer than the bound
// that grows from Base, and bounds that do not shrink.
func FuzzBackoffDelay(f *testing.F) {
	f.Add(int64(0), int64(0), 0.0, 0.0, 1, uint64(0))
	f.Add(int64(time.Second), int64(-1), 1.0, 0.0, 40, uint64(longest))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 0.999, 0.0, 2, uint64(longest))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 1-0x1p-53, 0.0, 1, uint64(longest))
	f.Add(int64(1), int64(math.MaxInt64), 1e-300, 0.0, math.MaxInt, uint64(1))
	f.Add(int64(1<<62), int64(-1), -1.0, 1+0x1p-52, 7, uint64(1))
	f.Add(int64(50*ms), int64(0), 0.0, 1.3, 9, uint64(longest))
	f.Add(int64(1), int64(-1), 0.0, math.MaxFloat64, math.MaxInt, uint64(0))
	f.Fuzz(func(t *testing.T, base, limit int64, jitter, multiplier float64, attempt int, random uint64) {
		b := Backoff{Base: time.Duration(base), Max: time.Duration(limit), Jitter: jitter, Multiplier: multiplier}
		if b.Validate() != nil {
			t.Skip()
		}
		d := b.Delay(attempt, random)
		most := b.Delay(attempt, 0) // nothing is taken off
		if d < 0 || d > most {
			t.Errorf("%+v: Delay(%d, %#x) = %v, must be within [0, %v]", b, attempt, random, d, most)
		}
		if b.Max > 0 && d > b.Max {
			t.Errorf("%+v: Delay(%d, %#x) = %v passes Max", b, attempt, random, d)
		}
		if b.Base >= 0 && b.Max >= 0 && d == 0 {
			t.Errorf("%+v: Delay(%d, %#x) = 0: the interval is open below", b, attempt, random)
		}
		if attempt < math.MaxInt {
			factor := max(2, b.Multiplier) * (1 + 1e-9)
			// A power in floating point may be off in its last digits.
			if next := b.Delay(attempt+1, 0); next < most-most>>50 || float64(next) > factor*(float64(most)+1)+1 {
				t.Errorf("%+v: the bound goes from %v to %v at attempt %d", b, most, next, attempt+1)
			}
		}
		if exact := (Backoff{Base: b.Base, Max: b.Max, Jitter: -1, Multiplier: b.Multiplier}).Delay(attempt, random); exact != most {
			t.Errorf("%+v: without jitter %v, at most %v with it", b, exact, most)
		}
	})
}
