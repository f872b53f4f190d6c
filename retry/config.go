package retry

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/turret-go/turret"
)

// Defaults of [Config].
const (
	defaultAttempts = 3
	defaultMaxDelay = 30 * time.Second
)

// A Config says what is retried, how often and how soon. The zero value is the
// default: three attempts of whatever fails.
type Config struct {
	// MaxAttempts is how many attempts a call has, the first one included. 0
	// means 3, 1 no retry. A negative value is an error.
	MaxAttempts int
	// Backoff says how long to wait before a retry.
	Backoff Backoff
	// MaxDelay is the longest delay that is slept. A retry that would have to
	// wait longer, usually because the other side asked for it, does not
	// happen. 0 means 30 s; negative: no bound but the caller's deadline.
	MaxDelay time.Duration
	// Budget bounds the retries of all calls together. nil means one of its
	// own for each call of [Layer] or [NewPolicy], with the default
	// [BudgetConfig]; [Unlimited] means none.
	Budget *Budget
	// Retryable says which errors of calls that may have been sent are worth
	// another attempt. nil means all of them. It is not asked when ctx has
	// ended (there is no retry then), nor about errors that match
	// turret.ErrNotReady (there always is: nothing was sent). It may be called
	// concurrently.
	Retryable func(ctx context.Context, err error) bool
	// RetryAfter finds in an error when the other side wants the request
	// again; said is false if it did not say. The delay takes the place of the
	// backoff, and is slept exactly or up to a tenth longer, never shorter; a
	// negative one means that the request is not to be sent again. nil means
	// that there is never such a delay. It may be called concurrently.
	RetryAfter func(ctx context.Context, err error) (delay time.Duration, said bool)
	// OnRetry, if not nil, is called for each retry before its delay: attempt is
	// the number of the retry that will follow, 1 for the first, and err the
	// error of the attempt before it. It runs on the goroutine of the call,
	// with no lock held, and may be called concurrently.
	OnRetry func(ctx context.Context, attempt int, err error, delay time.Duration)
}

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	if c.MaxAttempts < 0 {
		return invalid("MaxAttempts", c.MaxAttempts, fmt.Sprintf("at least 0 (0 means %d)", defaultAttempts))
	}
	return turret.FieldOf("retry", "Backoff", c.Backoff.Validate())
}

func (c Config) withDefaults() Config {
	c.MaxAttempts = cmp.Or(c.MaxAttempts, defaultAttempts)
	c.MaxDelay = cmp.Or(c.MaxDelay, defaultMaxDelay)
	if c.Budget == nil {
		c.Budget = NewBudget(BudgetConfig{})
	}
	return c
}

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "retry", Field: field, Value: value, Bound: bound}
}
