package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

var (
	errLost    = errors.New("lost")
	errRefused = &turret.Refusal{Layer: "limit", Reason: turret.ReasonLimitFull}
)

// asks returns a RetryAfter that always says d.
func asks(d time.Duration) func(context.Context, error) (time.Duration, bool) {
	return func(context.Context, error) (time.Duration, bool) { return d, true }
}

func never(context.Context, error) bool { return false }

// Each case is one decision, in virtual time, with a random word that gives the
// backoff its whole bound and an asked delay nothing on top.
func TestDecide(t *testing.T) {
	const no = -1
	tests := []struct {
		name     string
		config   Config
		deadline time.Duration // of the caller; 0: none
		attempt  int
		err      error
		want     time.Duration // no: stop
	}{
		{"first retry", Config{}, 0, 1, errLost, 50 * ms},
		{"second retry", Config{}, 0, 2, errLost, 100 * ms},
		{"attempts exhausted", Config{}, 0, 3, errLost, no},
		{"one attempt", Config{MaxAttempts: 1}, 0, 1, errLost, no},
		{"one attempt, of a refusal too", Config{MaxAttempts: 1}, 0, 1, errRefused, no},
		{"not retryable", Config{Retryable: never}, 0, 1, errLost, no},
		{"refusal, whatever Retryable says", Config{Retryable: never}, 0, 1, errRefused, 50 * ms},
		{"gave up in a line below", Config{Retryable: never}, 0, 1, turret.NotReady(context.DeadlineExceeded), 50 * ms},
		{"a timeout below", Config{}, 0, 1, context.DeadlineExceeded, 50 * ms},

		{"a refusal's RetryAfter is a lower bound", Config{}, 0, 1, &turret.Refusal{RetryAfter: time.Second}, time.Second},
		{"and no upper one", Config{}, 0, 1, &turret.Refusal{RetryAfter: ms}, 50 * ms},
		{"it is found below other errors", Config{}, 0, 1, fmt.Errorf("a: %w", &turret.Refusal{RetryAfter: time.Second}), time.Second},
		{"a refusal asks for more than MaxDelay", Config{MaxDelay: time.Second}, 0, 1, &turret.Refusal{RetryAfter: time.Second + 1}, no},
		{"a refusal that was handed on as sent", Config{Retryable: never}, 0, 1, turret.Sent(&turret.Refusal{RetryAfter: time.Second}), no},

		{"asked for more than the backoff", Config{RetryAfter: asks(time.Second)}, 0, 1, errLost, time.Second},
		{"asked for less", Config{RetryAfter: asks(ms)}, 0, 1, errLost, ms},
		{"asked for nothing", Config{RetryAfter: asks(0)}, 0, 1, errLost, 0},
		{"asked to stay away", Config{RetryAfter: asks(-1)}, 0, 1, errLost, no},
		{"asked to stay away, unsent", Config{RetryAfter: asks(-1)}, 0, 1, errRefused, no},
		{"asked, and refused", Config{RetryAfter: asks(time.Second)}, 0, 1, &turret.Refusal{RetryAfter: time.Minute}, no},
		{"asked, not retryable", Config{RetryAfter: asks(time.Second), Retryable: never}, 0, 1, errLost, no},

		{"as long as MaxDelay", Config{RetryAfter: asks(30 * time.Second)}, 0, 1, errLost, 30 * time.Second},
		{"longer than MaxDelay", Config{RetryAfter: asks(30*time.Second + 1)}, 0, 1, errLost, no},
		{"no MaxDelay", Config{RetryAfter: asks(math.MaxInt64), MaxDelay: -1}, 0, 1, errLost, math.MaxInt64},
		{"the backoff is longer than MaxDelay", Config{MaxDelay: 49 * ms}, 0, 1, errLost, no},

		{"before the deadline", Config{}, 50*ms + 1, 1, errLost, 50 * ms},
		{"until the deadline", Config{}, 50 * ms, 1, errLost, no},
		{"beyond the deadline", Config{}, 10 * ms, 1, errLost, no},
		{"asked, beyond the deadline", Config{RetryAfter: asks(time.Second)}, time.Second, 1, errLost, no},

		{"budget is used up", Config{Budget: NewBudget(BudgetConfig{Ratio: -1, MinPerSecond: -1})}, 0, 1, errLost, no},
		{"budget is used up, for a refusal too", Config{Budget: NewBudget(BudgetConfig{Ratio: -1, MinPerSecond: -1})}, 0, 1, errRefused, no},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				told := time.Duration(no)
				tt.config.OnRetry = func(_ context.Context, attempt int, err error, delay time.Duration) {
					if attempt != tt.attempt || err != tt.err { //nolint:errorlint // it passes unchanged
						t.Errorf("OnRetry hears of retry %d after %v", attempt, err)
					}
					told = delay
				}
				if tt.config.Budget == nil {
					tt.config.Budget = NewBudget(BudgetConfig{Ratio: -1, MinPerSecond: 10})
				}
				r := newRules("retry: Layer", tt.config)
				r.random = func() uint64 { return 0 }
				before := r.Budget.Stats()
				delay, again := r.decide(ctx, tt.attempt, tt.err)
				if !again {
					delay = no
				}
				if delay != tt.want || told != tt.want {
					t.Errorf("delay is %v, OnRetry heard %v, want %v", delay, told, tt.want)
				}
				if drawn := r.Budget.Stats().Retries - before.Retries; (drawn == 1) != again || drawn > 1 {
					t.Errorf("drew %d retries from the budget", drawn)
				}
			})
		})
	}
}

