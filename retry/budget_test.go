package retry

import (
	"iter"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A ledger knows every call and every retry by its instant, and checks the
// promise of a budget by counting. Instants are added in their order.
type ledger struct {
	perMillion int64 // retries for a million calls
	min        int64
	window     time.Duration
	calls      []time.Duration
	retries    []time.Duration
}

// newLedger returns a ledger for the budget with this Config, whose ratio is
// given in millionths.
func newLedger(perMillion int64, c BudgetConfig) *ledger {
	c = c.withDefaults()
	return &ledger{perMillion: perMillion, min: int64(c.MinPerSecond), window: c.Window}
}

// allowed reports whether n retries are within the bound at the instant at. The
// retries of the window are counted with both its ends, the calls without the
// instant at which it starts: of all ways to read "over the Window that ends
// there" the strictest. slack shortens the window for calls and lengthens it
// for retries.
func (l *ledger) allowed(more int64, at, slack time.Duration) bool {
	retries := more + count(l.retries, at-l.window-slack, at)
	calls := count(l.calls, at-l.window+slack+1, at)
	// retries <= perMillion/1e6 x calls + min x window/1e9
	left := new(big.Int).Mul(big.NewInt(retries), big.NewInt(1e15))
	right := new(big.Int).Mul(big.NewInt(l.perMillion*calls), big.NewInt(1e9))
	right.Add(right, new(big.Int).Mul(big.NewInt(l.min*1e6), big.NewInt(int64(l.window))))
	return left.Cmp(right) <= 0
}

// count returns how many of the sorted instants lie within [from, to].
func count(instants []time.Duration, from, to time.Duration) int64 {
	i, _ := slices.BinarySearch(instants, from)
	j, _ := slices.BinarySearch(instants, to+1)
	return int64(max(j-i, 0))
}

// shortlyAllowed reports whether the short bounds of b leave room for a retry at an
// instant, also when two buckets more are counted against it.
func (l *ledger) shortlyAllowed(b *tally, at time.Duration) bool {
	for _, n := range shortBounds {
		span := time.Duration(n) * b.width
		retries := 1 + count(l.retries, at-span-2*b.width, at)
		calls := count(l.calls, at-span+2*b.width, at)
		if retries*million > calls*l.perMillion+max(b.free, shortBurst*million) {
			return false
		}
	}
	return true
}

// check fails the test at the first retry that broke the promise.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	for i, at := range l.retries {
		if !l.allowed(0, at, 0) {
			t.Fatalf("retry %d, at %v: %d retries for %d calls in the %v before it", i+1, at,
				count(l.retries, at-l.window, at), count(l.calls, at-l.window+1, at), l.window)
		}
	}
}

// drive makes a call every so often for a time, and after each one as many
// retries as the budget allows. It returns what happened.
func drive(b *tally, l *ledger, every, length time.Duration) {
	for at := time.Duration(0); at < length; at += every {
		b.deposit(at)
		l.calls = append(l.calls, at)
		for b.withdraw(at) {
			l.retries = append(l.retries, at)
		}
	}
}

// In steady state a budget under total failure gives its ratio, at
// any ratio and any spacing: never more over a Window, and less by no more than
// the bucket that is counted against it. (Truncating the ratio to one over a
// whole number, as Tower does, would make 100 % of 0.6 and 50 % of 0.34.)
func TestBudgetGivesItsRatio(t *testing.T) {
	const warmUp, length = 15 * time.Second, 45 * time.Second
	tests := []struct {
		ratio      float64
		perMillion int64
	}{
		{-1, 0},
		{0.05, 50_000},
		{0.1, 100_000},
		{0.15, 150_000},
		{0.2, 200_000},
		{0.3, 300_000},
		{0.34, 340_000},
		{0.6, 600_000},
		{1, 1_000_000},
		{1.5, 1_500_000},
		{2.0 / 3, 666_666},
	}
	for _, every := range []time.Duration{1001 * time.Microsecond, 13 * ms, 37 * ms, 100 * ms} {
		for _, tt := range tests {
			for _, perSecond := range []int{-1, 3} {
				c := BudgetConfig{Ratio: tt.ratio, MinPerSecond: perSecond}
				l := newLedger(tt.perMillion, c)
				drive(newTally(c.withDefaults()), l, every, length)
				l.check(t)
				calls, retries := count(l.calls, warmUp, length), count(l.retries, warmUp, length)
				want := float64(tt.perMillion)/1e6*float64(calls) + float64(max(perSecond, 0))*(length-warmUp).Seconds()
				// A Window holds a whole number of retries.
				least := 0.985*want - float64((length-warmUp)/l.window)
				if got := float64(retries); got < least || got > 1.005*want+1 {
					t.Errorf("ratio %v + %d/s, a call every %v: %v retries, want at least %v and at most %v", tt.ratio, perSecond, every, got, least, want)
				}
			}
		}
	}
}

