package turrettest

import (
	"context"
	"errors"
	"sync"

	"github.com/turret-go/turret"
)

// An innerService is the service inside the layer under test. It does what the case
// says, keeps account of the calls, and notices those that must not be.
type innerService[Req, Res any] struct {
	subject *layerSubject[Req, Res]
	gone    chan struct{} // closed when the case is over: no call waits any more

	mu     sync.Mutex
	answer func(ctx context.Context, n int) (Res, error)
	asked  func(ctx context.Context) error // Ready; nil: it is ready
	inside map[int]int                     // by the number of the caller's call
	sent   map[int]int                     // those that did not end with ErrNotReady
	left   map[int]bool                    // the caller's call has returned
}

func newInnerService[Req, Res any](s *layerSubject[Req, Res]) *innerService[Req, Res] {
	return &innerService[Req, Res]{
		subject: s, gone: make(chan struct{}),
		answer: func(_ context.Context, n int) (Res, error) { return s.traits.Response(n), nil },
		inside: map[int]int{}, sent: map[int]int{}, left: map[int]bool{},
	}
}

// answers sets what calls do from now on.
func (i *innerService[Req, Res]) answers(f func(ctx context.Context, n int) (Res, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = f
}

// fails lets calls fail with err from now on.
func (i *innerService[Req, Res]) fails(err error) {
	i.answers(func(context.Context, int) (res Res, _ error) { return res, err })
}

// says sets what Ready does from now on; nil: it is ready.
func (i *innerService[Req, Res]) says(f func(ctx context.Context) error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = f
}

// shut takes all room away until open is called: Ready and Call wait.
func (i *innerService[Req, Res]) shut() (open func()) {
	room := make(chan struct{})
	wait := func(ctx context.Context) error {
		select {
		case <-room: // also with a context that is done
			return nil
		default:
		}
		select {
		case <-room:
			return nil
		case <-ctx.Done():
			return turret.NotReady(ctx.Err())
		case <-i.gone:
			return turret.ErrNotReady
		}
	}
	i.says(wait)
	i.answers(func(ctx context.Context, n int) (res Res, err error) {
		if err := wait(ctx); err != nil {
			return res, err
		}
		return i.subject.traits.Response(n), nil
	})
	return sync.OnceFunc(func() { close(room) })
}

func (i *innerService[Req, Res]) Ready(ctx context.Context) error {
	i.mu.Lock()
	f := i.asked
	i.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (i *innerService[Req, Res]) Call(ctx context.Context, req Req) (_ Res, err error) {
	n, ok := ctx.Value(numberKey{}).(int)
	if !ok {
		i.subject.Error("the inner service was called with a context that has not the values of the caller's")
	}
	if !i.subject.traits.Sent(n, req) {
		i.subject.Errorf("the inner service got %v, want the caller's request", req)
	}
	i.mu.Lock()
	f := i.answer
	i.inside[n]++
	if i.left[n] {
		i.subject.Error("the inner service was called after the caller's call had returned")
	}
	i.mu.Unlock()
	defer func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.inside[n]--
		if err != nil && errors.Is(err, turret.ErrNotReady) {
			return
		}
		if i.sent[n]++; i.sent[n] > 1 && !i.subject.traits.Repeats { // also after a panic or Goexit
			i.subject.Errorf("one request was sent %d times", i.sent[n])
		}
	}()
	return f(ctx, n)
}

// callerLeft says that the caller's call is over, and with it all of its own.
func (i *innerService[Req, Res]) callerLeft(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.left[n] = true
	if i.inside[n] > 0 {
		i.subject.Error("the call returned while its inner call goes on")
	}
}

// sentOf returns how many inner calls of call n are over and were sent.
func (i *innerService[Req, Res]) sentOf(n int) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sent[n]
}

// letGo ends what waits for the case.
func (i *innerService[Req, Res]) letGo() { close(i.gone) }
