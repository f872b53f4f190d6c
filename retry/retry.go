package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// Layer returns a [turret.Layer] that sends a request again as c says. It
// panics with the error of c.Validate if there is one.
func Layer[Req, Res any](c Config) turret.Layer[Req, Res] {
	return LayerOf[Req, Res](policy[Req, Res]{newRules("retry: Layer", c)})
}

// LayerOf returns a [turret.Layer] that sends a request again as p says. It
// panics if p is nil.
func LayerOf[Req, Res any](p Policy[Req, Res]) turret.Layer[Req, Res] {
	if p == nil {
		misuse.Check("retry: LayerOf", invalid("policy", nil, "non-nil"))
	}
	o, ok := p.(interface{ OnlyErrors() bool })
	onlyErrors := ok && o.OnlyErrors()
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] {
		return &service[Req, Res]{inner, p, onlyErrors}
	}
}

type service[Req, Res any] struct {
	turret.Service[Req, Res]

	policy     Policy[Req, Res]
	onlyErrors bool // a success needs no decision
}

// Retries marks a service that may call the inner one more than once: a stack of
// package interceptors prepares its RPCs for that.
func (s *service[Req, Res]) Retries() {}

// Call makes attempts until the policy stops, the deadline leaves no room for
// the delay, or ctx ends during it. A panic or Goexit below is no result: it
// goes on.
func (s *service[Req, Res]) Call(ctx context.Context, req Req) (Res, error) {
	s.policy.Begin(ctx, req)
	sent := false // any attempt, so that the last one's refusal must not say otherwise
	for n := 1; ; n++ {
		res, err := s.Service.Call(ctx, req)
		if err == nil && s.onlyErrors {
			return res, nil
		}
		sent = sent || !errors.Is(err, turret.ErrNotReady)
		d := s.policy.Next(ctx, Attempt[Req, Res]{n, req, res, err})
		if sent {
			d.Err = turret.Sent(d.Err)
		}
		switch {
		case !d.Again:
			return d.Res, d.Err
		case outlives(ctx, 0): // it is over, though ctx may not have noticed yet
			return d.Res, interrupted(context.DeadlineExceeded, d.Err)
		case outlives(ctx, d.Delay):
			return d.Res, d.Err
		}
		if err := wait(ctx, d.Delay); err != nil {
			return d.Res, interrupted(err, d.Err)
		}
		req = d.Req
	}
}

// String returns the policy in words, if it has a String method.
func (s *service[Req, Res]) String() string {
	if p, ok := s.policy.(fmt.Stringer); ok {
		return p.String()
	}
	return "retry"
}

// outlives reports whether ctx's deadline is over before a delay that starts
// now.
func outlives(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= delay
}

// wait returns after delay, or with ctx's error if that ends before.
func wait(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() // both may have happened
}

// An InterruptedError is the error of a call whose context ended while it
// waited to try again. Both errors are within reach of errors.Is and errors.As.
type InterruptedError struct {
	// Err is the context's error.
	Err error
	// Last is the error of the last attempt.
	Last error
}

func interrupted(err, last error) error {
	if last == nil {
		return nil
	}
	return &InterruptedError{Err: err, Last: last}
}

// Error returns both errors.
func (e *InterruptedError) Error() string {
	return e.Err.Error() + "; last error: " + e.Last.Error()
}

// Unwrap returns both errors, the context's first.
func (e *InterruptedError) Unwrap() []error { return []error{e.Err, e.Last} }