func TestBudgetLargeRatio(t *testing.T) {
	c := BudgetConfig{Ratio: 1000, MinPerSecond: -1, Window: time.Second}
	l := newLedger(1e9, c)
	drive(newTally(c.withDefaults()), l, 100*ms, 5*time.Second)
	l.check(t)
	if got, want := count(l.retries, time.Second, 5*time.Second), int64(40*1000); got < want*9/10 || got > want {
		t.Errorf("%d retries for 40 calls, want %d less at most a tenth", got, want)
	}
}

// All of the reserve may come at once, and comes back when a Window is over,
// not before.
func TestBudgetReserve(t *testing.T) {
	b := newTally(BudgetConfig{Ratio: -1, MinPerSecond: 10}.withDefaults())
	greedy := func(at time.Duration) (n int) {
		for b.withdraw(at) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{
		{0, 100},
		{time.Second, 0},
		{10 * time.Second, 0}, // the first ones are just in the window
		{10*time.Second + 100*ms, 100},
		{time.Hour, 100},
	} {
		if got := greedy(tt.at); got != tt.want {
			t.Errorf("at %v: %d retries, want %d", tt.at, got, tt.want)
		}
	}
}

// A call pays for retries as long as it is in the Window.
func TestBudgetForgetsCalls(t *testing.T) {
	b := newTally(BudgetConfig{Ratio: 1, MinPerSecond: -1}.withDefaults())
	b.deposit(50 * ms)
	b.deposit(150 * ms)
	for _, tt := range []struct {
		at   time.Duration
		want bool
	}{
		{9999 * ms, true},    // both are in the window, one is used
		{10_000 * ms, false}, // the bucket of the first is no longer whole in it
		{10_099 * ms, false},
		{30 * time.Second, false},
	} {
		if got := b.withdraw(tt.at); got != tt.want {
			t.Errorf("at %v: %v, want %v", tt.at, got, tt.want)
		}
	}
}

// What is exactly a Window old is where a grid goes wrong, and more so if the
// Window is not a whole number of buckets. One event, then one retry about a
// Window later: it is granted only if the ledger allows it, and refused only if
// two buckets may make the difference.
func TestBudgetEdgesOfTheWindow(t *testing.T) {
	for _, window := range []time.Duration{time.Second, time.Second + 1, time.Second - 1, time.Second / 3, 10*ms + 77, 7777777777} {
		pays := BudgetConfig{Ratio: 1, MinPerSecond: -1, Window: window}
		frees := BudgetConfig{Ratio: -1, MinPerSecond: int(time.Second/window) + 1, Window: window} // 1 a Window and a bit
		width := newTally(pays.withDefaults()).width
		for first := range around(width) {
			for _, base := range []time.Duration{first + window, 99 * width, 100 * width, 101 * width, 102 * width, 103 * width} {
				for at := range around(base) {
					b, l := newTally(pays.withDefaults()), newLedger(million, pays)
					b.deposit(first)
					l.calls = []time.Duration{first}
					l.checkOne(t, b, at)

					b, l = newTally(frees.withDefaults()), newLedger(0, frees)
					for l.allowed(1, first, 0) {
						if !b.withdraw(first) {
							t.Fatalf("window %v: the reserve is not free at %v", window, first)
						}
						l.retries = append(l.retries, first)
					}
					l.checkOne(t, b, at)
				}
			}
		}
	}
}

// around yields d and its neighbours.
func around(d time.Duration) iter.Seq[time.Duration] {
	return slices.Values([]time.Duration{d - 1, d, d + 1})
}

// checkOne asks b for a retry and fails the test if the answer is not the
// ledger's, up to two buckets.
func (l *ledger) checkOne(t *testing.T, b *tally, at time.Duration) {
	t.Helper()
	switch granted := b.withdraw(at); {
	case granted && !l.allowed(1, at, 0):
		t.Fatalf("window %v, calls at %v, retries at %v: granted at %v, beyond the bound", l.window, l.calls, l.retries, at)
	case !granted && l.allowed(1, at, 2*b.width) && l.shortlyAllowed(b, at):
		t.Fatalf("window %v, calls at %v, retries at %v: refused at %v though there is room", l.window, l.calls, l.retries, at)
	case granted:
		l.retries = append(l.retries, at)
	}
}

// However long a budget was idle, it starts afresh.
func TestBudgetAfterIdling(t *testing.T) {
	for idle := range 4 * ring {
		b := newTally(BudgetConfig{Ratio: -1, MinPerSecond: 1}.withDefaults())
		at := time.Duration(idle) * b.width
		for b.withdraw(0) { // all there is
		}
		if got, want := b.withdraw(at), idle >= ring; got != want {
			t.Errorf("after %d buckets: %v, want %v", idle, got, want)
		}
	}
}

// The clock does not go backwards under the lock; if it did, what was counted
// would stay so.
func TestBudgetClockGoesBack(t *testing.T) {
	b := newTally(BudgetConfig{Ratio: -1, Window: time.Second}.withDefaults())
	for i, tt := range []struct {
		at   time.Duration
		want bool
	}{{5 * time.Second, true}, {4500 * ms, false}, {5100 * ms, false}, {6100 * ms, true}} {
		if got := b.withdraw(tt.at); got != tt.want {
			t.Errorf("%d, at %v: %v, want %v", i, tt.at, got, tt.want)
		}
	}
}

// A call whose goroutine slept between reading the clock and counting is
// counted where it belongs, or not at all.
func TestBudgetLateDeposit(t *testing.T) {
	b := newTally(BudgetConfig{Ratio: 1, MinPerSecond: -1, Window: time.Second}.withDefaults())
	b.deposit(2 * time.Second)
	b.deposit(2*time.Second - 1010*ms) // its slot of the ring is another bucket's by now
	b.deposit(1500 * ms)               // still in the window
	if got := callsIn(b.calls[200%ring].Load(), 200); got != 1 {
		t.Errorf("the bucket at 2s has %d calls, want 1", got)
	}
	granted := 0
	for b.withdraw(2 * time.Second) {
		granted++
	}
	if granted != 2 {
		t.Errorf("%d retries for two calls in the window", granted)
	}
	b.deposit(1400 * ms) // long gone by now
	if b.withdraw(2*time.Second + 500*ms) {
		t.Error("a call out of the window paid for a retry")
	}
}

func TestBudgetBucketIsFull(t *testing.T) {
	const full = 7<<countBits | countMask
	if _, ok := counted(full, 7); ok {
		t.Error("a full bucket counts on")
	}
	if next, ok := counted(full, 8); !ok || callsIn(next, 8) != 1 || callsIn(next, 7) != 0 {
		t.Errorf("the next bucket begins with %#x, %v", next, ok)
	}
	// The largest sums there can be.
	b := newTally(BudgetConfig{Ratio: maxRatio, MinPerSecond: maxMin, Window: maxWindow}.withDefaults())
	for i := range b.calls {
		b.calls[i].Store(uint64(i)<<countBits | countMask)
	}
	b.advance(buckets)
	if b.room() <= 0 {
		t.Errorf("room is %d units", b.room())
	}
	b.spent = int64(buckets*countMask*maxRatio) + maxMin*int64(maxWindow/time.Second)
	if got := b.room(); got != 0 {
		t.Errorf("with all spent, room is %d units, want 0", got)
	}
}

func TestBudgetCountsEveryCall(t *testing.T) {
	const callers, each = 4, 500_000
	b := NewBudget(BudgetConfig{Window: maxWindow})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				b.tally.Load().deposit(0) // no clock between them: as close as they can get
			}
		})
	}
	wg.Wait()
	if got := b.Stats().Calls; got != callers*each {
		t.Errorf("%d calls counted, want %d", got, callers*each)
	}
}

