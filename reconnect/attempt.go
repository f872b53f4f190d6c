package reconnect

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/background"
)

// errNoService is the error of a maker that returns neither a service nor an
// error.
var errNoService = errors.New("the maker returned no service")

// A maker is a turret.Maker with its target.
type maker[Req, Res any] struct {
	ready func(ctx context.Context) error
	make  func(ctx context.Context) (turret.Service[Req, Res], error)
}

func makerOf[Target, Req, Res any](m turret.Maker[Target, Req, Res], target Target) maker[Req, Res] {
	return maker[Req, Res]{m.Ready, func(ctx context.Context) (turret.Service[Req, Res], error) { return m.Call(ctx, target) }}
}

// An attempt is one service that is being made. What it came to may be read when
// over is closed.
type attempt struct {
	over  chan struct{}
	err   error
	pause time.Duration // until the next one, if it failed
}

// A way is how a caller gets to a service. It goes to one, or by an attempt, or
// there is an attempt in a while.
type way[Req, Res any] struct {
	to *connection[Req, Res]
	by *attempt
	in time.Duration
}

// way returns the way to a service at this moment. It starts an attempt if one is
// due. Its error is final.
func (s *Service[Req, Res]) way() (way[Req, Res], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return way[Req, Res]{}, s.end
	}
	if s.current == nil && s.attempt == nil {
		if in := time.Until(s.next); in > 0 {
			return way[Req, Res]{in: in}, nil
		}
		s.start()
	}
	return way[Req, Res]{to: s.current, by: s.attempt}, nil
}

// waitFor waits for what the way says, and reports false if ctx ends before.
func (s *Service[Req, Res]) waitFor(ctx context.Context, w way[Req, Res]) bool {
	if w.by != nil {
		select {
		case <-w.by.over:
			return true
		case <-ctx.Done():
			return false
		}
	}
	timer := time.NewTimer(w.in)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done(): // closed: OnFailure gets the end
	case <-ctx.Done():
		return false
	}
	return true
}

// start starts an attempt. It requires s.mu.
func (s *Service[Req, Res]) start() {
	a := &attempt{over: make(chan struct{})}
	s.attempt = a
	var made turret.Service[Req, Res]
	forGood := false
	background.Go(&s.attempts, "reconnect", func() (err error) {
		if err = s.maker.ready(s.ctx); err != nil {
			forGood = turret.IsFinal(err)
			return err
		}
		if made, err = s.maker.make(s.ctx); err == nil && made == nil {
			err = errNoService
		}
		return err
	}, func(err error) { s.finish(a, made, err, forGood) })
}

// finish takes note of what a came to.
func (s *Service[Req, Res]) finish(a *attempt, made turret.Service[Req, Res], err error, forGood bool) {
	s.mu.Lock()
	s.attempt = nil
	tell := func() {}
	switch {
	case s.end != nil: // closed meanwhile
		err = s.end
		tell = func() { closeService(made) }
	case err == nil:
		s.current = &connection[Req, Res]{service: made}
	case forGood:
		s.end = err
	default:
		a.pause, tell = s.failed(err)
	}
	a.err = err
	s.mu.Unlock()
	defer close(a.over) // also if OnFailure panics or exits
	tell()
}

// lose gives up c, whose readiness has failed with err, unless another goroutine has.
// The next attempt is due at once if c was good for something.
func (s *Service[Req, Res]) lose(c *connection[Req, Res], err error) {
	s.mu.Lock()
	if s.current != c {
		s.mu.Unlock()
		return
	}
	s.current = nil
	idle := c.abandon()
	var tell func()
	if c.proved.Load() {
		s.failures, s.last, s.next = 0, err, time.Time{}
		tell = s.onFailure(err, 0, 0)
	} else {
		_, tell = s.failed(err)
	}
	s.mu.Unlock()
	if idle {
		c.close()
	}
	tell()
}

// failed takes note of a failure, and returns the pause that follows and what to
// call when s.mu, which it requires, is unlocked.
func (s *Service[Req, Res]) failed(err error) (pause time.Duration, tell func()) {
	s.failures++
	s.last = err
	pause = s.config.Backoff.Delay(s.failures, rand.Uint64())
	s.next = time.Now().Add(pause)
	return pause, s.onFailure(err, s.failures, pause)
}

// onFailure returns the call of Config.OnFailure.
func (s *Service[Req, Res]) onFailure(err error, failures int, pause time.Duration) func() {
	if s.config.OnFailure == nil {
		return func() {}
	}
	return func() { s.config.OnFailure(err, failures, pause) }
}
