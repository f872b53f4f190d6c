package turrettest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

// LayerTraits says what [TestLayer] cannot know of a layer. The zero value is
// that of a layer which does not look at requests and results, sends each request
// once, and is as ready as its inner service.
type LayerTraits[Req, Res any] struct {
	// Request returns the request of the n-th call, one that the layer lets
	// through. nil means the zero Req.
	Request func(n int) Req
	// Response returns what the inner service answers to the n-th call. nil
	// means the zero Res.
	Response func(n int) Res
	// Sent reports whether req is what is to reach the inner service of the n-th
	// call. nil means whatever is deeply equal to Request(n).
	Sent func(n int, req Req) bool
	// Got reports whether res is what the caller of the n-th call is to get. nil
	// means whatever is deeply equal to Response(n).
	Got func(n int, res Res) bool
	// Repeats says that the layer may send a request again that fails, or takes
	// long: a retry, a hedge.
	Repeats bool
	// OwnReady says that the layer answers Ready itself, whether its inner
	// service is ready or not: a buffer, a load shedder.
	OwnReady bool
	// Recovers says that the layer turns panics into errors.
	Recovers bool
}

// TestLayer checks that what a layer makes is a [turret.Service] by all rules:
// readiness, contexts, errors and refusals pass through it, on every way out what
// it holds is given back, and when a call has returned nothing of it goes on. It
// runs a table of cases, each as a subtest in a synctest bubble of its own; a
// case that fails prints the rule that was broken.
//
//	func TestLatency(t *testing.T) {
//		turrettest.TestLayer(t, func(*testing.T) turret.Layer[string, string] {
//			return Latency[string, string](record)
//		}, turrettest.LayerTraits[string, string]{})
//	}
//
// f makes a new layer for each case. It is called inside the bubble, so that the
// layer's clock is the bubble's; what has to be closed, f closes in t.Cleanup.
//
// A layer may refuse calls, as a limit does, but not the first ones: give it room
// for three at a time. After failures and panics it may refuse for a while, as a
// breaker does; the cases let a year pass. It may end calls that last longer than
// a minute. Give it little room, short delays and a short patience otherwise: the
// more it does, the more of it is seen.
//
// A layer that leaves a goroutine behind makes the test panic with synctest's
// "deadlock".
func TestLayer[Req, Res any](t *testing.T, f func(t *testing.T) turret.Layer[Req, Res], traits LayerTraits[Req, Res]) {
	t.Helper()
	for _, c := range layerCases[Req, Res]() {
		t.Run(c.name, func(t *testing.T) {
			passed := false
			defer func() { // also when synctest panics
				if !passed || t.Failed() {
					t.Logf("the rule: %s", c.rule)
				}
			}()
			synctest.Test(t, func(t *testing.T) {
				s := newLayerSubject(t, traits)
				t.Cleanup(s.close)
				if s.layer = f(t); s.layer == nil {
					t.Fatal("f returned no layer")
				}
				s.service = s.layer(s.inner)
				c.run(s)
			})
			passed = true
		})
	}
}

// A layerCase is one rule of the contract and a run that breaks if the rule is.
type layerCase[Req, Res any] struct {
	name string
	rule string // printed when the case fails
	run  func(s *layerSubject[Req, Res])
}

// A layerSubject is the layer under test around an inner service of the case's,
// and the calls that were made of it.
type layerSubject[Req, Res any] struct {
	*testing.T

	traits  LayerTraits[Req, Res]
	layer   turret.Layer[Req, Res]
	inner   *innerService[Req, Res]
	service turret.Service[Req, Res]

	mu    sync.Mutex
	calls []*layerCall[Res]
}

func newLayerSubject[Req, Res any](t *testing.T, traits LayerTraits[Req, Res]) *layerSubject[Req, Res] {
	s := &layerSubject[Req, Res]{T: t, traits: traits}
	if traits.Request == nil {
		s.traits.Request = func(int) (req Req) { return req }
	}
	if traits.Response == nil {
		s.traits.Response = func(int) (res Res) { return res }
	}
	if traits.Sent == nil {
		s.traits.Sent = func(n int, req Req) bool { return reflect.DeepEqual(req, s.traits.Request(n)) }
	}
	if traits.Got == nil {
		s.traits.Got = func(n int, res Res) bool { return reflect.DeepEqual(res, s.traits.Response(n)) }
	}
	s.inner = newInnerService(s)
	return s
}

// A layerCall is a call of the service under test, or of its Ready, on a
// goroutine of its own.
type layerCall[Res any] struct {
	n        int
	cancel   context.CancelFunc
	over     atomic.Bool // set after what follows
	res      Res
	err      error
	returned bool
	panicked any // nil for a runtime.Goexit
}

func (c *layerCall[Res]) waits() bool { return !c.over.Load() }

