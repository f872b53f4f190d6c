package throttle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
)

// ErrBelowThreshold stands for the reason BELOW_THRESHOLD: the server admits only
// what is more critical.
var ErrBelowThreshold = errors.New("the server admits only more critical calls now")

// ReasonBelowThreshold is the reason of the refusals of a [Threshold].
const ReasonBelowThreshold = "BELOW_THRESHOLD"

var belowThreshold = turret.Refusal{
	Kind: turret.KindOverloaded, Layer: "threshold", Reason: ReasonBelowThreshold, Err: ErrBelowThreshold,
}

// A Threshold is a [turret.Gate] for clients that turns away the calls that are
// less critical than what the server admits now. The server finds out what that is
// (adaptive.Limit.Threshold) and says so in its answers, which [Threshold.Learn]
// takes. It differs from a [Throttle] in what it turns away, and not in how much: the
// least critical calls, and not any.
//
// The servers behind one name do not all say the same. A Threshold keeps for each
// level the part of its calls that is wanted, as a mean over the answers of the
// last 100 ms, each with the time since the one before as its weight.
//
// After 100 ms without an answer one call in 100 ms passes whatever its level, to
// learn anew. After a second without an answer all calls pass. It has no bound and
// no line, and Ready is always nil. A Threshold is made by [NewThreshold]. Its
// methods may be called concurrently.
type Threshold struct {
	base time.Time

	limiting        atomic.Bool // not all levels are wanted whole
	passed, refused atomic.Uint64

	mu     sync.Mutex
	wanted wanted
}

// NewThreshold returns a [Threshold] that knows of no server yet: all calls pass.
func NewThreshold() *Threshold { return &Threshold{base: time.Now(), wanted: everything} }

func (t *Threshold) now() int64 { return int64(time.Since(t.base)) }

// An Answer is what the answer of a server says of its threshold.
type Answer struct {
	// Threshold is a number from 0 to criticality.Levels, see
	// adaptive.Limit.Threshold, and criticality.Levels if the answer says nothing.
	// A number that is out of bounds counts as the nearest bound, and NaN as
	// criticality.Levels.
	Threshold float64
	// Sent is the level with which the call was sent, Given the one that the server
	// gave it: the less critical one if it does not allow what was claimed. More
	// critical calls than Given then count as Given here too.
	Sent, Given criticality.Level
}

// Learn takes what an answer of the server says. An error that did not come from
// the server is no answer.
func (t *Threshold) Learn(a Answer) {
	if math.IsNaN(a.Threshold) {
		a.Threshold = criticality.Levels
	}
	if a.Threshold >= criticality.Levels && !t.limiting.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted.learn(t.now(), a, t.limiting.Load())
	t.limiting.Store(t.wanted.limits())
}

// Ready returns nil.
func (t *Threshold) Ready(context.Context) error { return nil }

// Enter lets a call of the level of ctx (criticality.From) pass, or refuses it at
// once with an error that matches [ErrBelowThreshold].
func (t *Threshold) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return t.TryEnter(ctx)
}

// TryEnter does what Enter does, whether ctx is done or not.
func (t *Threshold) TryEnter(ctx context.Context) (turret.Ticket, error) {
	if !t.Limiting() {
		return turret.Ticket{}, t.Admit(criticality.Critical)
	}
	return turret.Ticket{}, t.Admit(criticality.From(ctx))
}

// Limiting reports whether calls of any level may be turned away now. If not,
// the level does not matter, and callers need not find it out.
func (t *Threshold) Limiting() bool { return t.limiting.Load() }

// Admit is Enter for a call of the given level, whatever its context says. There
// is nothing to leave after it.
func (t *Threshold) Admit(level criticality.Level) error {
	if t.limiting.Load() && !t.passes(level.Index()) {
		t.refused.Add(1)
		return &belowThreshold
	}
	t.passed.Add(1)
	return nil
}

func (t *Threshold) passes(level int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	passes := t.wanted.ask(t.now(), level, rand.Uint64())
	t.limiting.Store(t.wanted.limits())
	return passes
}

// Leave does nothing: how a call went is not what counts.
func (t *Threshold) Leave(turret.Ticket, turret.Outcome) {}

// ThresholdStats is what a [Threshold] knows, and has done since it was made.
type ThresholdStats struct {
	// Wanted is the part of the calls of each level that passes, by
	// criticality.Level.Index.
	Wanted  [criticality.Levels]float64
	Passed  uint64 // calls that were let through
	Refused uint64 // calls that were turned away
}

// Stats returns a snapshot.
func (t *Threshold) Stats() ThresholdStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted.forget(t.now())
	t.limiting.Store(t.wanted.limits())
	return ThresholdStats{Wanted: t.wanted.share, Passed: t.passed.Load(), Refused: t.refused.Load()}
}

// String returns what is wanted, in one line.
func (t *Threshold) String() string {
	s := t.Stats()
	return fmt.Sprintf("threshold: %.0f %% of critical-plus, %.0f %% of critical, %.0f %% of sheddable-plus, %.0f %% of sheddable sent, %d passed, %d refused",
		100*s.Wanted[0], 100*s.Wanted[1], 100*s.Wanted[2], 100*s.Wanted[3], s.Passed, s.Refused)
}

// Describe says what [Threshold.Stats] does.
func (t *Threshold) Describe(d *turret.Description) {
	s := t.Stats()
	d.Is("threshold", "threshold of the server")
	for i, name := range [...]string{"wanted_critical_plus", "wanted_critical", "wanted_sheddable_plus", "wanted_sheddable"} {
		d.Gauge(name, "1", s.Wanted[i])
	}
	d.Count("entered", "{call}", "", s.Passed)
	d.Count("refused", "{call}", ReasonBelowThreshold, s.Refused)
}
