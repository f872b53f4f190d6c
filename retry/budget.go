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

// The short bounds are over these numbers of buckets, and each lets shortBurst
// retries more through than calls pay for. The second keeps that burst from coming
// again in every span of the first.
var shortBounds = [...]int64{buckets / 20, buckets / 5}

const shortBurst = 10

// A Budget bounds the retries of all calls that share it: at every retry, over
// the Window that ends there,
//
//	retries <= Ratio x calls + MinPerSecond x Window
//
// exactly, for any ratio and at any spacing of the calls. The same holds over a
// twentieth and over a fifth of the Window (0.5 s and 2 s, of 10 s), with 10 in place
// of MinPerSecond x Window if that is less: the calls of a long quiet time do not
// pay for a storm in the first instant in which everything fails.
//
// Calls and retries are counted in buckets of a hundredth of the Window on a grid that does not
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
	mu    sync.Mutex            // held by Set
	tally atomic.Pointer[tally] // nil: unlimited
}

// A tally is what a [Budget] has counted since its Window was set last.
type tally struct {
	base  time.Time
	width time.Duration // of a bucket
	full  int64         // buckets that lie wholly within a Window, the current one among them

	// calls are counted without a lock, see counted.
	calls [ring]atomic.Uint64

	mu      sync.Mutex
	config  BudgetConfig
	ratio   int64       // units for each call
	free    int64       // units that the Window has without calls
	current int64       // the bucket of the last look at the clock under mu
	past    int64       // calls in the full buckets before current
	retries [ring]int64 // by bucket, the current one and those before it
	spent   int64       // sum of retries
	refused uint64
	ended   bool // another tally has taken the place of this one
}

// Unlimited is a [Budget] that allows every retry and counts nothing. It must
// not be assigned, and Set panics on it: it is one for all.
var Unlimited = unlimited

var unlimited = new(Budget)

// NewBudget returns a [Budget]. It panics with the error of c.Validate if there
// is one.
func NewBudget(c BudgetConfig) *Budget {
	misuse.Check("retry: NewBudget", c.Validate())
	b := &Budget{}
	b.tally.Store(newTally(c.withDefaults()))
	return b
}

