package interceptors

import (
	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/limit"
)

// Admit returns a [Layer] that lets RPCs pass through g, and reports to g how each
// went: as [Classify] says, unless [ClassifiedBy] names another function. A stream
// is inside until it has ended. One Gate may serve several layers and stacks, on
// both sides. It is turret.Gated(g, Classify), and panics as that does: if g is
// nil, or a nil pointer.
func Admit(g turret.Gate, o ...GateOption) Layer {
	return turret.Gated(g, gateOptionsOf("Admit", o).classify)
}

// ConcurrencyLimit returns a [Layer] that has at most maximum RPCs inside at a
// time. What comes beyond waits in the line that q describes; the zero Queue
// refuses at once. It is Admit(limit.NewConcurrency(maximum, q)), and panics as
// that does: for a negative maximum and an invalid q.
//
// It refuses with RESOURCE_EXHAUSTED and reason LIMIT_FULL, QUEUE_FULL or
// QUEUE_TIMEOUT.
func ConcurrencyLimit(maximum int, q limit.Queue) Layer {
	return Admit(limit.NewConcurrency(maximum, q))
}

// RateLimit returns a [Layer] that lets RPCs pass at the rate r. It is
// Admit(limit.NewTokenBucket(r, q)), and panics as that does: for an invalid r
// or q. A stream takes one token, when it opens.
//
// It refuses with RESOURCE_EXHAUSTED and reason RATE_LIMITED, and with the
// delay after which there will be a token again.
func RateLimit(r limit.Rate, q limit.Queue) Layer {
	return Admit(limit.NewTokenBucket(r, q))
}

// Breaker returns a [Layer] that stops sending RPCs to what keeps failing, and
// tries one now and then. It is Admit(breaker.New(c), o...), and panics with the
// error of c.Validate if there is one. What counts as a failure is what [Classify]
// calls one, or the function of [ClassifiedBy]. A stream counts when it has ended.
//
// It refuses with UNAVAILABLE and reason CIRCUIT_OPEN, and with the delay after
// which it will try again. Towards several endpoints the balancing policy
// turret.P2C has a breaker for each; this one is for all of what is inside it.
func Breaker(c breaker.Config, o ...GateOption) Layer {
	misuse.Check("interceptors: Breaker", c.Validate())
	return Admit(breaker.New(c), o...)
}
