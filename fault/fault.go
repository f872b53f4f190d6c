// Package fault makes calls slow or failing on purpose, for a time, to see what
// callers do about it.
//
// An [Injector] does nothing until [Injector.Set] gives it a [Rule], and every
// rule ends by itself. Around calls it is [Layer], or [Injector.Inject] in code
// of one's own.
package fault

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
)

// ErrInjected is the error of a failed call if its rule has none. Every [*Error]
// matches it.
var ErrInjected = errors.New("fault: injected")

// ReasonInjected is the reason in the ErrorInfo of RPCs that an [Injector] fails.
const ReasonInjected = "FAULT_INJECTED"

const (
	mostDelay    = time.Hour
	mostDuration = 24 * time.Hour
)

// A Rule says which calls are to be slow, and which are to fail. The zero Rule
// does nothing. Whether a call is delayed and whether it fails are drawn
// independently, when it begins.
type Rule struct {
	// DelayShare is the share of calls that wait for Delay first, from 0 to 1.
	DelayShare float64
	// Delay is how long they wait. At least 0, at most 1 h.
	Delay time.Duration
	// ErrShare is the share of calls that fail, after their delay and without
	// being sent, from 0 to 1.
	ErrShare float64
	// Err is the error that they fail with. nil is [ErrInjected], which is
	// UNAVAILABLE in gRPC; an error of status.Error has the code that it says.
	Err error
	// MaxActive is how many calls may be in a fault at one time; the others go on
	// as if there were no rule. 0 is no bound.
	MaxActive int
}

// Validate returns a [*turret.FieldError] if r cannot be used.
func (r Rule) Validate() error {
	invalid := func(field string, value any, bound string) error {
		return &turret.FieldError{Package: "fault", Field: field, Value: value, Bound: bound}
	}
	switch {
	case !isShare(r.DelayShare):
		return invalid("DelayShare", r.DelayShare, "between 0 and 1")
	case r.Delay < 0 || r.Delay > mostDelay:
		return invalid("Delay", r.Delay, "between 0 and 1h")
	case !isShare(r.ErrShare):
		return invalid("ErrShare", r.ErrShare, "between 0 and 1")
	case r.MaxActive < 0:
		return invalid("MaxActive", r.MaxActive, "0 (which is no bound), or positive")
	}
	return nil
}

func isShare(f float64) bool { return !math.IsNaN(f) && f >= 0 && f <= 1 }

// draw says what happens to a call with the two random numbers, each at least 0
// and below 1.
func (r Rule) draw(forDelay, forErr float64) (delay time.Duration, fails bool) {
	if forDelay < r.DelayShare {
		delay = r.Delay
	}
	return delay, forErr < r.ErrShare
}

// An Error is the error of a call that was failed on purpose. It matches
// [ErrInjected] and what Err matches, but never [turret.ErrNotReady]: it looks as
// if the call had been sent, so that callers treat it as a failure of the server.
type Error struct {
	// Err is that of the [Rule], or [ErrInjected].
	Err error
}

// Error returns the text of Err.
func (e *Error) Error() string { return e.Err.Error() }

// Is reports whether target is [ErrInjected].
func (e *Error) Is(target error) bool { return target == ErrInjected }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// An Injector makes calls slow or failing while it has a [Rule]. [New] makes one.
// Without a rule a call costs one atomic load. Its methods may be called
// concurrently.
type Injector struct {
	random  func() float64
	running atomic.Pointer[running] // nil without a rule
	active  atomic.Int64            // calls in a fault
	delayed atomic.Uint64
	failed  atomic.Uint64

	mu sync.Mutex // held where running changes
}

// running is a rule that holds.
type running struct {
	rule  Rule
	err   *Error
	until time.Time
	timer *time.Timer   // clears the rule
	over  chan struct{} // closed when the rule ends
}

// New returns an Injector without a rule.
func New() *Injector { return &Injector{random: rand.Float64} }

// Set makes rule hold for d, in place of the one that holds. It returns the error
// of rule.Validate, or a [*turret.FieldError] if d is not positive or more than
// 24 h, and changes nothing then. Calls that an earlier rule delays go on at once.
func (i *Injector) Set(rule Rule, d time.Duration) error {
	if err := rule.Validate(); err != nil {
		return err
	}
	if d <= 0 || d > mostDuration {
		return &turret.FieldError{Package: "fault", Field: "d", Value: d, Bound: "positive and at most 24h"}
	}
	err := rule.Err
	if err == nil {
		err = ErrInjected
	}
	r := &running{rule: rule, err: &Error{turret.Sent(err)}, until: time.Now().Add(d), over: make(chan struct{})}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.replace(r)
	r.timer = time.AfterFunc(d, func() { i.end(r) })
	return nil
}

// Clear ends the rule. Calls that it delays go on at once and do not fail.
func (i *Injector) Clear() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.replace(nil)
}

// end ends r if it still holds.
func (i *Injector) end(r *running) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running.Load() == r {
		i.replace(nil)
	}
}

// replace requires i.mu.
func (i *Injector) replace(r *running) {
	if old := i.running.Swap(r); old != nil {
		old.timer.Stop()
		close(old.over)
	}
}

// Inject does to a call what the rule says: it waits, and returns the [*Error]
// that the call must fail with, or nil. If ctx ends while it waits it returns the
// error of ctx. A call whose rule ends while it waits goes on with nil.
func (i *Injector) Inject(ctx context.Context) error {
	r := i.running.Load()
	if r == nil {
		return nil
	}
	return i.inject(ctx, r)
}

func (i *Injector) inject(ctx context.Context, r *running) error {
	delay, fails := r.rule.draw(i.random(), i.random())
	if delay == 0 && !fails || !i.enter(r.rule.MaxActive) {
		return nil
	}
	defer i.active.Add(-1)
	if delay > 0 {
		i.delayed.Add(1)
		if goesOn, err := r.wait(ctx, delay); err != nil || goesOn {
			return err
		}
	}
	if !fails {
		return nil
	}
	i.failed.Add(1)
	return r.err
}

// enter counts a call that is in a fault, unless there are most already.
func (i *Injector) enter(most int) bool {
	for {
		n := i.active.Load()
		if most > 0 && n >= int64(most) {
			return false
		}
		if i.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// wait lets delay pass. goesOn says that the rule ended before.
func (r *running) wait(ctx context.Context, delay time.Duration) (goesOn bool, err error) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-r.over:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
