package hedge

import (
	"context"
	"errors"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// ErrSuperseded is the cause (context.Cause) of the end of an attempt's context
// when another attempt has decided the call.
var ErrSuperseded = errors.New("hedge: superseded by another attempt")

// Layer returns a [turret.Layer] that hedges calls as c says. It panics with
// the error of c.Validate if there is one.
func Layer[Req, Res any](c Config) turret.Layer[Req, Res] {
	return LayerOf[Req, Res](newPolicy("hedge: Layer", c), nil)
}

// LayerOf returns a [turret.Layer] that hedges calls as p says. Layers of one
// Policy share its latencies and its budget. It panics if p is nil.
//
// again, if not nil, is asked when a hedge is due for the request to send, which
// may be req itself, or false if the call is not to be hedged at all. attempt is
// the number of the hedge, 1 for the first; the number of one that is not sent is
// given again. It runs on the goroutine of the hedge, with no lock held, and may
// be called concurrently.
func LayerOf[Req, Res any](p *Policy, again func(ctx context.Context, req Req, attempt int) (Req, bool)) turret.Layer[Req, Res] {
	if p == nil {
		misuse.Check("hedge: LayerOf", invalid("policy", nil, "non-nil"))
	}
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] {
		return &service[Req, Res]{inner, p, again}
	}
}

type service[Req, Res any] struct {
	turret.Service[Req, Res]

	policy *Policy
	again  func(ctx context.Context, req Req, attempt int) (Req, bool)
}

// Call makes a single attempt if it is known that there will be no hedge, and
// starts a race otherwise. With an error it returns the result of the same
// attempt.
func (s *service[Req, Res]) Call(ctx context.Context, req Req) (Res, error) {
	delay, hedged := s.policy.begin()
	start := s.policy.now()
	if hedged && !outlives(ctx, delay) {
		return newRace(ctx, s, req, start, delay).run()
	}
	res, err := s.Service.Call(ctx, req)
	standing, _ := s.policy.standing(ctx, err)
	s.policy.observe(start, standing == answered)
	return res, err
}

// outlives reports whether ctx's deadline is over before a delay that starts
// now.
func outlives(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= delay
}

// String returns the policy in words.
func (s *service[Req, Res]) String() string { return s.policy.String() }
