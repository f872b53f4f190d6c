package adaptive

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/internal/misuse"
)

// The errors that stand for the reasons of a refusal. They are in reach of
// errors.Is; the refusal itself is a [*turret.Refusal] of KindOverloaded.
var (
	// ErrFull is that of TryEnter when there is no room. The reason is
	// LIMIT_FULL.
	ErrFull = errors.New("no room")
	// ErrWaited: the call waited in line for as long as it may. The reason is
	// QUEUE_TIMEOUT.
	ErrWaited = errors.New("waited too long in line")
	// ErrNoTime: when the call came to the head of the line, less was left until
	// its deadline than a call takes, or than it had waited. The reason is
	// DEADLINE_NEAR.
	ErrNoTime = errors.New("too little time left before the deadline")
)

// ReasonDeadlineNear is the reason of a refusal with [ErrNoTime].
const ReasonDeadlineNear = "DEADLINE_NEAR"

var (
	full = turret.Refusal{
		Kind: turret.KindOverloaded, Layer: "adaptive", Reason: turret.ReasonLimitFull, Err: ErrFull,
	}
	waited = turret.Refusal{
		Kind: turret.KindOverloaded, Layer: "adaptive", Reason: turret.ReasonQueueTimeout, Err: ErrWaited,
	}
	noTime = turret.Refusal{
		Kind: turret.KindOverloaded, Layer: "adaptive", Reason: ReasonDeadlineNear, Err: ErrNoTime,
	}
)

// A Limit is a [turret.Gate] that bounds how many calls are inside at once, and
// finds the bound by itself: see the package documentation. Calls that find no
// room wait for a short time in a line.
//
// The outcomes Success and Failure say how long calls take. Overload, Ignored and
// Unused say nothing: the place is free again, and that is all. A stream that
// waits for its peer for most of its life should not hold a place; it can Enter,
// Leave at once with Unused, and run then, which makes it wait its turn.
//
// Ready is nil while there is room that no call waits for. A Limit is made by
// [New]. Its methods may be called concurrently. It starts no goroutine and needs
// no Close.
type Limit struct {
	config Config
	base   time.Time
	seed   maphash.Seed // of keys

	// closed says that there is no room, so that TryEnter needs neither the clock
	// nor the mutex to say so. It changes with the mutex held.
	closed atomic.Bool
	// threshold holds the bits of what Threshold returns.
	threshold atomic.Uint64
	// turned counts the calls that TryEnter has turned away because of closed, and
	// that the gate has not counted yet.
	turned atomic.Int64

	mu    sync.Mutex
	gate  *gate
	timer *time.Timer
	armed int64 // when the timer fires; never if it does not
}

// New returns a [Limit]. It panics with the error of c.Validate if there is one.
func New(c Config) *Limit {
	misuse.Check("adaptive: New", c.Validate())
	c = c.withDefaults()
	l := &Limit{
		config: c, base: time.Now(), seed: maphash.MakeSeed(),
		gate: newGate(c), armed: never,
	}
	l.threshold.Store(math.Float64bits(criticality.Levels))
	return l
}

// now is the time on the gate's clock.
func (l *Limit) now() int64 { return int64(time.Since(l.base)) }

// Enter takes a place, and waits for it in line as long as the limit and ctx
// allow. Its refusals match [ErrWaited] or [ErrNoTime].
func (l *Limit) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	key := l.key(ctx)
	now := l.now()
	l.lock(now)
	if l.gate.enter(now, key) {
		l.release()
		return turret.Ticket{Start: now}, nil
	}
	l.release()
	return l.wait(ctx, key)
}

// lock locks the gate at now, and tells it of the calls that were turned away
// without the mutex.
func (l *Limit) lock(now int64) {
	l.mu.Lock()
	if l.turned.Load() != 0 {
		l.gate.turnAway(now, l.turned.Swap(0))
	}
}

// release unlocks the gate when nothing has changed in the line.
func (l *Limit) release() {
	if closed := !l.gate.open(); closed != l.closed.Load() {
		l.closed.Store(closed)
	}
	if bits := math.Float64bits(l.gate.threshold.value); bits != l.threshold.Load() {
		l.threshold.Store(bits)
	}
	l.mu.Unlock()
}

