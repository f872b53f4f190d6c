package hedge

import (
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// Every latency lies in one bucket, whose upper edge is at most a 32nd and 1 µs
// more, and buckets follow each other without a gap.
func TestBuckets(t *testing.T) {
	for i := range buckets {
		upper := edge(i)
		if got := bucket(upper); got != i {
			t.Fatalf("edge %v of bucket %d is in bucket %d", upper, i, got)
		}
		if next := bucket(upper + 1); next != min(i+1, buckets-1) {
			t.Fatalf("%v, just above bucket %d, is in bucket %d", upper+1, i, next)
		}
	}
	for d := time.Duration(1); d < 1<<maxBits*unit; d += d/100 + 1 {
		if upper := edge(bucket(d)); upper < d || upper > longest(d) {
			t.Fatalf("%v is reported as %v", d, upper)
		}
	}
}

func TestBucketsAtTheEdges(t *testing.T) {
	for _, tt := range []struct {
		d, want time.Duration
	}{
		{-time.Second, unit},
		{0, unit},
		{1, unit},
		{unit, unit},
		{unit + 1, 2 * unit},
		{64 * unit, 64 * unit}, // exact up to here
		{65 * unit, 66 * unit},
		{10 * ms, 10240 * unit},
		{20 * ms, 20480 * unit}, // twice as much is twice as much
		{1 << maxBits * unit, 1 << maxBits * unit},
		{1<<63 - 1, 1 << maxBits * unit}, // the longest there is
	} {
		if got := edge(bucket(tt.d)); got != tt.want {
			t.Errorf("%v is reported as %v, want %v", tt.d, got, tt.want)
		}
	}
}

// longest returns what d may be reported as.
func longest(d time.Duration) time.Duration { return d + d/32 + unit }

// Tower takes its percentile as a 32-bit fraction, so that the 99th of 100
// latencies is the longest, and the 80th of 10 the ninth. A quantile of 64 bits
// is still wrong about 0.07 x 100. Ranks here are exact.
func TestRanksAreNotSkewed(t *testing.T) {
	for _, tt := range []struct {
		quantile float64
		n, rank  int
	}{
		{0.99, 100, 99},
		{0.8, 10, 8},
		{0.9, 10, 9},
		{0.07, 100, 7},
		{0.95, 20, 19},
		{0.95, 21, 20},
		{0.95, 1, 1},
		{0.999999, 1000, 1000},
		{0.000001, 1000, 1},
		{0.5, 2, 1},
		{0.29, 100, 29},
		{0.57, 100, 57},
	} {
		w := newWindow(time.Second, 1, tt.quantile)
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(tt.n) {
			w.add(0, time.Duration(i+1)*100*ms)
		}
		if got, want := w.value(), time.Duration(tt.rank)*100*ms; got < want || got > longest(want) {
			t.Errorf("quantile %v of %d is %v, want %v", tt.quantile, tt.n, got, want)
		}
	}
}

// Tower decides by the period that has ended. Here a latency counts at once.
func TestEveryLatencyCountsAtOnce(t *testing.T) {
	w := newWindow(30*time.Second, 20, 0.5)
	for range 19 {
		w.add(0, ms)
		if w.known() {
			t.Fatal("known too early")
		}
	}
	w.add(1, ms)
	if !w.known() || w.value() != edge(bucket(ms)) {
		t.Fatalf("after 20 latencies of 1ms: %v, %v", w.known(), w.value())
	}
	for range 21 {
		w.add(2, time.Second)
	}
	if got := w.value(); got != edge(bucket(time.Second)) {
		t.Errorf("after 21 of 1s: %v", got)
	}
}

// Tower knows nothing after a period without calls. Here a window keeps what it
// has until there is enough that is younger, and not longer.
func TestRestDoesNotEmptyTheWindow(t *testing.T) {
	w := newWindow(10*time.Second, 20, 0.5)
	for i := range 10_000 {
		w.add(int64(i)*int64(ms), time.Second)
	}
	hour := int64(time.Hour)
	for i := range int64(20) {
		if !w.known() || w.value() < time.Second {
			t.Fatalf("after an hour's rest and %d calls: %v, %v", i, w.known(), w.value())
		}
		w.add(hour+i, ms)
	}
	if w.n != 20 || w.value() > longest(ms) {
		t.Errorf("after an hour's rest and 20 calls the window holds %d latencies, the quantile is %v", w.n, w.value())
	}
}

// A client that calls less often than would fill the window in its length keeps
// as many latencies as are enough.
func TestSeldomCallsKeepEnough(t *testing.T) {
	w := newWindow(time.Second, 100, 0.5)
	for i := range int64(1000) {
		w.add(i*int64(time.Minute), time.Duration(i+1)*time.Second)
		if i >= 99 && (w.n < 100 || w.n >= 120) {
			t.Fatalf("after %d calls, one a minute, the window holds %d latencies, want 100 or a few more", i+1, w.n)
		}
	}
	if got := w.value(); got < 940*time.Second || got > 960*time.Second {
		t.Errorf("median of the last 100 is %v", got)
	}
}

// oracle holds every latency ever added, and works out from the last n of them
// what a window that holds n must say.
type oracle struct {
	at   []int64
	took []time.Duration
}

func (o *oracle) add(now int64, d time.Duration) {
	o.at, o.took = append(o.at, now), append(o.took, d)
}

// quantile returns the exact quantile, a number of millionths, of the last n.
func (o *oracle) quantile(n int, millionths int64) time.Duration {
	last := slices.Sorted(slices.Values(o.took[len(o.took)-n:]))
	rank, rest := new(big.Int).QuoRem(
		new(big.Int).Mul(big.NewInt(int64(n)), big.NewInt(millionths)), big.NewInt(million), new(big.Int))
	i := int(rank.Int64())
	if rest.Sign() == 0 {
		i--
	}
	return last[i]
}

// younger returns how many latencies are younger than age.
func (o *oracle) younger(now, age int64) int {
	i, _ := slices.BinarySearch(o.at, now-age+1)
	return len(o.at) - i
}

func (o *oracle) check(t *testing.T, w *window, now int64) {
	t.Helper()
	total, n := len(o.at), w.n
	if want := o.quantile(n, w.quantile); w.value() < want || w.value() > longest(want) {
		t.Fatalf("quantile %d of the last %d is %v, want %v", w.quantile, n, w.value(), want)
	}
	if young := o.younger(now, w.length); n < young {
		t.Fatalf("the window holds %d latencies, %d are young enough", n, young)
	}
	if n < min(total, w.enough) {
		t.Fatalf("the window holds %d of %d latencies, and needs %d", n, total, w.enough)
	}
	// What is too old stays with a tenth of the length, or of what is enough.
	old := n - min(n, o.younger(now, w.length+w.width))
	if oldest := w.slice(0).n; old > w.share && n-oldest >= w.enough {
		t.Fatalf("of %d latencies %d are too old, more than %d, and %d are not needed", n, old, w.share, oldest)
	}
}

// FuzzWindow holds a window against the oracle: any spacing of calls, any
// latencies, any quantile.
func FuzzWindow(f *testing.F) {
	f.Add(uint32(950_000), uint16(20), []byte("\x00\x00\x05\x01\x00\x05\x00\x01\x05\xff\x00\x05"))
	f.Add(uint32(500_000), uint16(1), []byte("\xff\xff\x00\x00\x00\xff"))
	f.Add(uint32(1), uint16(100), slices.Repeat([]byte{0, 40, 200, 0, 40, 3}, 200))
	f.Add(uint32(999_999), uint16(7), slices.Repeat([]byte{0, 1, 90, 3, 0, 91, 0, 0, 17}, 100))
	f.Fuzz(func(t *testing.T, quantile uint32, enough uint16, ops []byte) {
		w := newWindow(time.Second, int(enough%200)+1, 0.5)
		w.quantile = int64(quantile%(million-1)) + 1
		var o oracle
		now := int64(0)
		for ; len(ops) >= 3 && len(o.at) < 2000; ops = ops[3:] {
			// Up to 65 s later, a latency of 1 µs to 71 min, finer than buckets.
			now += int64(binary.BigEndian.Uint16(ops)) * int64(ms)
			d := time.Duration(ops[2]&7+8) * unit << (ops[2] >> 3)
			o.add(now, min(d, 1<<maxBits*unit))
			w.add(now, d)
			o.check(t, w, now)
		}
	})
}

func TestWindowRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		w := newWindow(time.Second, random.IntN(50)+1, float64(random.IntN(999_999)+1)/million)
		var o oracle
		now, pace := int64(0), int64(10*ms)
		for range 300 {
			switch random.IntN(40) {
			case 0:
				pace = 1 + random.Int64N(int64(100*ms))
			case 1:
				now += random.Int64N(int64(10 * time.Second))
			}
			now += random.Int64N(pace)
			d := time.Duration(random.Int64N(1 << random.IntN(40)))
			o.add(now, d)
			w.add(now, d)
			o.check(t, w, now)
		}
	}
}