// Later functions are not called once the decision is made.
func TestDecideAsksInOrder(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		attempt int
		err     error
		want    []string
	}{
		{"context has ended", ended, 1, errLost, nil},
		{"attempts exhausted", t.Context(), 3, errLost, nil},
		{"refused", t.Context(), 1, errRefused, []string{"RetryAfter", "OnRetry"}},
		{"failed", t.Context(), 1, errLost, []string{"Retryable", "RetryAfter", "OnRetry"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			r := newRules("retry: Layer", Config{
				Retryable: func(context.Context, error) bool { asked = append(asked, "Retryable"); return true },
				RetryAfter: func(context.Context, error) (time.Duration, bool) {
					asked = append(asked, "RetryAfter")
					return 0, false
				},
				OnRetry: func(context.Context, int, error, time.Duration) { asked = append(asked, "OnRetry") },
			})
			r.decide(tt.ctx, tt.attempt, tt.err)
			if !slices.Equal(asked, tt.want) {
				t.Errorf("asked %v, want %v", asked, tt.want)
			}
		})
	}
}

// What was asked for is slept exactly or up to a tenth longer, not beyond
// MaxDelay.
func TestSpread(t *testing.T) {
	tests := []struct {
		maxDelay, asked time.Duration
		random          uint64
		want            time.Duration
	}{
		{0, time.Second, 0, time.Second},
		{0, time.Second, longest, 1100 * ms},
		{0, time.Second, 1 << 63, 1050 * ms},
		{0, 29 * time.Second, longest, 30 * time.Second},
		{0, time.Minute, longest, time.Minute}, // too long anyway
		{-1, time.Hour, longest, 66 * time.Minute},
		{-1, math.MaxInt64, longest, math.MaxInt64},
		{0, 3, longest, 3},
		{0, 0, longest, 0},
		{0, -time.Second, longest, 0},
	}
	for _, tt := range tests {
		r := newRules("retry: Layer", Config{MaxDelay: tt.maxDelay})
		r.random = func() uint64 { return tt.random }
		if got := r.spread(tt.asked); got != tt.want {
			t.Errorf("MaxDelay %v: spread(%v) with %#x is %v, want %v", tt.maxDelay, tt.asked, tt.random, got, tt.want)
		}
	}
}

// Calls that were refused with the same RetryAfter do not return at once.
func TestRefusalIsSpread(t *testing.T) {
	r := newRules("retry: Layer", Config{})
	r.random = func() uint64 { return longest }
	if got, again := r.decide(t.Context(), 1, &turret.Refusal{RetryAfter: time.Second}); got != 1100*ms || !again {
		t.Errorf("delay is %v, %v, want 1.1s", got, again)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []Config{{}, {MaxAttempts: 1, MaxDelay: -1, Budget: Unlimited}} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	tests := []struct {
		config Config
		want   string
	}{
		{Config{MaxAttempts: -1}, "retry: MaxAttempts is -1, must be at least 0 (0 means 3)"},
		{Config{Backoff: Backoff{Jitter: 2}}, "retry: Backoff.Jitter is 2, must be at most 1 "},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("error is %v, want %q", err, tt.want)
			continue
		}
		func() {
			defer func() {
				if got, _ := recover().(error); got == nil || got.Error() != "retry: Layer: "+strings.TrimPrefix(err.Error(), "retry: ") {
					t.Errorf("Layer panics with %v, want %v", got, err)
				}
			}()
			Layer[string, string](tt.config)
		}()
	}
}

// Layers that are not given a budget do not share one; services of one layer
// do.
func TestBudgetOfItsOwn(t *testing.T) {
	a, b := newRules("retry: Layer", Config{}), newRules("retry: Layer", Config{})
	if a.Budget == b.Budget || a.Budget == Unlimited {
		t.Error("two policies share a budget that nobody gave them")
	}
	if shared := newRules("retry: Layer", Config{Budget: b.Budget}); shared.Budget != b.Budget {
		t.Error("the budget that was given is not used")
	}
}