func TestBudgetNothingLost(t *testing.T) {
	const callers, each = 8, 1000
	b := NewBudget(BudgetConfig{Ratio: 0.34, MinPerSecond: -1, Window: maxWindow})
	granted := make([]int, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range each {
				b.Deposit()
				if b.Withdraw() {
					granted[i]++
				}
				_ = b.Stats()
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range granted {
		total += n
	}
	for b.Withdraw() {
		total++
	}
	if want := callers * each * 34 / 100; total != want {
		t.Errorf("%d retries for %d calls, want %d", total, callers*each, want)
	}
}

func TestBudgetStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{MinPerSecond: -1})
		for range 10 {
			b.Deposit()
		}
		for range 3 {
			b.Withdraw()
		}
		if got, want := b.Stats(), (BudgetStats{Calls: 10, Retries: 2, Left: 0, Refused: 1}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		time.Sleep(10 * time.Second)
		if got, want := b.Stats(), (BudgetStats{Calls: 0, Retries: 2, Left: 0, Refused: 1}); got != want {
			t.Errorf("when the calls are out of the window: Stats() = %+v, want %+v", got, want)
		}
		time.Sleep(time.Second)
		if got, want := b.String(), "budget 0.2 of calls + 0/s over 10s: calls 0, retries 0, left 0, refused 1"; got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	})
}

