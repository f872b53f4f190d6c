package hedge

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/turret-go/turret"
)

// A race is a call that may be hedged. Its first attempt runs on the goroutine
// of the caller. A timer starts each hedge on a goroutine of its own, and a hedge
// that is sent sets the timer for the next. The goroutine that decides the call closes it
// and cancels the context that all attempts share; the caller returns when
// nothing of the call runs any more.
type race[Req, Res any] struct {
	*service[Req, Res]

	ctx    context.Context // of all attempts
	cancel context.CancelCauseFunc
	req    Req
	start  int64

	mu      sync.Mutex
	changed sync.Cond   // running or set
	running int         // attempts, and hedges that are not decided yet
	set     bool        // the timer is set, or its goroutine has yet to begin
	timer   *time.Timer // for the next hedge
	delay   time.Duration
	closed  bool // no more hedges
	number  int  // of the last hedge
	hedges  int  // that were sent, as far as is known
	started int  // hedges, those that were refused unsent too
	sent    bool // an attempt was sent

	// The end of the call, as far as is known.
	result[Res]
	crash *crash // the first
}

// A result is how an attempt ended that returned.
type result[Res any] struct {
	attempt  int // 0 is the first attempt, and 1 the first hedge
	standing standing
	res      Res
	err      error
}

func newRace[Req, Res any](ctx context.Context, s *service[Req, Res], req Req, start int64, delay time.Duration) *race[Req, Res] {
	r := &race[Req, Res]{service: s, req: req, start: start, delay: delay, running: 1}
	r.changed.L = &r.mu
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r
}

// run makes the first attempt, and returns when all have ended.
func (r *race[Req, Res]) run() (Res, error) {
	r.mu.Lock()
	r.setTimer(r.delay)
	r.mu.Unlock()
	returned := false
	defer func() {
		if returned {
			return
		}
		// A panic or Goexit is passing through. It goes on by itself, with the
		// stack that belongs to it, unless that of a hedge came first.
		first := r.crashed(&crash{})
		r.leave()
		r.wait()
		if first {
			return
		}
		if p := recover(); p != nil {
			report("hedge: panic after that of another attempt", p, debug.Stack())
		}
		r.raise()
	}()
	res, err := r.Service.Call(r.ctx, r.req)
	standing := r.end(0, res, err)
	r.policy.observe(r.start, standing == answered)
	returned = true
	r.leave()
	r.wait()
	return r.verdict()
}

// fire is the goroutine of the timer.
func (r *race[Req, Res]) fire() {
	attempt, ok := r.enter()
	if !ok {
		return
	}
	defer r.leave()
	returned := false
	defer func() {
		if returned {
			return
		}
		c := &crash{recover(), debug.Stack()}
		if !r.crashed(c) && c.panic != nil {
			report("hedge: panic after that of another attempt", c.panic, c.stack)
		}
	}()
	r.hedge(attempt)
	returned = true
}

// enter makes the timer's goroutine a hedge, unless the call is closed.
func (r *race[Req, Res]) enter() (attempt int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = false
	if r.closed {
		r.changed.Broadcast()
		return 0, false
	}
	r.running++
	r.number++
	return r.number, true
}

// leave says that an attempt has ended, or will not be made. If it was the last
// one in flight the call is over, and no hedge may follow.
func (r *race[Req, Res]) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if r.running == 0 {
		r.close()
	}
	r.changed.Broadcast()
}

// hedge sends a hedge, if one may be sent.
func (r *race[Req, Res]) hedge(attempt int) {
	req, ok := r.request(attempt)
	if !ok {
		return
	}
	after := r.elapsed()
	if !r.policy.permits() {
		r.notSent(attempt, after)
		return
	}
	if !r.counts() {
		return
	}
	r.policy.tell(r.ctx, attempt, after)
	res, err := r.Service.Call(r.ctx, req)
	r.end(attempt, res, err)
}

// request returns what a hedge is to send, or false if the call is not to be
// hedged any more.
func (r *race[Req, Res]) request(attempt int) (req Req, ok bool) {
	ok = r.ctx.Err() == nil
	if req = r.req; ok && r.again != nil {
		req, ok = r.again(r.ctx, r.req, attempt)
	}
	if !ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.close()
	}
	return req, ok
}

// notSent says that the hedge of this number may not be sent now. The next one
// asks when the call has taken twice as long, so that calls which take very long
// while nothing may be sent do not ask all the time.
func (r *race[Req, Res]) notSent(attempt int, after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.number == attempt {
		r.number--
	}
	r.setTimer(after)
}

// counts says that a hedge is about to be sent, and lets the next one follow. It
// returns false if the call has been closed in the meantime, or another hedge has
// taken the last place.
func (r *race[Req, Res]) counts() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.hedges >= r.policy.config.Load().MaxHedges {
		return false
	}
	r.hedges++
	r.started++
	r.setTimer(r.delay)
	return true
}

// end takes note of how an attempt returned.
func (r *race[Req, Res]) end(attempt int, res Res, err error) standing {
	standing, sent := r.policy.standing(r.ctx, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = r.sent || sent
	if r.beats(standing, attempt) {
		r.result = result[Res]{attempt, standing, res, err}
	}
	if standing >= pushedBack {
		r.close()
	}
	if standing == answered {
		r.cancel(ErrSuperseded)
	}
	if attempt > 0 && !sent {
		r.refused(err)
	}
	return standing
}

// refused gives the place of a hedge that was not sent to another one, when the
// call has taken twice as long. All that follow are as far apart: hedges that wait
// in a line and are refused must not keep each other, and the call, alive. It
// requires r.mu.
func (r *race[Req, Res]) refused(err error) {
	r.hedges--
	r.delay = max(r.delay, r.elapsed(), retryAfter(err))
	r.setTimer(r.delay)
}

// beats reports whether an attempt that ended so is the end of the call rather
// than the one before it: the first answer is, or else the earliest attempt of
// the highest standing. It requires r.mu.
func (r *race[Req, Res]) beats(s standing, attempt int) bool {
	if s == r.standing {
		return s != answered && attempt < r.attempt
	}
	return s > r.standing
}

func retryAfter(err error) time.Duration {
	if r, ok := errors.AsType[*turret.Refusal](err); ok {
		return r.RetryAfter
	}
	return 0
}

func (r *race[Req, Res]) elapsed() time.Duration {
	return time.Duration(r.policy.now() - r.start)
}

// setTimer lets a hedge follow after d, if the call may have another one and its
// timer is not set. It requires r.mu.
func (r *race[Req, Res]) setTimer(d time.Duration) {
	if r.closed || r.set || r.hedges >= r.policy.config.Load().MaxHedges {
		return
	}
	r.set = true
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.fire)
	} else {
		r.timer.Reset(d)
	}
}

// close lets no hedge follow. If it cannot stop the timer, that has started
// fire, which will see it. It requires r.mu.
func (r *race[Req, Res]) close() {
	r.closed = true
	if r.set && r.timer.Stop() {
		r.set = false
	}
}

// wait returns when nothing of the call runs any more.
func (r *race[Req, Res]) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.running > 0 || r.set {
		r.changed.Wait()
	}
	r.cancel(nil)
	lost := r.started
	if r.crash == nil && r.attempt > 0 && r.standing == answered {
		lost--
		r.policy.wins.Add(1)
	}
	r.policy.losses.Add(uint64(lost))
}

// verdict returns the end of the call, once all attempts have ended.
func (r *race[Req, Res]) verdict() (Res, error) {
	if r.crash != nil {
		r.raise()
	}
	if r.sent {
		r.err = turret.Sent(r.err)
	}
	return r.res, r.err
}
