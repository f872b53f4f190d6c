package policy

import (
	"cmp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/limit"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
	"github.com/turret-go/turret/retry"
)

// The maps below say under which names the fields of a mechanism's Config are in
// the file.
var (
	retryFields = map[string]string{
		"MaxAttempts": "max_attempts", "Backoff.Base": "backoff.base", "Backoff.Max": "backoff.max",
		"Backoff.Jitter": "backoff.jitter", "Backoff.Multiplier": "backoff.multiplier",
	}
	hedgeFields   = map[string]string{"Delay": "delay", "Quantile": "quantile", "MaxHedges": "max_hedges"}
	rateFields    = map[string]string{"N": "requests", "Per": "per", "Burst": "burst"}
	breakerFields = map[string]string{
		"Consecutive": "consecutive", "Ratio": "ratio", "MinCalls": "min_requests", "Window": "window",
		"Backoff.Base": "open_for", "Backoff.Max": "max_open_for",
	}
)

// seconds returns d, and otherwise where it is not set.
func seconds(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}

// orNone returns *v with 0 as -1, which is how a Config says none, and 0, which
// is how it says the default, where v is nil.
func orNone[N int32 | float64](v *N) N {
	switch {
	case v == nil:
		return 0
	case *v == 0:
		return -1
	default:
		return *v
	}
}

// retryConfig returns the Config without what depends on the method: Budget and
// Retryable.
func retryConfig(m *policyv1.Retry) retry.Config {
	b := m.GetBackoff()
	c := retry.Config{
		MaxAttempts: int(m.GetMaxAttempts()),
		Backoff:     retry.Backoff{Base: seconds(b.GetBase(), 0), Max: seconds(b.GetMax(), 0)},
	}
	if b != nil {
		c.Backoff.Jitter = orNone(b.Jitter)
		c.Backoff.Multiplier = b.GetMultiplier()
	}
	if c.Backoff.Multiplier == 1 { // bounds that do not grow: a Backoff says it by its Max
		c.Backoff.Multiplier = 0
		if c.Backoff.Base == 0 {
			c.Backoff.Base = min(defaultBase, cmp.Or(c.Backoff.Max, defaultBase))
		}
		c.Backoff.Max = c.Backoff.Base
	}
	return c
}

// defaultBase is the default of retry.Backoff.Base.
const defaultBase = 50 * time.Millisecond

// retryCodes returns the codes that are worth another attempt.
func retryCodes(m *policyv1.Retry) []codes.Code {
	if len(m.GetCodes()) == 0 {
		return []codes.Code{codes.Unavailable}
	}
	all := make([]codes.Code, len(m.GetCodes()))
	for i, code := range m.GetCodes() {
		all[i] = codes.Code(code) //nolint:gosec // the numbers are gRPC's
	}
	return all
}

// budgetConfig returns the Config of a budget of retries or, with a ratio and a
// minimum of their own where m does not say, of hedges.
func budgetConfig(m *policyv1.Budget, ofHedge bool) retry.BudgetConfig {
	c := retry.BudgetConfig{Window: seconds(m.GetWindow(), 0)}
	if m != nil {
		c.Ratio, c.MinPerSecond = orNone(m.Ratio), int(orNone(m.MinPerSecond))
	}
	if ofHedge && c.Ratio == 0 {
		c.Ratio = 0.05
	}
	if ofHedge && c.MinPerSecond == 0 {
		c.MinPerSecond = -1
	}
	return c
}

func hedgeConfig(m *policyv1.Hedge) hedge.Config {
	return hedge.Config{
		Delay:     seconds(m.GetDelay(), 0),
		Quantile:  m.GetQuantile(),
		MaxHedges: int(m.GetMaxHedges()),
	}
}

func queueOf(m *policyv1.Queue) limit.Queue {
	return limit.Queue{Max: int(m.GetMax()), Timeout: seconds(m.GetTimeout(), 0)}
}

func rateOf(m *policyv1.RateLimit) limit.Rate {
	return limit.Rate{N: int(m.GetRequests()), Per: seconds(m.GetPer(), time.Second), Burst: int(m.GetBurst())}
}

func breakerConfig(m *policyv1.Breaker) breaker.Config {
	return breaker.Config{
		Consecutive: int(orNone(m.Consecutive)),
		Ratio:       orNone(m.Ratio),
		MinCalls:    int(m.GetMinRequests()),
		Window:      seconds(m.GetWindow(), 0),
		Backoff:     retry.Backoff{Base: seconds(m.GetOpenFor(), 0), Max: seconds(m.GetMaxOpenFor(), 0)},
	}
}
