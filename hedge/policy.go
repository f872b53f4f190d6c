package hedge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/retry"
)

// A Policy decides when a call is hedged: it holds the latencies of the calls (in
// 43 KB), the budget, and what has been counted. [LayerOf] makes layers of it,
// which all share it. Its methods may be called concurrently.
type Policy struct {
	config atomic.Pointer[settings]
	base   time.Time

	quantile atomic.Int64 // that of window; 0 while it is not known

	mu      sync.Mutex
	window  *window
	history history // of quantile

	calls, hedges, wins, losses, paused, spent atomic.Uint64
}

// settings are a [Config] with its defaults.
type settings struct {
	Config

	fixed bool // the delay is Delay, whatever the quantile
}

// NewPolicy returns a [Policy] that does what c says. It panics with the error
// of c.Validate if there is one.
func NewPolicy(c Config) *Policy { return newPolicy("hedge: NewPolicy", c) }

func newPolicy(where string, c Config) *Policy {
	misuse.Check(where, c.Validate())
	s := c.withDefaults()
	if s.Budget == nil {
		s.Budget = retry.NewBudget(retry.BudgetConfig{Ratio: defaultRatio, MinPerSecond: -1})
	}
	p := &Policy{base: time.Now(), window: newWindow(s.Window, s.MinSamples, s.Quantile)}
	p.config.Store(s)
	return p
}

// Set changes when calls are hedged from now on, and keeps the latencies and
// what has been counted. A Budget and functions that are nil in c stay those
// that p has. Calls in flight may still act on the old configuration. Set panics
// with the error of c.Validate if there is one.
func (p *Policy) Set(c Config) {
	misuse.Check("hedge: Policy.Set", c.Validate())
	s := c.withDefaults()
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.config.Load()
	if s.Budget == nil {
		s.Budget, s.Counted = old.Budget, old.Counted
	}
	if s.Success == nil {
		s.Success = old.Success
	}
	if s.RetryAfter == nil {
		s.RetryAfter = old.RetryAfter
	}
	if s.OnHedge == nil {
		s.OnHedge = old.OnHedge
	}
	p.config.Store(s)
	p.window.set(s.Window, s.MinSamples, s.Quantile)
	if s.Quantile != old.Quantile { // what it rose from was another quantile
		p.history = history{}
	}
	p.learn(p.now())
}

// now returns the instant in nanoseconds since the policy was made.
func (p *Policy) now() int64 { return int64(time.Since(p.base)) }

// begin counts a call and returns the delay of its hedges, or false if it is
// not to be hedged.
func (p *Policy) begin() (delay time.Duration, hedged bool) {
	p.calls.Add(1)
	if s := p.config.Load(); !s.Counted {
		s.Budget.Deposit()
	}
	return p.delay(p.quantile.Load())
}

// delay returns the delay when the quantile is q.
func (p *Policy) delay(q int64) (delay time.Duration, hedged bool) {
	s := p.config.Load()
	if q > 0 && !s.fixed {
		return max(time.Duration(q), s.MinDelay), true
	}
	return s.Delay, s.Delay > 0
}

// observe takes note of the first attempt of a call, which began at the instant
// start. One that did not answer counts only if it took longer than the
// quantile: it would have taken longer still.
func (p *Policy) observe(start int64, answered bool) {
	now := p.now()
	took := time.Duration(now - start)
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.window
	if !answered && (w.n == 0 || took <= w.value()) {
		return
	}
	w.add(now, took)
	p.learn(now)
}

// learn takes the quantile from the window, if it is known. It requires that
// p.mu is held.
func (p *Policy) learn(now int64) {
	if !p.window.known() {
		p.quantile.Store(0)
		return
	}
	q := p.window.value()
	p.history.set(now, q)
	p.quantile.Store(int64(q))
}

// permits says whether a hedge may be sent now. The budget comes last, so that
// nothing is drawn for a hedge that is not sent.
func (p *Policy) permits() bool {
	switch {
	case p.isPaused():
		p.paused.Add(1)
		return false
	case !p.config.Load().Budget.Withdraw():
		p.spent.Add(1)
		return false
	}
	return true
}

