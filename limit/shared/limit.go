package shared

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/limit"
)

// ErrAway is the cause of refusals with reason LIMIT_AWAY: the engine cannot be
// asked, and [AwayClosed] is set. Refusals for the rate have the cause
// [limit.ErrRate].
var ErrAway = errors.New("the engine of the limit is away")

var (
	errTimeout = errors.New("no answer within Timeout")
	errExited  = errors.New("the engine exited its goroutine")
)

// Limit is a [turret.Gate] that bounds the rate at which calls start in several
// processes together. The package comment says how. It counts tokens: a call
// takes one when it enters, and only a call that was not sent gives it back.
//
// Its methods may be called concurrently. It has no goroutine but while it asks
// the engine, at most one at a time. Use [New].
type Limit struct {
	engine Engine
	cfg    Config // with defaults
	base   time.Time
	random func() uint64
	local  *limit.TokenBucket // used while the engine is away

	mu      sync.Mutex // guards the rest
	ledger  ledger
	line    []*waiter // first in, first out; only while a question is under way
	changed chan struct{}
	count   counts
}

// A waiter is a call that waits for the answer of the engine.
type waiter struct{ verdict chan verdict } // has room for one

// A verdict is what the answer means for a waiter.
type verdict uint8

const (
	admitted verdict = iota
	refused
	undecided // the engine is away
)

// What a Ticket's Data says of where the token came from.
const (
	leased     uint64 = iota // from a lease
	lent                     // on the debt that the next lease pays
	fromLocal                // from the local limit
	fromNobody               // AwayOpen
)

// New returns a limit of c.Rate that all processes share which use the same
// engine and c.Key. It asks nothing before the first call. New panics if engine
// is nil or c is invalid.
func New(engine Engine, c Config) *Limit {
	if engine == nil {
		misuse.Check("shared: New", &turret.FieldError{Package: "shared", Field: "engine", Value: nil, Bound: "an Engine"})
	}
	misuse.Check("shared: New", c.Validate())
	c = c.withDefaults()
	l := &Limit{engine: engine, cfg: c, base: time.Now(), random: rand.Uint64, ledger: newLedger(c)}
	l.local = limit.NewTokenBucket(l.ledger.localRate(), limit.Queue{})
	return l
}

// Enter takes a leased token. If none is left it waits for the answer of the
// engine, at most [Config.Wait]; while the engine is away it does not wait. Its
// refusals match [limit.ErrRate] or [ErrAway] and say in RetryAfter when to try
// again.
func (l *Limit) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	l.mu.Lock()
	now := l.begin()
	if t, err, done := l.decide(now); done {
		l.mu.Unlock()
		return t, err
	}
	if l.cfg.Wait == 0 {
		l.ask(l.ledger.question(now, 1))
		defer l.mu.Unlock()
		return l.late(now)
	}
	w := &waiter{make(chan verdict, 1)}
	l.line = append(l.line, w)
	l.ask(l.ledger.question(now, len(l.line)))
	l.mu.Unlock()
	return l.wait(ctx, w)
}

// TryEnter takes a leased token, or one of what stands in for the engine while
// that is away. It never waits: where no token is leased it asks the engine for
// the calls to come, and refuses.
func (l *Limit) TryEnter(context.Context) (turret.Ticket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.begin()
	t, err, done := l.decide(now)
	if !done {
		l.ask(l.ledger.question(now, 1))
		return turret.Ticket{}, l.refuse(now)
	}
	return t, err
}

