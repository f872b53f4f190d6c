package turrettest

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

var (
	errAnswer  = errors.New("the inner service's error")
	errGone    = errors.New("gone for good")
	errRefusal = &turret.Refusal{Layer: "inner", Reason: "INNER"}
)

// layerCases is a function because a variable cannot be generic.
func layerCases[Req, Res any]() []layerCase[Req, Res] {
	type subject = *layerSubject[Req, Res]
	return append([]layerCase[Req, Res]{
		{
			"passes calls on", "A call that nothing stands against reaches the inner service, once, with its request; the result is that of the inner service, and comes back without a wait.",
			func(s subject) {
				for range layerRoom {
					began := time.Now()
					c := s.start()
					s.wantPassed(c)
					if waited := time.Since(began); waited > 0 {
						s.Errorf("the call took %v, though the inner service answered at once", waited)
					}
				}
			},
		},
		{
			"passes slow calls on", "An answer that takes a second is waited for.",
			func(s subject) {
				s.inner.answers(func(ctx context.Context, n int) (res Res, err error) {
					if err := sleep(ctx, time.Second); err != nil {
						return res, err
					}
					return s.traits.Response(n), nil
				})
				s.wantPassed(s.finish(s.start()))
				s.wantAlive()
			},
		},
		{
			"passes errors on", "An error of the inner service reaches the caller, and errors.Is finds it; it does not say that nothing was sent. Nothing is held afterwards.",
			func(s subject) {
				s.inner.fails(errAnswer)
				for i := range rounds {
					c := s.finish(s.start())
					if i > 0 && s.inner.sentOf(c.n) == 0 {
						s.wantRefused(c)
						continue
					}
					known := errors.Is(c.err, errAnswer) || i > 0 && s.traits.Repeats // may be that of a further attempt
					if c.err == nil || !known || errors.Is(c.err, turret.ErrNotReady) {
						s.Fatalf("%v, want the error of the inner service, which sent the request", c)
					}
				}
				s.wantAlive()
			},
		},
		{
			"passes refusals on", "A refusal of the inner service reaches the caller: nothing was sent, and the caller can see which layer refused.",
			func(s subject) {
				s.inner.fails(errRefusal)
				c := s.finish(s.start())
				s.wantRefused(c)
				if !errors.Is(c.err, errRefusal) {
					s.Errorf("%v, want the refusal of the inner service", c)
				}
				s.wantAlive()
			},
		},
		{
			"says what was sent", "When a request was sent once, no refusal of a further attempt says that it was not.",
			func(s subject) {
				var attempts atomic.Int64
				s.inner.answers(func(ctx context.Context, _ int) (res Res, err error) {
					if attempts.Add(1) > 1 {
						return res, errRefusal
					}
					if err := sleep(ctx, time.Second); err != nil {
						return res, err
					}
					return res, errAnswer
				})
				c := s.finish(s.start())
				if c.err == nil || errors.Is(c.err, turret.ErrNotReady) {
					s.Errorf("%v, want an error that does not match turret.ErrNotReady", c)
				}
			},
		},
		{
			"ends with its context", "When the caller's context ends, so does that of the inner call, and the call returns an error that matches the context's. Nothing is held afterwards.",
			func(s subject) {
				s.inner.answers(func(ctx context.Context, _ int) (res Res, err error) {
					return res, s.ended(ctx)
				})
				for i := range rounds {
					c := s.start()
					c.cancel()
					synctest.Wait()
					if c.waits() {
						s.Fatal("the call still waits, though its context has ended")
					}
					if i > 0 && s.inner.sentOf(c.n) == 0 {
						s.wantRefused(c)
						continue
					}
					if !errors.Is(c.err, context.Canceled) || errors.Is(c.err, turret.ErrNotReady) {
						s.Fatalf("%v, want context.Canceled, and that the request was sent", c)
					}
				}
				s.wantAlive()
			},
		},
		{
			"waits for the inner call", "A call does not return before its inner call has, though its context has ended, and though a day has passed.",
			func(s subject) {
				release := make(chan struct{})
				s.inner.answers(func(_ context.Context, n int) (Res, error) {
					select {
					case <-release:
					case <-s.inner.gone:
					}
					return s.traits.Response(n), nil
				})
				patient, cancelled := s.start(), s.start()
				cancelled.cancel()
				synctest.Wait()
				pass(24 * time.Hour)
				for _, c := range s.calls {
					if !c.waits() {
						s.Errorf("%v, though its inner call goes on", c)
					}
				}
				close(release)
				for _, c := range []*layerCall[Res]{patient, cancelled} {
					if s.finish(c); !c.returned {
						s.Errorf("%v, want it to return when its inner call has", c)
					}
				}
			},
		},
		{
			"keeps the deadline", "The inner call has the caller's deadline, or an earlier one.",
			func(s subject) {
				deadline := time.Now().Add(time.Minute)
				s.inner.answers(func(ctx context.Context, n int) (Res, error) {
					if got, ok := ctx.Deadline(); !ok || got.After(deadline) {
						s.Errorf("the inner call has the deadline %v (%t), the caller %v", got, ok, deadline)
					}
					return s.traits.Response(n), nil
				})
				s.wantPassed(s.finish(s.startWith(func(ctx context.Context) context.Context {
					ctx, cancel := context.WithDeadline(ctx, deadline)
					s.Cleanup(cancel)
					return ctx
				})))
			},
		},
		{
			"looks at an ended context", "A call whose context has ended before fails at once with an error that matches the context's; the inner service, if it is called at all, sees that.",
			func(s subject) {
				s.inner.answers(func(ctx context.Context, _ int) (res Res, err error) {
					if ctx.Err() == nil {
						s.Error("the inner service was called with a context that goes on, though the caller's has ended")
					}
					return res, ctx.Err()
				})
				c := s.startWith(ended)
				if c.waits() {
					s.Fatal("the call waits, though its context has ended")
				}
				if !errors.Is(c.err, context.Canceled) {
					s.Errorf("%v, want context.Canceled", c)
				}
				s.wantAlive()
			},
		},
		{
			"passes panics on", "A panic of the inner call goes on in the goroutine of the caller, with its value. Nothing is held afterwards.",
			func(s subject) {
				boom := errors.New("boom")
				s.inner.answers(func(context.Context, int) (Res, error) { panic(boom) })
				for i := range rounds {
					c := s.finish(s.start())
					switch {
					case i > 0 && s.inner.sentOf(c.n) == 0:
						s.wantRefused(c)
					case s.traits.Recovers:
						if !c.returned || c.err == nil || errors.Is(c.err, turret.ErrNotReady) {
							s.Fatalf("%v, want an error in the place of the panic", c)
						}
					case c.returned || c.panicked != any(boom):
						s.Fatalf("%v, want the panic of the inner service", c)
					}
				}
				s.wantAlive()
			},
		},
		{
			"passes Goexit on", "A runtime.Goexit in the inner call ends the goroutine of the caller. Nothing is held afterwards.",
			func(s subject) {
				s.inner.answers(func(context.Context, int) (res Res, err error) { runtime.Goexit(); return res, nil })
				for i := range rounds {
					c := s.finish(s.start())
					if i > 0 && s.inner.sentOf(c.n) == 0 {
						s.wantRefused(c)
						continue
					}
					if c.returned || c.panicked != nil {
						s.Fatalf("%v, want its goroutine to end", c)
					}
				}
				s.wantAlive()
			},
		},
		{
			"wraps each service for itself", "A layer that is used twice makes two services, each of which calls the one that it wraps.",
			func(s subject) {
				other := newInnerService(s)
				first, second := s.service, s.layer(other)
				other.answers(func(context.Context, int) (res Res, err error) { return res, errAnswer })
				s.service = second
				if c := s.finish(s.start()); !errors.Is(c.err, errAnswer) || s.inner.sentOf(c.n) > 0 {
					s.Errorf("a call of the second service: %v, want the answer of the one that it wraps", c)
				}
				s.service = first
				s.wantPassed(s.finish(s.start()))
			},
		},
		{
			"works concurrently", "Many calls at once get each its own result, and nothing is held when they are over. String may be called meanwhile.",
			concurrentLayerCalls[Req, Res],
		},
	}, readinessCases[Req, Res]()...)
}