func TestBudgetUnlimited(t *testing.T) {
	for _, b := range []*Budget{Unlimited, new(Budget)} {
		b.Deposit()
		for range 1000 {
			if !b.Withdraw() {
				t.Fatal("refuses")
			}
		}
		if got := b.Stats(); got != (BudgetStats{}) {
			t.Errorf("Stats() = %+v, want nothing", got)
		}
		if got, want := b.String(), "budget unlimited"; got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// A budget made at another time than it is used at (outside the bubble, whose
// clock starts in the year 2000) must not index with a negative bucket.
func TestBudgetBeforeItsBase(t *testing.T) {
	b := NewBudget(BudgetConfig{})
	synctest.Test(t, func(t *testing.T) {
		b.Deposit()
		if !b.Withdraw() {
			t.Error("refuses")
		}
	})
	if b.tally.Load().deposit(-time.Hour); !b.tally.Load().withdraw(-time.Hour) {
		t.Error("refuses")
	}
}

func TestBudgetValidate(t *testing.T) {
	for _, c := range []BudgetConfig{
		{},
		{Ratio: -1, MinPerSecond: -1},
		{Ratio: 1000, MinPerSecond: 1e6, Window: 10 * time.Minute},
		{Ratio: 1e-6, Window: 10 * ms},
		{Ratio: math.Inf(-1)},
		{Window: time.Second / 3},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	tests := []struct {
		config BudgetConfig
		want   string
	}{
		{BudgetConfig{Ratio: math.NaN()}, "retry: Ratio is NaN, must be between 0.000001 and 1000 "},
		{BudgetConfig{Ratio: 1000.1}, "retry: Ratio is 1000.1, must be between "},
		{BudgetConfig{Ratio: 1e-7}, "retry: Ratio is 1e-07, must be between "},
		{BudgetConfig{MinPerSecond: 1e6 + 1}, "retry: MinPerSecond is 1000001, must be at most 1000000 "},
		{BudgetConfig{Window: -time.Second}, "retry: Window is -1s, must be between 10ms and 10m0s "},
		{BudgetConfig{Window: 9 * ms}, "retry: Window is 9ms, must be "},
		{BudgetConfig{Window: time.Hour}, "retry: Window is 1h0m0s, must be "},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %q", tt.config, err, tt.want)
			continue
		}
		func() {
			defer func() {
				if got, _ := recover().(error); got == nil || got.Error() != "retry: NewBudget: "+strings.TrimPrefix(err.Error(), "retry: ") {
					t.Errorf("NewBudget(%+v) panics with %v, want %v", tt.config, got, err)
				}
			}()
			NewBudget(tt.config)
		}()
	}
}

// What a budget has counted outlives a change of what it allows.
func TestBudgetSet(t *testing.T) {
	tests := []struct {
		name string
		to   BudgetConfig
		left int64
	}{
		{"more for each call", BudgetConfig{Ratio: 1, MinPerSecond: -1}, 100 - 20},
		{"less for each call", BudgetConfig{Ratio: 0.1, MinPerSecond: -1}, 0},
		{"some without calls", BudgetConfig{Ratio: -1, MinPerSecond: 5}, 50 - 20},
		{"a shorter window", BudgetConfig{Ratio: 1, MinPerSecond: -1, Window: time.Second}, 100 - 20},
		{"a longer window", BudgetConfig{Ratio: 1, MinPerSecond: 1, Window: time.Minute}, 100 + 60 - 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewBudget(BudgetConfig{Ratio: 0.2, MinPerSecond: -1})
				for range 100 {
					b.Deposit()
				}
				for b.Withdraw() {
				}
				b.Set(tt.to)
				if got, want := b.Stats(), (BudgetStats{Calls: 100, Retries: 20, Left: tt.left, Refused: 1}); got != want {
					t.Errorf("after Set: %+v, want %+v", got, want)
				}
				time.Sleep(2 * time.Minute) // out of every window
				if got := b.Stats(); got.Calls != 0 || got.Retries != 0 || got.Refused != 1 {
					t.Errorf("two minutes later: %+v", got)
				}
			})
		})
	}
}

