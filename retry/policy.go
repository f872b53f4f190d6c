package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// A Policy decides after each attempt of a call what happens next. Its methods
// may be called concurrently; those of one call come one after the other, on
// the goroutine of the call.
//
// A Policy that never retries a success may say so with a method
// OnlyErrors() bool. If it returns true when the layer is made, Next is not
// called after an attempt without an error, so that a call that succeeds does not
// pay for attempts and decisions that are passed around.
type Policy[Req, Res any] interface {
	// Begin is called once for each call, before its first attempt.
	Begin(ctx context.Context, req Req)
	// Next is called after each attempt that returned, whether it failed or
	// not, and decides.
	Next(ctx context.Context, a Attempt[Req, Res]) Decision[Req, Res]
}

// An Attempt is one attempt of a call, after it has returned.
type Attempt[Req, Res any] struct {
	// Number is 1 for the first attempt of the call.
	Number int
	// Req is the request as this attempt sent it, Res and Err what came back.
	Req Req
	Res Res
	Err error
}

// Stop returns the decision that the result of a is the result of the call.
func (a Attempt[Req, Res]) Stop() Decision[Req, Res] {
	return Decision[Req, Res]{Req: a.Req, Res: a.Res, Err: a.Err}
}

// Again returns the decision to send the same request again after delay.
func (a Attempt[Req, Res]) Again(delay time.Duration) Decision[Req, Res] {
	return Decision[Req, Res]{Again: true, Delay: delay, Req: a.Req, Res: a.Res, Err: a.Err}
}

// A Decision says what follows an attempt. [Attempt.Stop] and [Attempt.Again]
// make the usual ones; their fields may be changed before they are returned.
type Decision[Req, Res any] struct {
	// Again is true if there is to be another attempt.
	Again bool
	// Delay is how long to wait before it. A delay that ctx's deadline leaves
	// no room for is not slept: the call ends.
	Delay time.Duration
	// Req is the request of the next attempt. It must be set if Again is.
	Req Req
	// Res and Err are what the caller gets if Again is false or the deadline
	// leaves no room for Delay. If ctx ends during the delay, the caller gets
	// an [*InterruptedError] around Err, or Res if Err is nil.
	Res Res
	Err error
}

// NewPolicy returns the [Policy] that [Layer] uses, for a Policy of one's own
// to build on. It panics with the error of c.Validate if there is one.
func NewPolicy[Req, Res any](c Config) Policy[Req, Res] {
	return policy[Req, Res]{newRules("retry: NewPolicy", c)}
}

type policy[Req, Res any] struct{ *rules }

func (p policy[Req, Res]) OnlyErrors() bool { return true }

func (p policy[Req, Res]) Begin(context.Context, Req) { p.Budget.Deposit() }

func (p policy[Req, Res]) Next(ctx context.Context, a Attempt[Req, Res]) Decision[Req, Res] {
	if a.Err == nil {
		return a.Stop()
	}
	if delay, again := p.decide(ctx, a.Number, a.Err); again {
		return a.Again(delay)
	}
	return a.Stop()
}

// rules decide about errors. They know nothing of requests.
type rules struct {
	Config

	random func() uint64
}

func newRules(where string, c Config) *rules {
	misuse.Check(where, c.Validate())
	return &rules{c.withDefaults(), rand.Uint64}
}

// decide says whether the call whose attempt failed with err is to be tried
// again, and after how long. The budget comes last, so that nothing is drawn
// for a retry that does not happen.
func (r *rules) decide(ctx context.Context, attempt int, err error) (delay time.Duration, again bool) {
	if ctx.Err() != nil || attempt >= r.MaxAttempts || !r.retryable(ctx, err) {
		return 0, false
	}
	delay, again = r.delay(ctx, attempt, err)
	if !again || outlives(ctx, delay) || !r.Budget.Withdraw() {
		return 0, false
	}
	if r.OnRetry != nil {
		r.OnRetry(ctx, attempt, err, delay)
	}
	return delay, true
}

func (r *rules) retryable(ctx context.Context, err error) bool {
	return r.Retryable == nil || errors.Is(err, turret.ErrNotReady) || r.Retryable(ctx, err)
}

// delay returns how long to wait before the retry with this number: what the
// other side asked for, or else the backoff; but no shorter than a refusal
// asked for. It returns false if there is to be no retry.
func (r *rules) delay(ctx context.Context, attempt int, err error) (time.Duration, bool) {
	delay, said := r.asked(ctx, err)
	if said && delay < 0 {
		return 0, false
	}
	if said {
		delay = r.spread(delay)
	} else {
		delay = r.Backoff.Delay(attempt, r.random())
	}
	if refusal, ok := errors.AsType[*turret.Refusal](err); ok {
		delay = max(delay, r.spread(refusal.RetryAfter))
	}
	return delay, r.MaxDelay < 0 || delay <= r.MaxDelay
}

func (r *rules) asked(ctx context.Context, err error) (delay time.Duration, said bool) {
	if r.RetryAfter == nil {
		return 0, false
	}
	return r.RetryAfter(ctx, err)
}

// spread returns a delay of d or up to a tenth longer, so that calls
// that got the same RetryAfter do not return at the same time. It does not make a delay longer
// than MaxDelay that is not.
func (r *rules) spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	longest := time.Duration(math.MaxInt64)
	if r.MaxDelay > 0 {
		longest = max(d, r.MaxDelay)
	}
	more, _ := bits.Mul64(r.random(), uint64(d/10)+1)
	return d + min(time.Duration(more), longest-d)
}

// String returns the policy in words.
func (r *rules) String() string {
	return fmt.Sprintf("retry %d attempts, %v", r.MaxAttempts, r.Budget)
}