// Set changes what the budget allows from now on. What was counted stays: with
// the Window unchanged, bucket by bucket; with another one, the calls and
// retries of the last old Window count as if they had happened now. Set panics
// with the error of c.Validate if there is one, and on [Unlimited].
func (b *Budget) Set(c BudgetConfig) {
	misuse.Check("retry: Budget.Set", c.Validate())
	if b == unlimited {
		misuse.Check("retry: Budget.Set", invalid("budget", "Unlimited", "a budget of its own"))
	}
	c = c.withDefaults()
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.tally.Load()
	if old == nil {
		b.tally.Store(newTally(c))
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	if old.config.Window == c.Window {
		old.allow(c)
		return
	}
	old.advance(old.bucket(time.Since(old.base)))
	next := newTally(c)
	next.calls[0].Store(uint64(min(old.called(), countMask)))
	next.retries[0], next.spent, next.refused = old.spent, old.spent, old.refused
	old.ended = true
	b.tally.Store(next)
}

// newTally returns the tally of c, which has its defaults, with nothing counted.
func newTally(c BudgetConfig) *tally {
	width := (c.Window + buckets - 1) / buckets
	t := &tally{base: time.Now(), width: width, full: int64(c.Window / width)}
	t.allow(c)
	return t
}

// allow makes c, which has its defaults, what the tally allows. It requires that
// t.mu is held or t is new.
func (t *tally) allow(c BudgetConfig) {
	t.config = c
	t.ratio = millionths(c.Ratio)
	t.free = int64(c.MinPerSecond) * int64(c.Window) / int64(time.Second/million)
}

// millionths returns r in millionths, cut off below. A decimal fraction such
// as 0.6 lies a little beside itself in binary; it is taken for what was
// written.
func millionths(r float64) int64 {
	return int64(r * million * (1 + 1e-12))
}

// Deposit counts a call. It takes no lock.
func (b *Budget) Deposit() {
	if t := b.tally.Load(); t != nil {
		t.deposit(time.Since(t.base))
	}
}

// Withdraw counts a retry, if the budget has room for one, and reports whether
// it had.
func (b *Budget) Withdraw() bool {
	t := b.lock()
	if t == nil {
		return true
	}
	defer t.mu.Unlock()
	// The clock is read under the lock, so that retries are counted in the
	// order of their instants and each sees all that were before it.
	return t.withdraw(time.Since(t.base))
}

// lock returns the tally with its mutex held, or nil if there is no bound.
func (b *Budget) lock() *tally {
	for {
		t := b.tally.Load()
		if t == nil {
			return nil
		}
		t.mu.Lock()
		if !t.ended {
			return t
		}
		t.mu.Unlock()
	}
}

func (t *tally) deposit(now time.Duration) {
	k := t.bucket(now)
	slot := &t.calls[k%ring]
	for {
		old := slot.Load()
		next, ok := counted(old, k)
		if !ok || slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// withdraw requires that t.mu is held.
func (t *tally) withdraw(now time.Duration) bool {
	t.advance(t.bucket(now))
	if t.room() < million {
		t.refused++
		return false
	}
	t.retries[t.current%ring]++
	t.spent++
	return true
}

// room returns the units that are left by all bounds. It requires that t.mu is
// held.
func (t *tally) room() int64 {
	room := t.longRoom()
	for _, n := range shortBounds {
		room = min(room, t.shortRoom(n))
	}
	return room
}

// longRoom returns the units that the bound over the Window leaves. It requires
// that t.mu is held.
func (t *tally) longRoom() int64 {
	return t.called()*t.ratio + t.free - t.spent*million
}

// shortRoom returns the units that the short bound over n buckets leaves. It
// requires that t.mu is held.
func (t *tally) shortRoom(n int64) int64 {
	calls, spent := int64(0), int64(0)
	for k := max(t.current-n, 0); k <= t.current; k++ {
		calls += callsIn(t.calls[k%ring].Load(), k)
		spent += t.retries[k%ring]
	}
	return calls*t.ratio + max(t.free, shortBurst*million) - spent*million
}

// called returns the calls of the Window. It requires that t.mu is held.
func (t *tally) called() int64 {
	return t.past + callsIn(t.calls[t.current%ring].Load(), t.current)
}

// bucket returns the bucket that the instant now lies in.
func (t *tally) bucket(now time.Duration) int64 { return int64(max(now, 0) / t.width) }

// advance makes k the current bucket. It requires that t.mu is held.
func (t *tally) advance(k int64) {
	if k <= t.current {
		return
	}
	for j := max(t.current+1, k-buckets); j <= k; j++ {
		t.spent -= t.retries[j%ring]
		t.retries[j%ring] = 0
	}
	t.past = 0
	for j := max(0, k-t.full+1); j < k; j++ {
		t.past += callsIn(t.calls[j%ring].Load(), j)
	}
	t.current = k
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
	t := b.lock()
	if t == nil {
		return BudgetStats{}
	}
	defer t.mu.Unlock()
	return t.stats()
}

// stats requires that t.mu is held.
func (t *tally) stats() BudgetStats {
	t.advance(t.bucket(time.Since(t.base)))
	return BudgetStats{
		Calls:   t.called(),
		Retries: t.spent,
		Left:    max(t.room()/million, 0),
		Refused: t.refused,
	}
}

// String returns the budget and its [BudgetStats] in words.
func (b *Budget) String() string {
	t := b.lock()
	if t == nil {
		return "budget unlimited"
	}
	defer t.mu.Unlock()
	s := t.stats()
	return fmt.Sprintf("budget %v of calls + %d/s over %v: calls %d, retries %d, left %d, refused %d",
		t.config.Ratio, t.config.MinPerSecond, t.config.Window, s.Calls, s.Retries, s.Left, s.Refused)
}
