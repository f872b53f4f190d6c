package shared

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// An Engine keeps the tokens of rate limits for several processes. Its methods
// must be safe for concurrent use.
type Engine interface {
	// Take takes up to n tokens of the limit key, whose rate is rate, and
	// returns how many it took: n, fewer, or 0. Where it took fewer than n,
	// retryAfter says when there will be more; 0 means that this is not known.
	//
	// An error says that the engine could not be asked; tokens that it may have
	// taken then are lost. Take must return soon after ctx ends. n is at least 1
	// and at most [Config.MaxLease].
	Take(ctx context.Context, key string, n int, rate limit.Rate) (granted int, retryAfter time.Duration, err error)
}

// Away says what a [Limit] does with calls while its engine cannot be asked.
type Away uint8

// What happens while the engine is away.
const (
	// AwayLocal, the default: each process keeps a limit of its own, at the rate
	// of [Config.Local].
	AwayLocal Away = iota
	// AwayOpen: all calls are let in.
	AwayOpen
	// AwayClosed: all calls are refused, with reason LIMIT_AWAY.
	AwayClosed
)

// String returns "local", "open" or "closed".
func (a Away) String() string {
	switch a {
	case AwayLocal:
		return "local"
	case AwayOpen:
		return "open"
	case AwayClosed:
		return "closed"
	default:
		return fmt.Sprintf("Away(%d)", uint8(a))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails.
func (a Away) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// A Config says what a [Limit] limits and how it leases. Key and Rate are
// required; the zero value of every other field is a good default.
type Config struct {
	// Key is the name of the limit in the engine. All processes that share the
	// limit give the same Key and Rate. Not empty.
	Key string
	// Rate is the limit of all processes together. Burst should be at least what
	// is granted in one Horizon: a smaller one shortens the Horizon.
	Rate limit.Rate
	// Horizon is for how much time ahead tokens are leased. Zero: 100 ms. At least
	// 10 ms and at most a minute. Where Burst tokens come in less time than
	// Horizon, that time takes its place, but never less than 10 ms.
	Horizon time.Duration
	// MaxLease is the largest number of tokens that are asked for and held ahead of
	// demand. Zero: 1,000. At least 1. It bounds what a process that dies takes with
	// it. With 1, tokens are asked for only while calls wait.
	MaxLease int
	// Expire is how long leased tokens can be used. Zero: 1 s. At least Horizon.
	Expire time.Duration
	// Wait is how long a call may wait for an answer of the engine. Zero: 10 ms.
	// Negative: not at all. It should be longer than a round trip usually takes.
	Wait time.Duration
	// Timeout bounds each question to the engine. Zero: 50 ms. At least 1 ms. An
	// engine that does not answer within it is away.
	Timeout time.Duration
	// Probe is the time between two questions to an engine that is away; each is
	// made up to a half longer or shorter at random. Zero: 500 ms. At least 1 ms.
	Probe time.Duration
	// Away says what happens to calls while the engine is away. Zero: AwayLocal.
	Away Away
	// Local is the rate of AwayLocal. The zero Rate means the mean rate that the
	// engine granted to this process in the 10 s before it was away, or, if
	// Clients is set, Rate divided by Clients. A process that the engine has
	// granted nothing uses Rate.
	Local limit.Rate
	// Clients is how many processes share the limit, if that is known; it is used
	// for the default of Local only. Zero: not known. Not negative.
	Clients int
}

const (
	leastHorizon = 10 * time.Millisecond
	mostHorizon  = time.Minute
)

// Validate returns a [*turret.FieldError] for the first field that is out of
// its bounds, and nil if there is none.
func (c Config) Validate() error {
	switch wrong := func(field string, value any, bound string) error {
		return &turret.FieldError{Package: "shared", Field: field, Value: value, Bound: bound}
	}; {
	case c.Key == "":
		return wrong("Key", c.Key, "not empty")
	case c.Rate.Validate() != nil:
		return turret.FieldOf("shared", "Rate", c.Rate.Validate())
	case c.Horizon != 0 && (c.Horizon < leastHorizon || c.Horizon > mostHorizon):
		return wrong("Horizon", c.Horizon, "0 (100ms), or between 10ms and 1m")
	case c.MaxLease < 0:
		return wrong("MaxLease", c.MaxLease, "0 (1000), or at least 1")
	case c.Expire != 0 && c.Expire < cmp.Or(c.Horizon, defaultHorizon):
		return wrong("Expire", c.Expire, fmt.Sprintf("0 (1s), or at least Horizon (%v)", cmp.Or(c.Horizon, defaultHorizon)))
	case c.Timeout != 0 && c.Timeout < time.Millisecond:
		return wrong("Timeout", c.Timeout, "0 (50ms), or at least 1ms")
	case c.Probe != 0 && c.Probe < time.Millisecond:
		return wrong("Probe", c.Probe, "0 (500ms), or at least 1ms")
	case c.Away > AwayClosed:
		return wrong("Away", c.Away, "AwayLocal, AwayOpen or AwayClosed")
	case c.Local != limit.Rate{} && c.Local.Validate() != nil:
		return turret.FieldOf("shared", "Local", c.Local.Validate())
	case c.Clients < 0:
		return wrong("Clients", c.Clients, "0 (not known) or more")
	}
	return nil
}

const (
	defaultHorizon = 100 * time.Millisecond
	farAhead       = time.Duration(math.MaxInt64 / 4)
)

// withDefaults returns c with every zero field set to its default.
func (c Config) withDefaults() Config {
	c.Horizon = cmp.Or(c.Horizon, defaultHorizon)
	c.MaxLease = cmp.Or(c.MaxLease, 1000)
	c.Expire = cmp.Or(c.Expire, max(time.Second, c.Horizon))
	c.Wait = max(cmp.Or(c.Wait, 10*time.Millisecond), 0)
	c.Timeout = cmp.Or(c.Timeout, 50*time.Millisecond)
	c.Probe = cmp.Or(c.Probe, 500*time.Millisecond)
	// An instant that far ahead must not overflow, also where half is added to it.
	c.Expire, c.Probe = min(c.Expire, farAhead), min(c.Probe, farAhead)
	c.Rate.Burst = cmp.Or(c.Rate.Burst, c.Rate.N)
	if fill := float64(c.Rate.Burst) / perNanosecond(c.Rate); fill < float64(c.Horizon) {
		c.Horizon = max(time.Duration(fill), leastHorizon)
	}
	return c
}

// perNanosecond returns how many tokens of r come in a nanosecond.
func perNanosecond(r limit.Rate) float64 { return float64(r.N) / float64(r.Per) }
