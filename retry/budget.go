package retry

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret/internal/misuse"
)

// Defaults and bounds of [BudgetConfig].
const (
	defaultRatio  = 0.2
	defaultMin    = 1
	defaultWindow = 10 * time.Second

	maxRatio  = 1000
	maxMin    = 1_000_000
	minWindow = 10 * time.Millisecond
	maxWindow = 10 * time.Minute
)

// A BudgetConfig says how many retries a [Budget] allows. The zero value is the
// default.
type BudgetConfig struct {
	// Ratio is how many retries each call pays for. 0 means 0.2: one retry for
	// five calls. At most 1000; negative: none. It is a number of millionths:
	// what is finer is cut off.
	Ratio float64
	// MinPerSecond is how many retries a second need no calls to pay for them,
	// so that a client that calls seldom may retry at all. All those of one
	// Window may come at once. 0 means 1. At most 1,000,000; negative: none.
	MinPerSecond int
	// Window is the time over which calls and retries are compared. 0 means
	// 10 s. At least 10 ms and at most 10 min.
	Window time.Duration
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c BudgetConfig) Validate() error {
	switch {
	case math.IsNaN(c.Ratio) || c.Ratio > maxRatio || c.Ratio > 0 && c.Ratio < 1.0/million:
		return invalid("Ratio", c.Ratio, fmt.Sprintf("between 0.000001 and %v (0 means %v, negative none)", maxRatio, defaultRatio))
	case c.MinPerSecond > maxMin:
		return invalid("MinPerSecond", c.MinPerSecond, fmt.Sprintf("at most %d (0 means %d, negative none)", maxMin, defaultMin))
	case c.Window != 0 && (c.Window < minWindow || c.Window > maxWindow):
		return invalid("Window", c.Window, fmt.Sprintf("between %v and %v (0 means %v)", minWindow, maxWindow, defaultWindow))
	}
	return nil
}

// withDefaults returns c with its zeros filled in, and 0 for none.
func (c BudgetConfig) withDefaults() BudgetConfig {
	if c.Ratio == 0 {
		c.Ratio = defaultRatio
	}
	if c.MinPerSecond == 0 {
		c.MinPerSecond = defaultMin
	}
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	c.Ratio = max(c.Ratio, 0)
	c.MinPerSecond = max(c.MinPerSecond, 0)
	return c
}

// million is the scale of the budget's arithmetic: a retry is a million units,
// a call is worth Ratio million of them, and all sums are of integers.
const million = 1_000_000

// The window is cut into buckets. One more than fills it is kept: the oldest,
// which the window overlaps in part. With n buckets the ratio that a budget
// reaches is about n/(n+1) of the one it was given.
const (
	buckets = 100
	ring    = buckets + 1
)

// A Budget bounds the retries of all calls that share it: at every retry, over
// the Window that ends there,
//
//	retries <= Ratio x calls + MinPerSecond x Window
//
// exactly, for any ratio and at any spacing of the calls. Calls and retries
// are counted in buckets of a hundredth of the Window on a grid that does not
// move; of the oldest bucket, which lies partly in the Window, the retries are
// counted and the calls are not, so the error is never in favour of a retry
// and costs about one of a hundred. The idea is that of Finagle's RetryBudget.
//
// Each budget has its MinPerSecond to itself: many small clients with one each
// may together retry as often as they like. Share one where they send to the
// same place.
//
// A Budget is made by [NewBudget]; the zero Budget allows everything, as
// [Unlimited] does. Its methods may be called concurrently, and it may be
// shared by any number of layers.
type Budget struct {
	config BudgetConfig
	ratio  int64 // units for each call
	free   int64 // units that the Window has without calls
	base   time.Time
	width  time.Duration // of a bucket; 0: unlimited
	full   int64         // buckets that lie wholly within a Window, the current one among them

	// calls are counted without a lock, see counted.
	calls [ring]atomic.Uint64

	mu      sync.Mutex
	current int64       // the bucket of the last look at the clock under mu
	past    int64       // calls in the full buckets before current
	retries [ring]int64 // by bucket, the current one and those before it
	spent   int64       // sum of retries
	refused uint64
}

// Unlimited is a [Budget] that allows every retry and counts nothing.
var Unlimited = new(Budget)

