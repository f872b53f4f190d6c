package hedge_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/retry"
)

const ms = time.Millisecond

var (
	errLost     = errors.New("lost")
	errMissing  = errors.New("missing") // an answer, where a test says so
	errPushback = errors.New("come back later")
	errRefused  = &turret.Refusal{Layer: "limit", Reason: turret.ReasonLimitFull, Err: errors.New("limit is full")}
)

// A part is what one attempt does: it ends after takes with err, or with its
// context, whichever is first.
type part struct {
	takes time.Duration
	err   error
	deaf  bool   // does not heed its context
	then  func() // called at the end: a panic, a Goexit
}

// A script is a service that plays a part for each attempt, in their order, and
// the last one for those that follow. It notes what happened.
type script struct {
	parts []part
	begun time.Time

	mu      sync.Mutex
	running int
	starts  []time.Duration // of the attempts
	ends    []time.Duration
	causes  []error // that their contexts had in the end
	reqs    []string
}

func plays(parts ...part) *script { return &script{parts: parts, begun: time.Now()} }

func (s *script) Ready(context.Context) error { return nil }

func (s *script) Call(ctx context.Context, req string) (string, error) {
	n := s.start(req)
	p := s.parts[min(n, len(s.parts)-1)]
	defer func() { s.end(n, context.Cause(ctx)) }()
	if !p.wait(ctx) {
		return "", ctx.Err()
	}
	if p.then != nil {
		p.then()
	}
	return string(rune('A' + n)), p.err
}

// wait returns false if ctx ended before.
func (p part) wait(ctx context.Context) bool {
	timer := time.NewTimer(p.takes)
	defer timer.Stop()
	if p.deaf {
		<-timer.C
		return true
	}
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *script) start(req string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running++
	s.starts = append(s.starts, time.Since(s.begun))
	s.ends = append(s.ends, 0)
	s.causes = append(s.causes, nil)
	s.reqs = append(s.reqs, req)
	return len(s.starts) - 1
}

func (s *script) end(n int, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.ends[n] = time.Since(s.begun)
	s.causes[n] = cause
}

// check fails t if something of a call still runs.
func (s *script) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != 0 {
		t.Errorf("%d attempts run when the call has returned", s.running)
	}
}

// steady is a config with a hedge each 50 ms, up to four, and nothing that holds
// them back.
func steady() hedge.Config {
	return hedge.Config{
		Delay:      50 * ms,
		MaxHedges:  4,
		MaxRise:    -1,
		Budget:     retry.Unlimited,
		Success:    func(_ context.Context, err error) bool { return errors.Is(err, errMissing) },
		RetryAfter: func(_ context.Context, err error) (time.Duration, bool) { return 0, errors.Is(err, errPushback) },
	}
}

func layer(c hedge.Config, inner turret.Service[string, string]) turret.Service[string, string] {
	return hedge.Layer[string, string](c)(inner)
}

// An outcome is how a call ended, if need be by a panic or Goexit.
type outcome struct {
	res    string
	err    error
	panic  any
	exited bool
}

// call makes a call on a goroutine of its own, and waits for its end.
func call(ctx context.Context, s turret.Service[string, string]) (o outcome) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			o.panic = recover()
			o.exited = !returned && o.panic == nil
		}()
		o.res, o.err = s.Call(ctx, "question")
		returned = true
	}()
	<-done
	return o
}

func panics(v any) func() { return func() { panic(v) } }

func exits() { runtime.Goexit() }
