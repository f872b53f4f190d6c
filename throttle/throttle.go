// Package throttle keeps a client from sending what its server would refuse.
//
// A server that is full spends a part of its time on refusing. A [Throttle] is a
// [turret.Gate] on the client's side that learns from those refusals and turns
// calls away before they are sent, with a probability of
//
//	(requests - K x accepts) / (requests + 1)
//
// over the last second, where requests are all calls that were asked for, the
// locally refused among them, and accepts are those that were sent and that the
// server did not refuse. The server then gets at most about K times what it
// accepts. This is the adaptive throttling of chapter 21 of Google's book on site
// reliability engineering, with a window of one second in place of two minutes:
// with a long one, a surge that is over keeps calls out for as long as it is
// remembered.
//
// A client of which the server accepted little by chance sends little, and so learns
// slowly that the surge is over. Two rules keep it from that. At least two in a
// hundred requests count as accepted. And with each tenth of the window in which the
// server answers and refuses nothing, accepts count double what they did before, until
// the server refuses again.
package throttle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// ErrThrottled stands for the reason THROTTLED: the server refuses most of what
// it gets.
var ErrThrottled = errors.New("the server refuses too many calls")

// ReasonThrottled is the reason of the refusals of a [Throttle].
const ReasonThrottled = "THROTTLED"

var throttled = turret.Refusal{
	Kind: turret.KindOverloaded, Layer: "throttle", Reason: ReasonThrottled, Err: ErrThrottled,
}

const (
	defaultK      = 2
	defaultWindow = time.Second
	mostK         = 1000
	leastWindow   = 100 * time.Millisecond
	mostWindow    = 10 * time.Minute
)

// A Config says how a [Throttle] counts. The zero Config is a good one.
type Config struct {
	// K is how many times what it accepts a server is to get; it gets at least 0.02 K
	// of what is asked for. 0 means 2. It must be more than 1, and at most 1000. Below
	// 1.5 a throttle refuses calls that the server would take, and forgets a surge
	// slowly.
	K float64
	// Window is the time over which calls are counted. 0 means 1 s. At least 100
	// ms and at most 10 min.
	Window time.Duration
	// Failures says that calls with the outcome Failure count as refused by the
	// server, as those with Overload do. It is for servers that time out, or
	// fail, when they are full.
	Failures bool
}

// Validate returns a [*turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	switch {
	case math.IsNaN(c.K) || c.K != 0 && (c.K <= 1 || c.K > mostK):
		return &turret.FieldError{Package: "throttle", Field: "K", Value: c.K, Bound: "0 (which means 2), or more than 1 and at most 1000"}
	case c.Window != 0 && (c.Window < leastWindow || c.Window > mostWindow):
		return &turret.FieldError{Package: "throttle", Field: "Window", Value: c.Window, Bound: "0 (which means 1s), or between 100ms and 10m"}
	}
	return nil
}

// A Throttle is a [turret.Gate] that turns away what the server behind it would
// refuse: see the package documentation. It has no bound and no line. Ready is
// always nil: nothing says that the next call will be refused.
//
// A call is refused by the server if its outcome is Overload. A Throttle is made
// by [New]. Its methods may be called concurrently.
type Throttle struct {
	config Config
	base   time.Time

	limits atomic.Bool // counts.limits, as far as it was known last

	mu     sync.Mutex
	counts counts
}

// New returns a [Throttle]. It panics with the error of c.Validate if there is
// one.
func New(c Config) *Throttle {
	misuse.Check("throttle: New", c.Validate())
	c.K, c.Window = cmp.Or(c.K, defaultK), cmp.Or(c.Window, defaultWindow)
	return &Throttle{config: c, base: time.Now(), counts: counts{width: int64(c.Window) / buckets}}
}

func (t *Throttle) now() int64 { return int64(time.Since(t.base)) }

// Ready returns nil.
func (t *Throttle) Ready(context.Context) error { return nil }

// Enter lets the call pass, or refuses it at once with an error that matches
// [ErrThrottled].
func (t *Throttle) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return t.TryEnter(ctx)
}

// TryEnter does what Enter does, whether ctx is done or not.
func (t *Throttle) TryEnter(context.Context) (turret.Ticket, error) {
	now := t.now()
	t.mu.Lock()
	passes := t.counts.ask(now, t.config.K, rand.Uint64)
	t.limits.Store(t.counts.limits())
	t.mu.Unlock()
	if !passes {
		return turret.Ticket{}, &throttled
	}
	return turret.Ticket{Start: now}, nil
}

// Leave says how the call went.
func (t *Throttle) Leave(ticket turret.Ticket, o turret.Outcome) {
	switch {
	case o == turret.Unused:
		t.mu.Lock()
		t.counts.unsent(t.now(), ticket.Start)
		t.mu.Unlock()
	case o == turret.Overload || t.config.Failures && (o == turret.Failure || o == 0):
		t.mu.Lock()
		t.counts.refuse(t.now())
		t.mu.Unlock()
	case o == turret.Success && t.limits.Load():
		t.mu.Lock()
		t.counts.answer(t.now())
		t.mu.Unlock()
	}
}

// Stats is what a [Throttle] has counted.
type Stats struct {
	// Asked, Sent and Refused are the calls of the last Window: all, those that
	// were sent, and those of them that the server refused.
	Asked, Sent, Refused int
	// Probability is that with which the next call is turned away.
	Probability float64
	Passed      uint64 // calls that were let through, ever
	Throttled   uint64 // calls that were turned away, ever
}

// Stats returns a snapshot.
func (t *Throttle) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.advance(t.now())
	c := &t.counts
	return Stats{
		Asked: c.sum.asked, Sent: c.sum.sent, Refused: c.sum.refused,
		Probability: c.probability(t.config.K), Passed: c.passed, Throttled: c.throttled,
	}
}

// String returns the throttle and its [Stats] in one line.
func (t *Throttle) String() string {
	s := t.Stats()
	return fmt.Sprintf("throttle: %d of %d sent, %d refused by the server, %.0f %% turned away",
		s.Sent, s.Asked, s.Refused, 100*s.Probability)
}

// Describe says what [Throttle.Stats] does.
func (t *Throttle) Describe(d *turret.Description) {
	s := t.Stats()
	d.Is("throttle", fmt.Sprintf("throttle to %v times what is accepted", t.config.K))
	d.Setting("k", "1", t.config.K)
	d.Setting("window", "s", t.config.Window)
	d.Gauge("probability", "1", s.Probability)
	d.Count("entered", "{call}", "", s.Passed)
	d.Count("refused", "{call}", ReasonThrottled, s.Throttled)
}