// String says what became of the call.
func (c *layerCall[Res]) String() string {
	switch {
	case c.waits():
		return "it waits"
	case c.returned:
		return fmt.Sprintf("it returned (%#v, %v)", c.res, c.err)
	case c.panicked != nil:
		return fmt.Sprintf("it panicked with %v", c.panicked)
	default:
		return "its goroutine ended"
	}
}

// numberKey is the key of a call's number in its context.
type numberKey struct{}

// begin makes a call whose context is made of that of change, and does not wait.
func (s *layerSubject[Req, Res]) begin(change func(context.Context) context.Context, f func(ctx context.Context, c *layerCall[Res])) *layerCall[Res] {
	s.mu.Lock()
	c := &layerCall[Res]{n: len(s.calls)}
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), numberKey{}, c.n))
	c.cancel = cancel
	if change != nil {
		ctx = change(ctx)
	}
	go func() {
		defer c.over.Store(true)
		defer func() {
			if !c.returned {
				c.panicked = recover()
			}
			s.inner.callerLeft(c.n)
		}()
		f(ctx, c)
		c.returned = true
	}()
	return c
}

// start calls the service and waits until nothing moves any more. Time does not
// pass.
func (s *layerSubject[Req, Res]) start() *layerCall[Res] { return s.startWith(nil) }

func (s *layerSubject[Req, Res]) startWith(change func(context.Context) context.Context) *layerCall[Res] {
	c := s.begin(change, s.call)
	synctest.Wait()
	return c
}

func (s *layerSubject[Req, Res]) call(ctx context.Context, c *layerCall[Res]) {
	c.res, c.err = s.service.Call(ctx, s.traits.Request(c.n))
}

// ready asks the service and waits until nothing moves any more.
func (s *layerSubject[Req, Res]) ready(change func(context.Context) context.Context) *layerCall[Res] {
	c := s.begin(change, func(ctx context.Context, c *layerCall[Res]) { c.err = s.service.Ready(ctx) })
	synctest.Wait()
	return c
}

// finish waits until the call is over, as long as an hour.
func (s *layerSubject[Req, Res]) finish(c *layerCall[Res]) *layerCall[Res] {
	s.Helper()
	for range 3600 {
		if synctest.Wait(); !c.waits() {
			return c
		}
		pass(time.Second)
	}
	s.Fatal("the call has not come back for an hour")
	return nil
}

// wantPassed fails the case if the call did not go through to the inner service
// and back.
func (s *layerSubject[Req, Res]) wantPassed(c *layerCall[Res]) {
	s.Helper()
	switch {
	case !c.returned || c.err != nil:
		s.Fatalf("a call that the inner service answers: %v, want the answer", c)
	case !s.traits.Got(c.n, c.res):
		s.Errorf("the call returned %v, want the result of its own", c.res)
	case s.inner.sentOf(c.n) == 0:
		s.Error("the call succeeded, but the inner service was not called")
	}
}

// wantRefused fails the case if the call did not end with a refusal, or the
// request was sent all the same.
func (s *layerSubject[Req, Res]) wantRefused(c *layerCall[Res]) {
	s.Helper()
	if !c.returned || !errors.Is(c.err, turret.ErrNotReady) {
		s.Errorf("%v, want an error that matches turret.ErrNotReady", c)
	}
	if s.inner.sentOf(c.n) > 0 {
		s.Errorf("%v: it matches turret.ErrNotReady, but the request was sent", c)
	}
}

// wantAlive fails the case if calls do not pass: as many at a time as there has
// to be room for, after a year without any.
func (s *layerSubject[Req, Res]) wantAlive() {
	s.Helper()
	pass(year)
	s.inner.answers(func(_ context.Context, n int) (Res, error) { return s.traits.Response(n), nil })
	for range layerRoom {
		c := s.finish(s.start())
		if !c.returned || c.err != nil {
			s.Fatalf("a year later a call does not pass: %v. Something was not given back", c)
		}
	}
}

// layerRoom is how many calls at a time a layer has to have room for.
const layerRoom = 3

const year = 365 * 24 * time.Hour

// pass moves the bubble's clock.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // moves the bubble's clock
}

// close ends what still waits, so that the bubble can end, and looks whether
// anything goes on after the calls are over.
func (s *layerSubject[Req, Res]) close() {
	s.inner.letGo()
	for _, c := range s.calls {
		c.cancel()
	}
	pass(year)
	synctest.Wait()
	for _, c := range s.calls {
		if c.waits() {
			s.Errorf("a call has not come back although its context has ended, and the inner service has answered")
		}
	}
}

// ended waits for the end of ctx, or of the case.
func (s *layerSubject[Req, Res]) ended(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.inner.gone:
	}
	return ctx.Err()
}
