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
)

// A Policy decides when a call is hedged: it holds the latencies of the calls (in
// 43 KB), the budget, and what has been counted. [LayerOf] makes layers of it,
// which all share it. Its methods may be called concurrently.
type Policy struct {
	config Config
	fixed  bool // the delay is config.Delay, whatever the quantile
	base   time.Time

	quantile atomic.Int64 // that of window; 0 while it is not known

	mu      sync.Mutex
	window  *window
	history history // of quantile

	calls, hedges, wins, losses, paused, spent atomic.Uint64
}

// NewPolicy returns a [Policy] that does what c says. It panics with the error
// of c.Validate if there is one.
func NewPolicy(c Config) *Policy { return newPolicy("hedge: NewPolicy", c) }

func newPolicy(where string, c Config) *Policy {
	misuse.Check(where, c.Validate())
	c, fixed := c.withDefaults()
	return &Policy{
		config: c,
		fixed:  fixed,
		base:   time.Now(),
		window: newWindow(c.Window, c.MinSamples, c.Quantile),
	}
}

// now returns the instant in nanoseconds since the policy was made.
func (p *Policy) now() int64 { return int64(time.Since(p.base)) }

// begin counts a call and returns the delay of its hedges, or false if it is
// not to be hedged.
func (p *Policy) begin() (delay time.Duration, hedged bool) {
	p.calls.Add(1)
	if !p.config.Counted {
		p.config.Budget.Deposit()
	}
	return p.delay(p.quantile.Load())
}

// delay returns the delay when the quantile is q.
func (p *Policy) delay(q int64) (delay time.Duration, hedged bool) {
	if q > 0 && !p.fixed {
		return max(time.Duration(q), p.config.MinDelay), true
	}
	return p.config.Delay, p.config.Delay > 0
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
	if !w.known() {
		return
	}
	q := w.value()
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
	case !p.config.Budget.Withdraw():
		p.spent.Add(1)
		return false
	}
	return true
}

// isPaused reports whether the quantile has risen so much within a minute that
// it is not single calls that are slow.
func (p *Policy) isPaused() bool {
	if p.config.MaxRise == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.history.minuteAgo(p.now())
	return was > 0 && float64(p.history.value) > p.config.MaxRise*float64(was)
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
	switch {
	case sent && p.config.Success != nil && p.config.Success(ctx, err):
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
	if p.config.RetryAfter == nil {
		return false
	}
	_, said := p.config.RetryAfter(ctx, err)
	return said
}

// tell says that a hedge is being sent.
func (p *Policy) tell(ctx context.Context, attempt int, after time.Duration) {
	p.hedges.Add(1)
	if p.config.OnHedge != nil {
		p.config.OnHedge(ctx, attempt, after)
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
		p.config.MaxHedges, p.when(s), s.Calls, s.Hedges, s.Wins, s.Paused, s.Spent, p.config.Budget)
}

// when says after which delay calls are hedged, and why that is so.
func (p *Policy) when(s Stats) string {
	if p.fixed {
		return fmt.Sprintf("after %v", s.Delay)
	}
	quantile := fmt.Sprintf("p%.6g", p.config.Quantile*100)
	known := s.Quantile.Round(time.Microsecond)
	unknown := fmt.Sprintf("until %s is known (%d of %d latencies)", quantile, s.Samples, p.config.MinSamples)
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