// Set while others count: what they may do after it is what it says.
func TestBudgetSetWhileInUse(t *testing.T) {
	b := NewBudget(BudgetConfig{MinPerSecond: 1000, Window: maxWindow})
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 2000 {
				b.Deposit()
				b.Withdraw()
				_ = b.String()
			}
		})
	}
	for i := range 50 {
		b.Set(BudgetConfig{MinPerSecond: 1000, Window: maxWindow - time.Duration(i)*time.Second})
	}
	users.Wait()
	b.Set(BudgetConfig{Ratio: -1, MinPerSecond: -1, Window: maxWindow})
	if got := b.Stats(); got.Retries != 8000 {
		t.Errorf("%d retries are counted, want 8000", got.Retries)
	}
	if b.Withdraw() {
		t.Error("a budget of nothing granted a retry")
	}
}

func TestUnlimitedBudgetCannotBeSet(t *testing.T) {
	defer func() {
		if err, _ := recover().(error); err == nil || !Unlimited.Withdraw() {
			t.Errorf("Set panics with %v", err)
		}
	}()
	Unlimited.Set(BudgetConfig{Ratio: -1, MinPerSecond: -1})
}

func TestZeroBudgetCanBeSet(t *testing.T) {
	b := new(Budget)
	if b.Set(BudgetConfig{Ratio: -1, MinPerSecond: -1}); b.Withdraw() {
		t.Error("a budget of nothing granted a retry")
	}
}

// A ratio is taken for the decimal that was written: 0.6 is six tenths, though
// the float is a little less.
func TestMillionths(t *testing.T) {
	for i := range int64(1_000_001) {
		if got := millionths(float64(i) / 1e6); got != i {
			t.Fatalf("%v is %d millionths", float64(i)/1e6, got)
		}
	}
	for _, tt := range []struct {
		ratio float64
		want  int64
	}{{1.0 / 3, 333_333}, {2.0 / 3, 666_666}, {1000, 1e9}, {999.999999, 999_999_999}, {0.0000019, 1}} {
		if got := millionths(tt.ratio); got != tt.want {
			t.Errorf("%v is %d millionths, want %d", tt.ratio, got, tt.want)
		}
	}
}

// Any schedule of calls and retries keeps the promise, and a retry is refused
// only if the grid of buckets can account for it: if one of the bounds, the short
// ones too, leaves no room when two buckets more are counted against it.
func FuzzBudget(f *testing.F) {
	f.Add(int64(200_000), 1, int64(10*time.Second), []byte{0, 1, 128, 1, 1, 7, 129, 200, 33, 255, 6, 134, 134})
	f.Add(int64(600_000), -1, int64(time.Second), []byte("calls and retries \x80\x81\x82\x83\x84\x85\x86\x87\x88\x90\xa0\xff"))
	f.Add(int64(1_500_000), 0, int64(333_333_333), []byte{1, 2, 3, 131, 4, 5, 134, 135, 136, 137, 9, 9, 145})
	f.Add(int64(1e9), 3, int64(10*ms+1), []byte{9, 128, 128, 128, 138, 138})
	f.Add(int64(1e9), 90, int64(10*ms+1), []byte("\t\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0\xd0"))
	f.Fuzz(func(t *testing.T, perMillion int64, perSecond int, window int64, schedule []byte) {
		if perMillion < 1 || perMillion > 1e9 || window == 0 {
			t.Skip()
		}
		c := BudgetConfig{Ratio: float64(perMillion) / 1e6, MinPerSecond: perSecond, Window: time.Duration(window)}
		if c.Validate() != nil {
			t.Skip()
		}
		b, l := newTally(c.withDefaults()), newLedger(perMillion, c)
		steps := [...]time.Duration{0, 1, b.width - 1, b.width, b.width + 1, 7*b.width + 3, c.Window - 1, c.Window, c.Window + 1, 3 * c.Window, c.Window / 3}
		at := time.Duration(0)
		for _, op := range schedule {
			at += steps[int(op&0x7f)%len(steps)]
			if op < 0x80 {
				b.deposit(at)
				l.calls = append(l.calls, at)
				continue
			}
			l.checkOne(t, b, at)
		}
	})
}