// NewBudget returns a [Budget]. It panics with the error of c.Validate if there
// is one.
func NewBudget(c BudgetConfig) *Budget {
	misuse.Check("retry: NewBudget", c.Validate())
	c = c.withDefaults()
	width := (c.Window + buckets - 1) / buckets
	return &Budget{
		config: c,
		ratio:  millionths(c.Ratio),
		free:   int64(c.MinPerSecond) * int64(c.Window) / int64(time.Second/million),
		base:   time.Now(),
		width:  width,
		full:   int64(c.Window / width),
	}
}

// millionths returns r in millionths, cut off below. A decimal fraction such
// as 0.6 lies a little beside itself in binary; it is taken for what was
// written.
func millionths(r float64) int64 {
	return int64(r * million * (1 + 1e-12))
}

// Deposit counts a call. It takes no lock.
func (b *Budget) Deposit() {
	if b.width > 0 {
		b.deposit(time.Since(b.base))
	}
}

// Withdraw counts a retry, if the budget has room for one, and reports whether
// it had.
func (b *Budget) Withdraw() bool {
	if b.width == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// The clock is read under the lock, so that retries are counted in the
	// order of their instants and each sees all that were before it.
	return b.withdraw(time.Since(b.base))
}

func (b *Budget) deposit(now time.Duration) {
	k := b.bucket(now)
	slot := &b.calls[k%ring]
	for {
		old := slot.Load()
		next, ok := counted(old, k)
		if !ok || slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// withdraw requires that b.mu is held.
func (b *Budget) withdraw(now time.Duration) bool {
	b.advance(b.bucket(now))
	if b.room() < million {
		b.refused++
		return false
	}
	b.retries[b.current%ring]++
	b.spent++
	return true
}

// room returns the units that are left. It requires that b.mu is held.
func (b *Budget) room() int64 {
	calls := b.past + callsIn(b.calls[b.current%ring].Load(), b.current)
	return calls*b.ratio + b.free - b.spent*million
}

// bucket returns the bucket that the instant now lies in.
func (b *Budget) bucket(now time.Duration) int64 { return int64(max(now, 0) / b.width) }

// advance makes k the current bucket. It requires that b.mu is held.
func (b *Budget) advance(k int64) {
	if k <= b.current {
		return
	}
	for j := max(b.current+1, k-buckets); j <= k; j++ {
		b.spent -= b.retries[j%ring]
		b.retries[j%ring] = 0
	}
	b.past = 0
	for j := max(0, k-b.full+1); j < k; j++ {
		b.past += callsIn(b.calls[j%ring].Load(), j)
	}
	b.current = k
}

// The calls of a bucket are one word: the number of the bucket in the high
// bits, so that a slot of the ring needs no clearing, and the count in the low
// ones. A count that is full stays so, which errs against retries; 16 million
// calls within a hundredth of a Window are beyond what one counter can take.
const (
	countBits = 24
	countMask = 1<<countBits - 1
)

// counted returns word with one more call in bucket k, or false if the call is
// not to be counted: the slot has gone on to a later bucket, or is full.
func counted(word uint64, k int64) (uint64, bool) {
	epoch := uint64(k) << countBits
	switch held := word &^ countMask; {
	case held > epoch, held == epoch && word&countMask == countMask:
		return 0, false
	case held < epoch:
		return epoch | 1, true
	}
	return word + 1, true
}

// callsIn returns the calls of bucket k in word, none if it is another's.
func callsIn(word uint64, k int64) int64 {
	if word&^countMask != uint64(k)<<countBits {
		return 0
	}
	return int64(word & countMask)
}

// BudgetStats is what a [Budget] has counted, at one moment.
type BudgetStats struct {
	// Calls and Retries are those of the last Window, as the budget counts
	// them.
	Calls, Retries int64
	// Left is how many retries there is room for.
	Left int64
	// Refused is how many retries there was no room for, ever.
	Refused uint64
}

// Stats returns what the budget has counted; of [Unlimited] it is all zero.
func (b *Budget) Stats() BudgetStats {
	if b.width == 0 {
		return BudgetStats{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(b.bucket(time.Since(b.base)))
	return BudgetStats{
		Calls:   b.past + callsIn(b.calls[b.current%ring].Load(), b.current),
		Retries: b.spent,
		Left:    max(b.room()/million, 0),
		Refused: b.refused,
	}
}

// String returns the budget and its [BudgetStats] in words.
func (b *Budget) String() string {
	if b.width == 0 {
		return "budget unlimited"
	}
	s := b.Stats()
	return fmt.Sprintf("budget %v of calls + %d/s over %v: calls %d, retries %d, left %d, refused %d",
		b.config.Ratio, b.config.MinPerSecond, b.config.Window, s.Calls, s.Retries, s.Left, s.Refused)
}