// Threshold returns the lowest level of criticality that is worth sending here: a
// number v between 0 and criticality.Levels. Of the calls whose Level.Index is
// below floor(v) all are wanted, of those with the index floor(v) the fraction of
// v, and none of the others. It is criticality.Levels while there is room, and
// moves about every 100 ms under overload, so that about 8 % of the calls are still
// refused here if the peers keep to it. Calls of TryEnter do not count.
//
// interceptors.AdmitAdaptive sends it to clients, and interceptors.Threshold keeps
// to it there. It reads a word and takes no lock.
func (l *Limit) Threshold() float64 { return math.Float64frombits(l.threshold.Load()) }

// key returns the number of the key of ctx, 0 if calls have none.
func (l *Limit) key(ctx context.Context) uint64 {
	if l.config.Key == nil {
		return 0
	}
	return maphash.String(l.seed, l.config.Key(ctx))
}

// wait waits in line.
func (l *Limit) wait(ctx context.Context, key uint64) (turret.Ticket, error) {
	w := &waiter{
		told: make(chan struct{}, 1), key: key, deadline: never,
		level: l.config.Level(ctx).Index(),
	}
	if d, ok := ctx.Deadline(); ok {
		w.deadline = int64(d.Sub(l.base))
	}
	now := l.now()
	l.lock(now)
	l.gate.wait(now, w)
	l.unlock()
	select {
	case <-w.told:
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		now := l.now()
		l.lock(now)
		gone := l.gate.giveUp(now, w)
		l.unlock()
		if gone {
			return turret.Ticket{}, turret.NotReady(err)
		}
	}
	switch w.fate {
	case admitted:
		return turret.Ticket{Start: w.entered}, nil
	case outOfTime:
		return turret.Ticket{}, &noTime
	default:
		return turret.Ticket{}, &waited
	}
}

// TryEnter takes a place that is free now. Its refusal matches [ErrFull].
func (l *Limit) TryEnter(ctx context.Context) (turret.Ticket, error) {
	if l.closed.Load() {
		l.turned.Add(1)
		return turret.Ticket{}, &full
	}
	key := l.key(ctx)
	now := l.now()
	l.lock(now)
	if l.gate.enter(now, key) {
		l.release()
		return turret.Ticket{Start: now}, nil
	}
	l.gate.turnAway(now, 1)
	l.release()
	return turret.Ticket{}, &full
}

// Leave gives the place back. It panics if more calls leave than entered.
func (l *Limit) Leave(t turret.Ticket, o turret.Outcome) {
	now := l.now()
	l.lock(now)
	if l.gate.inside == 0 {
		l.release()
		panic(errors.New("adaptive: Limit.Leave: more calls left than entered"))
	}
	l.gate.leave(now, t.Start, o)
	l.unlock()
}

// Ready waits until there is room that no call waits for.
func (l *Limit) Ready(ctx context.Context) error {
	ended := ctx.Err() != nil
	w := &waiter{told: make(chan struct{}, 1)}
	l.mu.Lock()
	switch {
	case l.gate.open():
		l.mu.Unlock()
		return nil
	case ended:
		l.mu.Unlock()
		return turret.ErrNotReady
	}
	l.gate.watchers.push(w)
	l.mu.Unlock()
	select {
	case <-w.told:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.gate.watchers.remove(w)
	l.mu.Unlock()
	return turret.NotReady(ctx.Err())
}

// SetBounds changes Min and Max of the [Config] while calls go on. After a lower
// Max no call enters until enough have left. It panics unless 1 <= least <= most
// <= 1,000,000.
func (l *Limit) SetBounds(least, most int) {
	switch {
	case least < 1 || least > most:
		misuse.Check("adaptive: Limit.SetBounds", invalid("least", least, fmt.Sprintf("between 1 and most (%d)", most)))
	case most > largestMax:
		misuse.Check("adaptive: Limit.SetBounds", invalid("most", most, fmt.Sprintf("at most %d", largestMax)))
	}
	now := l.now()
	l.lock(now)
	l.gate.bound(now, least, most)
	l.unlock()
}

// unlock makes sure that the timer fires when the line is next due, and unlocks.
func (l *Limit) unlock() {
	if due := l.gate.due(); due < l.armed {
		l.armed = due
		wait := time.Duration(max(due-l.now(), 0))
		if l.timer == nil {
			l.timer = time.AfterFunc(wait, l.tick)
		} else {
			l.timer.Reset(wait)
		}
	}
	l.release()
}

// tick is what the timer calls.
func (l *Limit) tick() {
	now := l.now()
	l.lock(now)
	l.armed = never
	l.gate.tick(now)
	l.unlock()
}