// Goroutines may come in another order than they read the clock in.
func TestWindowWhoseClockGoesBack(t *testing.T) {
	w := newWindow(time.Second, 10, 0.9)
	random := rand.New(rand.NewPCG(5, 6))
	for i := range int64(10_000) {
		w.add(max(i*int64(ms)-random.Int64N(int64(100*ms)), 0), ms)
		if w.n < min(int(i)+1, 900) || w.n > 1300 {
			t.Fatalf("after %d calls, 1000/s, the window of 1s holds %d", i+1, w.n)
		}
	}
}

func TestHistory(t *testing.T) {
	sec := int64(time.Second)
	var h history
	if got := h.minuteAgo(0); got != 0 {
		t.Errorf("at the start: %v", got)
	}
	h.set(sec/2, 1)
	h.set(10*sec, 2)
	h.set(10*sec+1, 3)
	for _, tt := range []struct {
		now  int64
		want time.Duration
	}{
		{60 * sec, 0}, // at 0 there was none
		{61*sec - 1, 0},
		{61 * sec, 1},
		{70 * sec, 1}, // the beginning of second 10 is before the set in it
		{71 * sec, 3},
		{1000 * sec, 3},
	} {
		if got := h.minuteAgo(tt.now); got != tt.want {
			t.Errorf("a minute before %v it was %v, want %v", time.Duration(tt.now), got, tt.want)
		}
	}
	h.set(1000*sec, 4)
	if got := h.minuteAgo(1000 * sec); got != 3 {
		t.Errorf("after a gap: %v, want 3", got)
	}
	if got := h.minuteAgo(1061 * sec); got != 4 {
		t.Errorf("a minute after the last set: %v, want 4", got)
	}
	if got := h.minuteAgo(900 * sec); got != 3 {
		t.Errorf("asked by one that read the clock long ago: %v, want 3", got)
	}
}

// FuzzHistory holds a history against a list of all that was set.
func FuzzHistory(f *testing.F) {
	f.Add([]byte{1, 2, 3, 250, 255, 255, 0, 0, 9})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var h history
		var at []int64
		now := int64(0)
		for i, step := range steps {
			now += int64(step) * int64(step) * int64(10*ms) // up to 11 min
			h.set(now, time.Duration(i+1))
			at = append(at, now)
			// The last one set before the beginning of the second a minute ago.
			second := (now/int64(time.Second) - back) * int64(time.Second)
			want, _ := slices.BinarySearch(at, second)
			if second < 0 {
				want = 0
			}
			if got := h.minuteAgo(now); got != time.Duration(want) {
				t.Fatalf("step %d, at %v: a minute ago it was %d, want %d", i, time.Duration(now), got, want)
			}
		}
	})
}
