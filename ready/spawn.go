package ready

import (
	"context"
	"sync"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/background"
	"github.com/turret-go/turret/internal/misuse"
)

// A Spawned is a service whose readiness is driven in the background: while the
// inner service is not ready, one goroutine waits in its Ready, whether or not
// callers do. It starts with that when it is made, and again whenever a
// call, or a question, leaves the inner service not ready.
//
// It is Tower's SpawnReady. Waiting in Ready is what makes some services do
// something: one that connects when it is needed (package reconnect) is so
// connected before its first call, and again after it has lost its connection.
// All waits in Ready share one wait inside, so the inner service sees no values of a
// caller's context.
//
// Use [Spawn]; its methods may be called concurrently.
type Spawned[Req, Res any] struct {
	inner  turret.Service[Req, Res]
	ctx    context.Context // of the questions; ends with the service
	cancel context.CancelFunc
	asking sync.WaitGroup

	mu       sync.Mutex
	question *question // that is being asked; nil if none is
	end      error     // why there will be no more
}

// A question is one Ready of the inner service.
type question struct {
	answered chan struct{} // closed when err is set
	err      error
}

// Spawn returns s with its readiness driven in the background, until Close or
// until it fails for good. It panics if s is nil.
func Spawn[Req, Res any](s turret.Service[Req, Res]) *Spawned[Req, Res] {
	if s == nil {
		misuse.Check("ready: Spawn", &turret.FieldError{Package: "ready", Field: "service", Bound: "non-nil"})
	}
	sp := &Spawned[Req, Res]{inner: s}
	sp.ctx, sp.cancel = context.WithCancel(context.Background())
	_, _ = sp.ask() // nothing has ended yet
	return sp
}

// Ready waits until the inner service is ready. Its final error stays, and after
// Close it is [ErrClosed].
func (s *Spawned[Req, Res]) Ready(ctx context.Context) error {
	if err := s.ended(); err != nil {
		return err
	}
	err := now(s.inner)
	if err == nil {
		return nil
	}
	if turret.IsFinal(err) {
		return s.fail(err)
	}
	q, err := s.ask()
	if err != nil {
		return err
	}
	select {
	case <-q.answered:
		return q.err
	case <-ctx.Done():
		return turret.NotReady(ctx.Err())
	}
}

// Call calls the inner service, which waits for room as it always does. After
// Close it refuses with an error that matches [ErrClosed] and turret.ErrNotReady.
func (s *Spawned[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	if s.ctx.Err() != nil {
		return res, turret.NotReady(ErrClosed)
	}
	defer s.drive()
	return s.inner.Call(ctx, req)
}

// drive asks in the background if the inner service is not ready.
func (s *Spawned[Req, Res]) drive() {
	if now(s.inner) != nil {
		_, _ = s.ask()
	}
}

// Close ends the question in the background and waits until it has ended. Calls
// that are in flight go on. Closing again does nothing.
func (s *Spawned[Req, Res]) Close() {
	s.mu.Lock()
	if s.end == nil {
		s.end = ErrClosed
	}
	s.mu.Unlock()
	s.cancel()
	s.asking.Wait()
}

// String returns the service in words, for printed stacks.
func (s *Spawned[Req, Res]) String() string { return "spawn ready" }

// ask returns the question that is being asked, and asks one if none is.
func (s *Spawned[Req, Res]) ask() (*question, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return nil, s.end
	}
	if s.question != nil {
		return s.question, nil
	}
	q := &question{answered: make(chan struct{})}
	s.question = q
	background.Go(&s.asking, "ready.Spawn", func() error { return ask(s.ctx, s.inner) }, func(err error) {
		s.answer(q, err)
	})
	return q, nil
}

func (s *Spawned[Req, Res]) answer(q *question, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.question = nil
	if err != nil && s.end == nil {
		s.end = err
	}
	if err != nil {
		err = s.end
	}
	q.err = err
	close(q.answered)
}

func (s *Spawned[Req, Res]) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// fail keeps err as the end, unless there was one before, and returns what it is.
func (s *Spawned[Req, Res]) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = err
	}
	return s.end
}
