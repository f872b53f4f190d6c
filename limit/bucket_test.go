package limit

import (
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"
)

// A bigBucket is the same bucket in numbers that cannot overflow: how full it
// is, in tokens times Per.
type bigBucket struct {
	rate  Rate
	level *big.Int
}

func newBigBucket(r Rate) *bigBucket {
	b := &bigBucket{rate: r}
	b.level = b.full()
	return b
}

func number(n int64) *big.Int { return big.NewInt(n) }

func product(a, b int64) *big.Int { return new(big.Int).Mul(number(a), number(b)) }

func (b *bigBucket) full() *big.Int { return product(int64(b.rate.burst()), int64(b.rate.Per)) }

func (b *bigBucket) cut() {
	if full := b.full(); b.level.Cmp(full) > 0 {
		b.level = full
	}
}

func (b *bigBucket) pass(d int64, waited bool) {
	full := b.full()
	if b.level.Cmp(full) >= 0 {
		b.level = full
		return
	}
	b.level.Add(b.level, product(d, int64(b.rate.N)))
	if b.level.Cmp(full) < 0 {
		return
	}
	_, part := b.split()
	b.level = full
	if waited {
		b.level.Add(b.level, number(min(part.Int64(), int64(b.rate.N)-1)))
	}
}

func (b *bigBucket) take() bool {
	per := number(int64(b.rate.Per))
	if b.level.Cmp(per) < 0 {
		return false
	}
	b.level.Sub(b.level, per)
	return true
}

func (b *bigBucket) put() {
	b.level.Add(b.level, number(int64(b.rate.Per)))
	b.cut()
}

// split returns the whole tokens and the part of the next one.
func (b *bigBucket) split() (tokens, part *big.Int) {
	return new(big.Int).QuoRem(b.level, number(int64(b.rate.Per)), new(big.Int))
}

func (b *bigBucket) after(n int) time.Duration {
	lack := product(int64(n), int64(b.rate.Per))
	lack.Sub(lack, b.level)
	if lack.Sign() <= 0 {
		return 0
	}
	lack.Add(lack, number(int64(b.rate.N)-1))
	lack.Quo(lack, number(int64(b.rate.N)))
	if !lack.IsInt64() {
		return math.MaxInt64
	}
	return time.Duration(lack.Int64())
}

func (b *bigBucket) setRate(r Rate) {
	tokens, part := b.split()
	part.Mul(part, number(int64(r.Per)))
	part.Quo(part, number(int64(b.rate.Per)))
	b.rate = r
	b.level = tokens.Mul(tokens, number(int64(r.Per)))
	b.level.Add(b.level, part)
	b.cut()
}

// check compares a bucket with the same one in big numbers.
func (b *bigBucket) check(t *testing.T, step string, got *bucket) {
	t.Helper()
	tokens, part := b.split()
	if !tokens.IsUint64() || got.tokens != tokens.Uint64() || got.part != part.Uint64() {
		t.Fatalf("%s: %d tokens and %d/%d, want %v and %v", step, got.tokens, got.part, got.rate.Per, tokens, part)
	}
	for _, n := range []int{0, 1, 2, 1000, math.MaxInt} {
		if got, want := got.after(n), b.after(n); got != want {
			t.Fatalf("%s: %d more tokens after %d, want %d", step, n, got, want)
		}
	}
}

// FuzzBucket runs a bucket beside the same one in numbers that cannot overflow,
// at any rate and with any leaps in time.
func FuzzBucket(f *testing.F) {
	f.Add(3, int64(time.Second), 1, 1, int64(7), 7, int64(333_333_333), int64(1), uint8(20))
	f.Add(math.MaxInt, int64(1), 0, 1, int64(math.MaxInt64), 1, int64(math.MaxInt64), int64(math.MaxInt64), uint8(5))
	f.Add(1, int64(math.MaxInt64), math.MaxInt, math.MaxInt, int64(math.MaxInt64), 2, int64(1), int64(math.MaxInt64), uint8(50))
	f.Add(math.MaxInt, int64(math.MaxInt64), 3, 5, int64(1), 1, int64(1), int64(2), uint8(9))
	f.Fuzz(func(t *testing.T, n int, per int64, burst, n2 int, per2 int64, burst2 int, d1, d2 int64, steps uint8) {
		r, r2 := Rate{n, time.Duration(per), burst}, Rate{n2, time.Duration(per2), burst2}
		if r.Validate() != nil || r2.Validate() != nil || d1 < 0 || d2 < 0 {
			t.Skip("invalid")
		}
		got, want := newBucket(r), newBigBucket(r)
		now := int64(0)
		pass := func(d int64, waited bool) {
			if d = min(d, math.MaxInt64-now); d == 0 {
				return
			}
			now += d
			got.refill(now, waited)
			want.pass(d, waited)
			want.check(t, fmt.Sprint("refill ", d), &got)
		}
		for i := range steps {
			switch i % 5 {
			case 0, 1:
				if took := got.take(); took != want.take() {
					t.Fatalf("take: %t", took)
				}
			case 2:
				pass(d1, i%2 == 0)
			case 3:
				pass(d2, i%4 == 0)
			case 4:
				got.put()
				want.put()
			}
			want.check(t, fmt.Sprint("step ", i), &got)
			if i == steps/2 {
				got.setRate(r2)
				want.setRate(r2)
				want.check(t, "setRate", &got)
			}
		}
	})
}

func TestBucketTimeThatStandsStillOrGoesBack(t *testing.T) {
	b := newBucket(Rate{N: 1, Per: 10, Burst: 1})
	b.take()
	b.refill(9, false)
	for _, now := range []int64{9, 3, -100} {
		b.refill(now, false)
		if b.tokens != 0 || b.part != 9 || b.last != 9 {
			t.Errorf("refill at %d: %d tokens and %d/10 at %d, want 0 and 9/10 at 9", now, b.tokens, b.part, b.last)
		}
	}
	b.refill(10, false)
	if b.tokens != 1 || b.part != 0 {
		t.Errorf("%d tokens and %d/10, want 1 and nothing", b.tokens, b.part)
	}
}

// A rate that does not divide the second, asked at odd times for an hour, gives
// exactly what it says. The second token of the burst holds what comes between
// two questions.
func TestBucketDoesNotDrift(t *testing.T) {
	b := newBucket(Rate{N: 7, Per: time.Second, Burst: 2})
	b.take()
	b.take()
	const hour = int64(time.Hour)
	taken := 0
	for now := int64(0); now < hour; now += 1_234_567 {
		b.refill(now, false)
		if b.take() {
			taken++
		}
	}
	b.refill(hour, false)
	if b.take() {
		taken++
	}
	if want := 7 * 3600; taken != want {
		t.Errorf("%d tokens in an hour, want %d", taken, want)
	}
}