// rounds is how often a case repeats what might be held: more than a layer has
// room for that has little.
const rounds = 20

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readinessCases are about Ready, and about calls that have to wait for room.
func readinessCases[Req, Res any]() []layerCase[Req, Res] {
	type subject = *layerSubject[Req, Res]
	return []layerCase[Req, Res]{
		{
			"ready", "Ready is nil when the inner service has room, also with a context that has ended. It takes nothing, and calls nothing.",
			func(s subject) {
				s.inner.answers(func(context.Context, int) (res Res, err error) {
					s.Error("Ready has called the inner service")
					return res, nil
				})
				for range 100 {
					for _, change := range []func(context.Context) context.Context{nil, ended} {
						if c := s.ready(change); !c.returned || c.err != nil {
							s.Fatalf("Ready: %v, want nil", c)
						}
					}
				}
				s.inner.answers(func(_ context.Context, n int) (Res, error) { return s.traits.Response(n), nil })
				for range layerRoom {
					s.wantPassed(s.start())
				}
			},
		},
		{
			"not ready", "While the inner service has no room Ready waits; with a context that ends, or has ended, it answers that it is not ready now. It is nil when there is room.",
			func(s subject) {
				open := s.inner.shut()
				if c := s.ready(ended); !c.returned || c.err == nil && !s.traits.OwnReady || turret.IsFinal(c.err) {
					s.Fatalf("Ready with an ended context: %v, want turret.ErrNotReady", c)
				}
				gives, waits := s.ready(nil), s.ready(nil)
				gives.cancel()
				synctest.Wait()
				if !gives.returned || gives.err == nil && !s.traits.OwnReady || turret.IsFinal(gives.err) {
					s.Errorf("Ready whose context ends: %v, want turret.ErrNotReady", gives)
				}
				if !waits.waits() && !s.traits.OwnReady {
					s.Errorf("Ready: %v, want it to wait", waits)
				}
				open()
				if s.finish(waits); waits.err != nil {
					s.Errorf("Ready: %v, want nil when there is room", waits)
				}
			},
		},
		{
			"waits for room", "While the inner service has no room a call waits, and goes on when there is room, or it is refused. A caller that gives up gets an error that matches the context's, and that says that nothing was sent.",
			func(s subject) {
				open := s.inner.shut()
				waits, gives := s.start(), s.start()
				gives.cancel()
				synctest.Wait()
				if gives.waits() {
					s.Fatal("a call still waits for room, though its context has ended")
				}
				s.wantRefused(gives)
				if _, refused := errors.AsType[*turret.Refusal](gives.err); !refused && !errors.Is(gives.err, context.Canceled) {
					s.Errorf("%v, want a refusal, or context.Canceled", gives)
				}
				open()
				if s.finish(waits); waits.err != nil {
					s.wantRefused(waits)
				} else {
					s.wantPassed(waits)
				}
				s.inner.says(nil)
				s.wantAlive()
			},
		},
		{
			"fails for good", "When the inner service has failed for good, calls fail with its error, and so does Ready: for good.",
			func(s subject) {
				s.inner.fails(errGone)
				s.inner.says(func(context.Context) error { return errGone })
				if c := s.finish(s.start()); !errors.Is(c.err, errGone) {
					s.Errorf("Call: %v, want the error of the inner service", c)
				}
				for _, change := range []func(context.Context) context.Context{nil, ended} {
					if c := s.finish(s.ready(change)); !errors.Is(c.err, errGone) || !turret.IsFinal(c.err) {
						s.Errorf("Ready: %v, want the error of the inner service, which is final", c)
					}
				}
			},
		},
		{
			"passes panics of Ready on", "A panic of the inner Ready goes on in the goroutine that called Ready, or, where a background goroutine called it, Ready returns an error. Nothing is held afterwards.",
			func(s subject) {
				boom := errors.New("boom")
				var asked atomic.Bool
				s.inner.says(func(context.Context) error { asked.Store(true); panic(boom) })
				for range rounds {
					c := s.finish(s.ready(nil))
					if asked.Swap(false) && (c.returned && c.err == nil || !c.returned && c.panicked != any(boom)) {
						s.Fatalf("Ready: %v, want the panic of the inner service", c)
					}
				}
				s.inner.says(nil)
				s.wantAlive()
			},
		},
	}
}
