package limit

import (
	"errors"
	"fmt"

	"github.com/turret-go/turret"
)

// The errors that stand for the reasons of a refusal. They are in reach of
// errors.Is; the refusal itself is a [*turret.Refusal].
var (
	// ErrFull: there is no room. The reason is LIMIT_FULL, or QUEUE_FULL if there
	// is a line and it is full as well.
	ErrFull = errors.New("no room")
	// ErrQueueFull: as many wait as may wait. It matches ErrFull, so that one
	// test finds both. The reason is QUEUE_FULL.
	ErrQueueFull = fmt.Errorf("%w, and the line is full", ErrFull)
	// ErrQueueTimeout: the call waited in line for as long as it may. The reason
	// is QUEUE_TIMEOUT.
	ErrQueueTimeout = errors.New("waited too long in line")
	// ErrRate: no token is left, and no line to wait in. The reason is
	// RATE_LIMITED.
	ErrRate = errors.New("too many calls")
)

// The refusals, one for each reason. A concurrency limit returns these very
// values: it does not know when there will be room. A token bucket does, and
// returns copies with a RetryAfter.
var (
	full = turret.Refusal{
		Kind: turret.KindOverloaded, Layer: "limit", Reason: turret.ReasonLimitFull, Err: ErrFull,
	}
	queueFull = turret.Refusal{
		Kind: turret.KindOverloaded, Layer: "limit", Reason: turret.ReasonQueueFull, Err: ErrQueueFull,
	}
	queueTimeout = turret.Refusal{
		Kind: turret.KindOverloaded, Layer: "limit", Reason: turret.ReasonQueueTimeout, Err: ErrQueueTimeout,
	}
	rateLimited = turret.Refusal{
		Kind: turret.KindRateLimited, Layer: "limit", Reason: turret.ReasonRateLimited, Err: ErrRate,
	}
)