// Leave gives the token back if o is [turret.Unused], and does nothing
// otherwise.
func (l *Limit) Leave(t turret.Ticket, o turret.Outcome) {
	if o != turret.Unused {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.returned++
	switch t.Data {
	case leased:
		l.ledger.put()
	case lent:
		l.ledger.debt = max(l.ledger.debt-1, 0)
	case fromLocal:
		l.local.Leave(turret.Ticket{}, o)
	}
	l.tell()
}

// Ready waits until there was a leased token a moment ago, or the engine may be
// asked for one. While the engine is away it is as ready as what stands in for
// it, and asks the engine when that is due.
func (l *Limit) Ready(ctx context.Context) error {
	for {
		l.mu.Lock()
		wait, room := l.room(l.now())
		if room {
			l.mu.Unlock()
			return nil
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if ctx.Err() != nil {
			return turret.ErrNotReady
		}
		if err := sleep(ctx, wait, changed); err != nil {
			return err
		}
	}
}

// room reports whether there is room at now, and if not, when to look again.
func (l *Limit) room(now int64) (wait time.Duration, room bool) {
	switch {
	case l.ledger.tokens(now) > 0:
		return 0, true
	case !l.ledger.away:
		return l.ledger.retryAfter(now), !l.ledger.silent(now)
	}
	l.ask(l.ledger.question(now, 0))
	switch l.cfg.Away {
	case AwayOpen:
		return 0, true
	case AwayLocal:
		s := l.local.Stats()
		return min(s.Rate.Per/time.Duration(s.Rate.N), l.untilProbe(now)), s.Tokens > 0
	case AwayClosed:
	}
	return l.untilProbe(now), false
}

// untilProbe returns when to ask an engine that is away, or when its answer to
// the question that is under way is there at the latest.
func (l *Limit) untilProbe(now int64) time.Duration {
	return max(l.ledger.retryAfter(now), l.cfg.Timeout)
}

// sleep waits for d, for changed, or for ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(max(d, time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return turret.NotReady(ctx.Err())
	case <-changed:
	case <-timer.C:
	}
	return nil
}

// now returns the nanoseconds since the limit was made.
func (l *Limit) now() int64 { return int64(time.Since(l.base)) }

// begin reads the clock for a call that asks to enter, and counts it.
func (l *Limit) begin() int64 {
	now := l.now()
	l.ledger.demand.add(now)
	if l.ledger.overdue(now) {
		l.leave(now, errTimeout)
		l.ledger.asking = true // still
	}
	return now
}

// decide decides about a call without waiting. It is not done if the answer of
// the engine decides.
func (l *Limit) decide(now int64) (t turret.Ticket, err error, done bool) {
	switch {
	case l.ledger.take(now):
		l.ask(l.ledger.question(now, 0))
		l.count.entered++
		return turret.Ticket{Data: leased}, nil, true
	case l.ledger.away:
		l.ask(l.ledger.question(now, 0))
		t, err = l.standIn(now)
		return t, err, true
	case l.ledger.silent(now):
		return t, l.refuse(now), true
	}
	return t, nil, false
}

// standIn decides about a call as Away says.
func (l *Limit) standIn(now int64) (turret.Ticket, error) {
	switch l.cfg.Away {
	case AwayOpen:
		l.count.open++
		return turret.Ticket{Data: fromNobody}, nil
	case AwayLocal:
		if _, err := l.local.TryEnter(context.Background()); err != nil {
			return turret.Ticket{}, l.refuse(now)
		}
		l.count.local++
		return turret.Ticket{Data: fromLocal}, nil
	case AwayClosed:
	}
	l.count.away++
	return turret.Ticket{}, &turret.Refusal{
		Kind: turret.KindUnavailable, Layer: "shared", Reason: turret.ReasonLimitAway, RetryAfter: l.ledger.retryAfter(now), Err: ErrAway,
	}
}

// late decides about a call for which the answer comes too late. What it lets in
// is a debt that the answer pays. AwayLocal lends at most as many tokens as the
// last lease had, so that a slow engine is not overdrawn by more.
func (l *Limit) late(now int64) (turret.Ticket, error) {
	if l.cfg.Away == AwayLocal && !l.ledger.away && l.ledger.debt >= max(l.ledger.size, 1) {
		return turret.Ticket{}, l.refuse(now)
	}
	t, err := l.standIn(now)
	if err == nil && !l.ledger.away {
		l.ledger.debt = min(l.ledger.debt+1, l.cfg.MaxLease)
		t.Data = lent
	}
	return t, err
}

