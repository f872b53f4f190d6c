package hedge

import (
	"math/bits"
	"time"
)

// A histogram counts latencies in buckets of which each is at most a 32nd of its
// lower edge wide, in the manner of HdrHistogram: the 32 to 64 buckets of a
// power of two are equally wide. Bucket i holds the latencies above its lower
// edge and up to edge(i), so edge(bucket(d)) is d or at most d/32, and 1 µs,
// more.
type histogram [buckets]uint32

const (
	unit    = time.Microsecond // the width of the finest buckets
	subBits = 5                // log2 of the buckets in a power of two
	maxBits = 32               // what is longer than 2^32 units, 71 min, counts as that
	buckets = (maxBits - subBits + 1) << subBits
)

// bucket returns the bucket of the latency d.
func bucket(d time.Duration) int {
	units := min(uint64(max(d, 1)-1)/uint64(unit), 1<<maxBits-1)
	shift := max(bits.Len64(units)-subBits-1, 0)
	return shift<<subBits + int(units>>shift)
}

// edge returns the upper edge of bucket i, the longest latency in it.
func edge(i int) time.Duration {
	shift := max(i>>subBits-1, 0)
	return time.Duration(i-shift<<subBits+1) << shift * unit
}