// isPaused reports whether the quantile has risen so much within a minute that
// it is not single calls that are slow.
func (p *Policy) isPaused() bool {
	most := p.config.Load().MaxRise
	if most == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.history.minuteAgo(p.now())
	return was > 0 && float64(p.history.value) > most*float64(was)
}

// A standing ranks the ends of the attempts of a call: the highest is the
// call's.
type standing uint8

const (
	unsent     standing = iota + 1 // refused before it was sent
	failed                         // sent, with an error
	pushedBack                     // the other side said when to come back, or not to
	answered
)

// standing returns the standing of an attempt that ended with err, and whether
// it was sent.
func (p *Policy) standing(ctx context.Context, err error) (_ standing, sent bool) {
	if err == nil {
		return answered, true
	}
	sent = !errors.Is(err, turret.ErrNotReady)
	success := p.config.Load().Success
	switch {
	case sent && success != nil && success(ctx, err):
		return answered, sent
	case p.asksToWait(ctx, err):
		return pushedBack, sent
	case sent:
		return failed, sent
	default:
		return unsent, sent
	}
}

func (p *Policy) asksToWait(ctx context.Context, err error) bool {
	retryAfter := p.config.Load().RetryAfter
	if retryAfter == nil {
		return false
	}
	_, said := retryAfter(ctx, err)
	return said
}

// tell says that a hedge is being sent.
func (p *Policy) tell(ctx context.Context, attempt int, after time.Duration) {
	p.hedges.Add(1)
	if onHedge := p.config.Load().OnHedge; onHedge != nil {
		onHedge(ctx, attempt, after)
	}
}

// Stats is what a [Policy] knows and has counted, at one moment.
type Stats struct {
	// Calls and Hedges are how many there were, ever. Wins is how many calls
	// were decided by a hedge, and Losses how many hedges decided nothing; both
	// are counted when the call has ended.
	Calls, Hedges, Wins, Losses uint64
	// Paused and Spent are how often a hedge was due and not sent: because the
	// quantile had risen too much, or because the budget was spent. A call may
	// count more than once.
	Paused, Spent uint64
	// Samples is how many latencies the quantile is taken of, and Quantile its
	// value; 0 while it is not known.
	Samples  int
	Quantile time.Duration
	// Delay is how long a call waits now before it is hedged; 0 if it is not.
	Delay time.Duration
}

// Stats returns what p knows and has counted.
func (p *Policy) Stats() Stats {
	p.mu.Lock()
	samples := p.window.n
	p.mu.Unlock()
	quantile := p.quantile.Load()
	delay, _ := p.delay(quantile)
	return Stats{
		Calls:    p.calls.Load(),
		Hedges:   p.hedges.Load(),
		Wins:     p.wins.Load(),
		Losses:   p.losses.Load(),
		Paused:   p.paused.Load(),
		Spent:    p.spent.Load(),
		Samples:  samples,
		Quantile: time.Duration(quantile),
		Delay:    delay,
	}
}

// String returns in words when p hedges now, its [Stats] and its budget.
func (p *Policy) String() string {
	s := p.Stats()
	return fmt.Sprintf("hedge up to %d per call, %s: %d calls, %d hedges, %d won; not sent: %d while latency had risen, %d over budget; %v",
		p.config.Load().MaxHedges, p.when(s), s.Calls, s.Hedges, s.Wins, s.Paused, s.Spent, p.config.Load().Budget)
}

// when says after which delay calls are hedged, and why that is so.
func (p *Policy) when(s Stats) string {
	if p.config.Load().fixed {
		return fmt.Sprintf("after %v", s.Delay)
	}
	quantile := fmt.Sprintf("p%.6g", p.config.Load().Quantile*100)
	known := s.Quantile.Round(time.Microsecond)
	unknown := fmt.Sprintf("until %s is known (%d of %d latencies)", quantile, s.Samples, p.config.Load().MinSamples)
	switch {
	case s.Quantile == 0 && s.Delay == 0:
		return "none " + unknown
	case s.Quantile == 0:
		return fmt.Sprintf("after %v %s", s.Delay, unknown)
	case s.Delay > s.Quantile:
		return fmt.Sprintf("after %v (the least; %s is %v)", s.Delay, quantile, known)
	default:
		return fmt.Sprintf("after %v (%s)", known, quantile)
	}
}