// refuse returns the refusal of a call for which there is no token.
func (l *Limit) refuse(now int64) error {
	l.count.refused++
	return &turret.Refusal{
		Kind: turret.KindRateLimited, Layer: "shared", Reason: turret.ReasonRateLimited, RetryAfter: l.ledger.retryAfter(now), Err: limit.ErrRate,
	}
}

// wait waits for the answer to the question that is under way.
func (l *Limit) wait(ctx context.Context, w *waiter) (turret.Ticket, error) {
	timer := time.NewTimer(l.cfg.Wait)
	defer timer.Stop()
	select {
	case v := <-w.verdict:
		return l.settled(v)
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	at := slices.Index(l.line, w)
	if at >= 0 {
		l.line = slices.Delete(l.line, at, at+1)
	}
	if err := ctx.Err(); err != nil {
		if at < 0 && <-w.verdict == admitted {
			l.ledger.put()
			l.count.entered--
			l.tell()
		}
		l.count.cancelled++
		l.mu.Unlock()
		return turret.Ticket{}, turret.NotReady(err)
	}
	if at >= 0 {
		defer l.mu.Unlock()
		return l.late(l.now())
	}
	l.mu.Unlock()
	return l.settled(<-w.verdict)
}

// settled turns the verdict of an answer into the result of Enter.
func (l *Limit) settled(v verdict) (turret.Ticket, error) {
	if v == admitted {
		return turret.Ticket{Data: leased}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if v == undecided {
		return l.standIn(l.now())
	}
	return turret.Ticket{}, l.refuse(l.now())
}

// ask asks the engine for n tokens on a goroutine of its own; n of 0 asks
// nothing.
func (l *Limit) ask(n int) {
	if n > 0 {
		l.count.asked++
		go l.questions(n)
	}
}

// questions asks the engine for n tokens, and goes on while calls wait for more.
func (l *Limit) questions(n int) {
	returned := false
	defer func() {
		if !returned {
			l.answered(n, 0, 0, errExited)
		}
	}()
	for n > 0 {
		granted, retryAfter, err := l.question(n)
		n = l.answered(n, granted, retryAfter, err)
	}
	returned = true
}

// answered takes the answer to a question for n tokens, and returns for how many to
// ask next.
func (l *Limit) answered(n, granted int, retryAfter time.Duration, err error) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if err != nil {
		l.count.failed++
		l.leave(now, err)
	} else {
		l.count.granted += uint64(min(max(granted, 0), n))
		l.ledger.answer(now, n, granted, retryAfter, l.random())
	}
	defer l.tell()
	return l.settle(now)
}

// question calls the engine once. A panic of the engine becomes an error, since no
// caller could recover from it here.
func (l *Limit) question(n int) (granted int, retryAfter time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the engine panicked: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Timeout)
	defer cancel()
	return l.engine.Take(ctx, l.cfg.Key, n, l.cfg.Rate)
}

// leave notes that the engine is away, and why.
func (l *Limit) leave(now int64, err error) {
	if !l.ledger.away {
		l.local.SetRate(l.ledger.localRate())
		l.count.awaySince = now
	}
	l.ledger.failed(now, l.random())
	l.count.err = err
	for _, w := range l.line {
		w.verdict <- undecided
	}
	l.line = nil
}

// settle gives the tokens of an answer to the calls that wait, in their order,
// and returns how many tokens to ask for next.
func (l *Limit) settle(now int64) int {
	for len(l.line) > 0 && l.ledger.take(now) {
		l.line[0].verdict <- admitted
		l.count.entered++
		l.line = l.line[1:]
	}
	if !l.ledger.silent(now) {
		n := 0
		if len(l.line) > 0 {
			n = l.ledger.question(now, len(l.line))
		}
		if n > 0 {
			l.count.asked++
		}
		return n
	}
	for _, w := range l.line {
		w.verdict <- refused
	}
	l.line = nil
	return 0
}

// tell wakes the callers of Ready.
func (l *Limit) tell() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}
