package hedge

import "time"

// parts is how many slices fill a window. They leave it one by one.
const parts = 10

// million is the scale of a quantile, so that ranks are exact: 0.07 x 100 is 7,
// and not a little more as in floating point.
const million = 1_000_000

// A window holds the latencies of about the last length, and knows a quantile
// of them, exact but for the width of a bucket, after every one that is added.
//
// Latencies are added to the latest slice. It is closed when it has lasted a
// tenth of length and holds a tenth of the fewest latencies that are enough;
// the oldest slice leaves when all of it is as old as length and enough remain.
// So many latencies leave by age, and few stay until there are others: a client
// that calls seldom, or has rested, keeps what it knows.
//
// Its instants are nanoseconds since some base. One that lies before the
// instant of an earlier call, as goroutines may read the clock and come here in
// different orders, counts as that.
type window struct {
	length, width int64 // of the window, of a slice
	enough, share int   // latencies of the window, of a slice
	quantile      int64 // in millionths

	// The slices, from the oldest. One more than fill the window, because the
	// oldest and the latest lie in it in part. There is always room for another:
	// when all are full and the latest is closed, the ten that follow the oldest
	// are as long as the window and hold enough.
	ring   [parts + 1]slice
	oldest int
	used   int

	sum   histogram // of the slices
	n     int       // latencies in sum
	at    int       // the bucket of the quantile
	below int       // latencies in the buckets below at
}

// A slice is the latencies of a part of the window.
type slice struct {
	start, last int64 // its first latency and its last
	n           int
	counts      histogram
}

func newWindow(length time.Duration, enough int, quantile float64) *window {
	w := &window{}
	w.set(length, enough, quantile)
	return w
}

// set changes the length, how many latencies are enough, and the quantile.
func (w *window) set(length time.Duration, enough int, quantile float64) {
	w.length = int64(length)
	w.width = int64(length / parts)
	w.enough = enough
	w.share = (enough + parts - 1) / parts
	// A decimal fraction such as 0.95 lies a little beside itself in
	// binary; it is taken for what was written.
	w.quantile = int64(quantile * million * (1 + 1e-12))
	if w.n > 0 {
		w.settle()
	}
}

// add counts the latency d, which ended now.
func (w *window) add(now int64, d time.Duration) {
	s := w.latest(now)
	i := bucket(d)
	s.counts[i]++
	s.n++
	s.last = max(s.last, now)
	w.sum[i]++
	w.n++
	if i < w.at {
		w.below++
	}
	w.expire(now)
	w.settle()
}

// latest returns the slice that a latency of now belongs to.
func (w *window) latest(now int64) *slice {
	if w.used > 0 {
		s := w.slice(w.used - 1)
		if s.n < w.share || now-s.start < w.width {
			return s
		}
		if w.used == len(w.ring) {
			w.drop()
		}
	}
	w.used++
	s := w.slice(w.used - 1)
	*s = slice{start: now, last: now}
	return s
}

// slice returns the slice at this place, counted from the oldest.
func (w *window) slice(i int) *slice { return &w.ring[(w.oldest+i)%len(w.ring)] }

// expire drops the slices that are older than length, as long as enough
// latencies remain.
func (w *window) expire(now int64) {
	for w.used > 1 && now-w.slice(0).last >= w.length && w.n-w.slice(0).n >= w.enough {
		w.drop()
	}
}

// drop drops the oldest slice.
func (w *window) drop() {
	s := w.slice(0)
	for i, count := range s.counts {
		w.sum[i] -= count
		if i < w.at {
			w.below -= int(count)
		}
	}
	w.n -= s.n
	w.oldest = (w.oldest + 1) % len(w.ring)
	w.used--
}

// settle moves at to where the quantile is: to the bucket of the latency that
// as large a share of all as the quantile, rounded up, is not longer than.
// After one more latency it is here or in a bucket beside it that is not empty.
func (w *window) settle() {
	rank := int((int64(w.n)*w.quantile + million - 1) / million)
	for w.below >= rank {
		w.at--
		w.below -= int(w.sum[w.at])
	}
	for w.below+int(w.sum[w.at]) < rank {
		w.below += int(w.sum[w.at])
		w.at++
	}
}

// value returns the quantile, or 0 if no latency is known. It is at most a 32nd
// and 1 µs too long.
func (w *window) value() time.Duration {
	if w.n == 0 {
		return 0
	}
	return edge(w.at)
}

// known reports whether there are enough latencies for value to be used.
func (w *window) known() bool { return w.n >= w.enough }
