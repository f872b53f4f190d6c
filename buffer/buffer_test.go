package buffer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/shed"
	"github.com/turret-go/turret/turrettest"
)

var errBroken = errors.New("broken")

type (
	Service = turret.Service[int, int]
	Buffer  = buffer.Buffer[int, int]
)

// A rig is a buffer over a limit over a service that answers when the test lets it.
type rig struct {
	*Buffer

	t      *testing.T
	places *limit.Concurrency
	calls  []*call
	inside []int // the requests that are with the service, in the order in which they came
	mu     sync.Mutex
}

// A call is one Call of the rig's buffer. Its request is its number.
type call struct {
	cancel   context.CancelFunc
	proceed  chan struct{}
	done     atomic.Bool // after err
	err      error
	panicked any
}

func newRig(t *testing.T, n, places int) *rig {
	r := &rig{t: t, places: limit.NewConcurrency(places, limit.Queue{})}
	r.Buffer = buffer.New(r.inner(), n)
	return r
}

func (r *rig) inner() Service {
	return &punctual{turret.Gated[int, int](r.places, nil)(turret.ServiceFunc(r.serve)), r}
}

// punctual is not ready while a call that found it ready is still on its way to the
// limit. Without it two calls may race for one place, and which of them returns
// would be random.
type punctual struct {
	Service

	rig *rig
}

func (p *punctual) Ready(ctx context.Context) error {
	for {
		err := p.Service.Ready(ctx)
		if err != nil || ctx.Err() != nil || p.rig.Stats().Inside <= p.rig.places.Stats().InFlight {
			return err
		}
		runtime.Gosched()
	}
}

func (r *rig) serve(_ context.Context, req int) (int, error) {
	r.mu.Lock()
	r.inside = append(r.inside, req)
	c := r.calls[req]
	r.mu.Unlock()
	<-c.proceed
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside = slices.DeleteFunc(r.inside, func(i int) bool { return i == req })
	return req, nil
}

// start makes a call.
func (r *rig) start() int {
	ctx, cancel := context.WithCancel(r.t.Context())
	c := &call{cancel: cancel, proceed: make(chan struct{})}
	r.mu.Lock()
	req := len(r.calls)
	r.calls = append(r.calls, c)
	r.mu.Unlock()
	go func() {
		defer c.done.Store(true)
		defer cancel()
		defer func() { c.panicked = recover() }()
		_, c.err = r.Call(ctx, req)
	}()
	return req
}

// fill makes n calls, one after the other.
func (r *rig) fill(n int) {
	for range n {
		r.start()
		synctest.Wait()
	}
}

// answer lets calls come back that are with the service.
func (r *rig) answer(reqs ...int) {
	for _, req := range reqs {
		close(r.calls[req].proceed)
		synctest.Wait()
	}
}

// answerAll lets all calls come back.
func (r *rig) answerAll() {
	for synctest.Wait(); len(r.with()) > 0; synctest.Wait() {
		r.answer(r.with()[0])
	}
}

// with returns the requests that are with the service.
func (r *rig) with() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.inside)
}

func (r *rig) wantWith(want ...int) {
	r.t.Helper()
	synctest.Wait()
	if got := r.with(); !slices.Equal(got, want) {
		r.t.Errorf("with the service: %v, want %v", got, want)
	}
}

func (r *rig) wantErr(req int, targets ...error) {
	r.t.Helper()
	synctest.Wait()
	c := r.calls[req]
	if !c.done.Load() {
		r.t.Errorf("call %d is not over", req)
		return
	}
	if len(targets) == 0 && c.err != nil {
		r.t.Errorf("call %d: %v, want success", req, c.err)
	}
	for _, target := range targets {
		if !errors.Is(c.err, target) {
			r.t.Errorf("call %d: %v, want an error that matches %v", req, c.err, target)
		}
	}
}

// Tower's arithmetic: a buffer of 100 over a limit of 10 holds 110.
func TestHolds110(t *testing.T) {
	for _, apart := range []bool{true, false} {
		t.Run(fmt.Sprintf("apart %t", apart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 100, 10)
				for range 200 {
					r.start()
					if apart {
						synctest.Wait()
					}
				}
				synctest.Wait()
				s := r.Stats()
				if len(r.with()) != 10 || s.Waiting != 100 || s.Inside != 10 || s.Full != 90 {
					t.Errorf("%d with the service, %+v, want 10 there, 100 waiting and 90 refused", len(r.with()), s)
				}
				r.answerAll()
				var good, full int
				for _, c := range r.calls {
					switch refusal, _ := errors.AsType[*turret.Refusal](c.err); {
					case c.err == nil:
						good++
					case refusal.Reason == turret.ReasonBufferFull && errors.Is(c.err, buffer.ErrFull) && errors.Is(c.err, turret.ErrNotReady):
						full++
					}
				}
				if good != 110 || full != 90 {
					t.Errorf("%d answered and %d refused, want 110 and 90", good, full)
				}
				if apart {
					r.wantErr(109)
					r.wantErr(110, buffer.ErrFull)
				}
			})
		})
	}
}

func TestFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10, 1)
		r.fill(6)
		for i := range 6 {
			r.wantWith(i)
			r.answer(i)
		}
		r.wantWith()
		r = newRig(t, 10, 2)
		r.fill(4)
		r.answer(1)
		r.wantWith(0, 2)
		r.places.SetMax(4)
		r.wantWith(0, 2, 3)
		r.answerAll()
	})
}

// A caller that gives up leaves no trace, wherever it stands: the others move up, and its
// place is free. A cancelled waiter never blocks the line.
func TestCancelledInLine(t *testing.T) {
	for _, who := range []int{1, 2, 3} { // has the turn and asks; in the middle; last
		t.Run(fmt.Sprint(who), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, 1)
				r.fill(4)
				r.calls[who].cancel()
				r.wantErr(who, context.Canceled, turret.ErrNotReady)
				if s := r.Stats(); s.Waiting != 2 || s.Cancelled != 1 {
					t.Errorf("%+v, want 2 waiting and 1 cancelled", s)
				}
				r.fill(2) // one place is free
				r.wantErr(5, buffer.ErrFull)
				for _, req := range []int{0, 1, 2, 3, 4} {
					if req != who {
						r.wantWith(req)
						r.answer(req)
					}
				}
				if s := r.places.Stats(); s.InFlight != 0 || s.Waiting != 0 {
					t.Errorf("%+v: a place was lost", s)
				}
			})
		})
	}
}

// A waiter that gives up in the instant in which it may go either goes or lets
// the next one go.
func TestCancelledAsRoomComes(t *testing.T) {
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, 1)
			r.fill(3)
			if round%2 == 0 {
				r.calls[1].cancel()
				close(r.calls[0].proceed)
			} else {
				close(r.calls[0].proceed)
				r.calls[1].cancel()
			}
			synctest.Wait()
			if len(r.with()) != 1 {
				t.Errorf("%v with the service, want one", r.with())
			}
			r.answerAll()
			r.wantErr(2)
		})
	}
}

func TestEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 1)
		r.fill(1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			if _, err := r.Call(ctx, 0); !errors.Is(err, context.Canceled) || !errors.Is(err, turret.ErrNotReady) {
				t.Errorf("got %v, want an error that matches the context's and ErrNotReady", err)
			}
		}
		if s := r.Stats(); s.Waiting != 0 {
			t.Errorf("%d wait", s.Waiting)
		}
		r.answerAll()
	})
}

// The reason of a final failure reaches all calls that wait and all later ones.
func TestServiceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := turrettest.NewMock[int, int](t)
		b := buffer.New[int, int](inner, 10)
		inner.Allow(0)
		errs := make([]error, 5)
		for i := range errs {
			go func() { _, errs[i] = b.Call(t.Context(), i) }()
		}
		synctest.Wait()
		inner.Fail(errBroken)
		synctest.Wait()
		_, late := b.Call(t.Context(), 9)
		for i, err := range append(errs, late) {
			refusal, ok := errors.AsType[*turret.Refusal](err)
			if !ok || refusal.Reason != turret.ReasonBufferClosed || refusal.Kind != turret.KindUnavailable {
				t.Errorf("caller %d: %v, want a refusal with reason BUFFER_CLOSED", i, err)
			}
			if !errors.Is(err, errBroken) || !errors.Is(err, buffer.ErrClosed) || !errors.Is(err, turret.ErrNotReady) {
				t.Errorf("caller %d: %v, want one that matches the reason, ErrClosed and ErrNotReady", i, err)
			}
		}
		if want := "buffer: line closed: broken"; late.Error() != want {
			t.Errorf("text is %q, want %q", late, want)
		}
		if err := b.Ready(t.Context()); !errors.Is(err, errBroken) || !turret.IsFinal(err) {
			t.Errorf("Ready: %v, want the reason, and final", err)
		}
		b.Close() // does not hide the reason
		if _, err := b.Call(t.Context(), 9); !errors.Is(err, errBroken) {
			t.Errorf("closed later: %v, want the reason", err)
		}
	})
}

// A failure is found out by a call that need not wait, too.
func TestServiceHasFailed(t *testing.T) {
	inner := turrettest.NewMock[int, int](t)
	inner.Fail(errBroken)
	b := buffer.New[int, int](inner, 10)
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("Ready before anybody has asked: %v, want nil", err)
	}
	for range 2 {
		if _, err := b.Call(t.Context(), 1); !errors.Is(err, buffer.ErrClosed) || !errors.Is(err, errBroken) {
			t.Errorf("got %v, want ErrClosed and the reason", err)
		}
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 1)
		r.fill(4)
		var ready error
		go func() { ready = r.Ready(t.Context()) }()
		synctest.Wait()
		r.Close()
		r.Close()
		for _, req := range []int{1, 2, 3} {
			r.wantErr(req, buffer.ErrClosed, turret.ErrNotReady)
		}
		r.fill(1)
		r.wantErr(4, buffer.ErrClosed, turret.ErrNotReady)
		if !errors.Is(ready, buffer.ErrClosed) || !turret.IsFinal(ready) || !turret.IsFinal(turret.ReadyNow(r.Buffer)) {
			t.Errorf("Ready: %v, want ErrClosed, and final", ready)
		}
		r.wantWith(0) // what is inside goes on
		r.answerAll()
		r.wantErr(0)
		if s := r.Stats(); !s.Closed || s.Waiting != 0 || !strings.HasSuffix(r.String(), ", closed") {
			t.Errorf("%v", r)
		}
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, 1)
		ready := func() error { return turret.ReadyNow(r.Buffer) }
		for i, want := range []bool{true, true, true, false} {
			if err := ready(); (err == nil) != want || err != nil && !errors.Is(err, turret.ErrNotReady) {
				t.Errorf("with %d calls: %v", i, err)
			}
			if i < 3 {
				r.fill(1)
			}
		}
		var told atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp error
		go func() { gaveUp = r.Ready(ctx) }()
		for range 3 {
			go func() {
				if r.Ready(t.Context()) == nil {
					told.Add(1)
				}
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if told.Load() != 0 || !errors.Is(gaveUp, turret.ErrNotReady) || !errors.Is(gaveUp, context.Canceled) {
			t.Errorf("%d are told that there is a place; who gave up got %v", told.Load(), gaveUp)
		}
		r.calls[1].cancel()
		synctest.Wait()
		if told.Load() != 3 || r.Stats().Waiting != 1 {
			t.Errorf("%d of 3 are told, %d wait", told.Load(), r.Stats().Waiting)
		}
		r.answerAll()
	})
}

// A rival takes the place that Ready reported to the buffer, and gives it back.
type rival struct {
	Service

	places *limit.Concurrency
	ticket turret.Ticket
	armed  atomic.Bool // the next Call loses the place to the rival, and waits for resume
	resume chan struct{}
}

func (r *rival) Call(ctx context.Context, req int) (int, error) {
	if r.armed.CompareAndSwap(true, false) {
		r.take()
		<-r.resume
	}
	return r.Service.Call(ctx, req)
}

func (r *rival) take() { r.ticket, _ = r.places.TryEnter(context.Background()) }

func (r *rival) give() {
	r.places.Leave(r.ticket, turret.Success)
	synctest.Wait()
}

func newRivalry(t *testing.T, n int) (*rig, *rival) {
	r := newRig(t, n, 1)
	rv := &rival{places: r.places, resume: make(chan struct{})}
	rv.Service = r.inner()
	r.Buffer = buffer.New[int, int](rv, n)
	return r, rv
}

// A call that is refused although Ready returned nil goes back to its place.
func TestBackToTheFront(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rival := newRivalry(t, 10)
		rival.take()
		r.fill(3)
		rival.armed.Store(true)
		rival.give() // 0 goes, and finds the place taken again
		r.wantWith()
		close(rival.resume)
		synctest.Wait()
		if s := r.Stats(); s.Waiting != 3 {
			t.Errorf("%+v, want that all wait", s)
		}
		rival.give()
		for i := range 3 {
			r.wantWith(i)
			r.answer(i)
			r.wantErr(i)
		}
	})
}

// A call that need not have waited, and is refused, gets the place in line that
// it would have had.
func TestBackToItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rival := newRivalry(t, 10)
		rival.armed.Store(true)
		r.fill(3) // 0 found the place free; 1 and 2 wait before it does
		close(rival.resume)
		synctest.Wait()
		if s := r.Stats(); s.Waiting != 3 {
			t.Errorf("%+v, want that all wait", s)
		}
		rival.give()
		for i := range 3 {
			r.wantWith(i)
			r.answer(i)
			r.wantErr(i)
		}
	})
}

// No call is refused for one that has given up.
func TestGoneWhenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rival := newRivalry(t, 1)
		rival.armed.Store(true)
		r.fill(2)
		r.calls[0].cancel()
		close(rival.resume)
		r.wantErr(0, turret.ErrNotReady)
		rival.give()
		r.wantWith(1)
		r.answer(1)
		r.wantErr(1)
	})
}

// A call that returns to a full line takes the place of the last one there, so that
// never more than n wait. With a line of one that is the one that asks.
func TestBackToAFullLine(t *testing.T) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, rival := newRivalry(t, n)
				rival.armed.Store(true)
				r.fill(1 + n)
				close(rival.resume)
				r.wantErr(n, buffer.ErrFull)
				if s := r.Stats(); s.Waiting != n || s.Full != 1 {
					t.Errorf("%+v, want %d waiting and 1 refused", s, n)
				}
				rival.give()
				for i := range n {
					r.wantWith(i)
					r.answer(i)
					r.wantErr(i)
				}
			})
		})
	}
}

// What cannot be waited for is not: no hot loop, and the caller gets the refusal.
func TestServiceThatIsReadyAndRefuses(t *testing.T) {
	full := turret.Gated[int, int](limit.NewConcurrency(0, limit.Queue{}), nil)
	var calls atomic.Int64
	count := turret.Wrap(func(ctx context.Context, req int, inner Service) (int, error) {
		calls.Add(1)
		return inner.Call(ctx, req)
	})
	tests := map[string]struct {
		inner Service
		want  error
	}{
		"load shedder": {turret.Stack(shed.Layer[int, int](), full)(nil), shed.ErrOverloaded},
		"no service":   {turret.Optional[int, int](nil), turret.ErrNone},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls.Store(0)
				_, err := buffer.New(count(tt.inner), 3).Call(t.Context(), 1)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if n := calls.Load(); n > 3 {
					t.Errorf("called %d times, want at most 3", n)
				}
			})
		})
	}
}

// Ready reports room each time, and calls of this buffer take it each time. The
// report is true, so the caller waits on.
func TestRoomThatOthersWereQuickerTo(t *testing.T) {
	var b *Buffer
	refusals := 0
	b = buffer.New(turret.ServiceFunc(func(ctx context.Context, req int) (int, error) {
		if req == 1 && refusals < 10 {
			refusals++
			_, err := b.Call(ctx, 2) // has come and gone when 1 is refused
			return 0, turret.NotReady(err)
		}
		return req, nil
	}), 1)
	if _, err := b.Call(t.Context(), 1); err != nil || refusals != 10 {
		t.Errorf("got %v after %d refusals, want success after 10", err, refusals)
	}
}

// A newcomer does not overtake the line, even if the service is ready by now.
func TestNobodyOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &slowToSay{say: make(chan struct{})}
		b := buffer.New[int, int](inner, 3)
		for req := range 3 {
			go func() { _, _ = b.Call(t.Context(), req) }()
			synctest.Wait()
			inner.readyNow = true
		}
		if len(inner.calls) > 0 {
			t.Fatalf("calls %v, though the first one is not told that it may go", inner.calls)
		}
		close(inner.say)
		synctest.Wait()
		if len(inner.calls) != 3 {
			t.Errorf("calls %v, want all three", inner.calls)
		}
	})
}

// slowToSay answers a Ready that waits later than one that does not.
type slowToSay struct {
	readyNow bool
	say      chan struct{}
	mu       sync.Mutex
	calls    []int
}

func (s *slowToSay) Ready(ctx context.Context) error {
	if ctx.Err() == nil {
		<-s.say
		return nil
	}
	if s.readyNow {
		return nil
	}
	return turret.ErrNotReady
}

func (s *slowToSay) Call(_ context.Context, req int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, req)
	return req, nil
}

// A service that is ready for this caller alone, and refuses it: no hot loop.
func TestRefusesWhomItIsReadyFor(t *testing.T) {
	type tenant struct{}
	calls := 0
	inner := &tenants{key: tenant{}, admitted: make(chan struct{}), call: func() error { calls++; return turret.ErrNotReady }}
	close(inner.admitted)
	_, err := buffer.New[int, int](inner, 3).Call(context.WithValue(t.Context(), tenant{}, "a"), 1)
	if !errors.Is(err, turret.ErrNotReady) || calls != 3 {
		t.Errorf("got %v after %d calls, want the refusal after 3", err, calls)
	}
}

// Readiness is asked on behalf of the caller, by one caller at a time.
func TestAsksForTheCaller(t *testing.T) {
	type tenant struct{}
	synctest.Test(t, func(t *testing.T) {
		inner := &tenants{key: tenant{}, admitted: make(chan struct{}), call: func() error { return nil }}
		b := buffer.New[int, int](inner, 3)
		for _, name := range []string{"a", "b"} {
			go func() {
				_, _ = b.Call(context.WithValue(t.Context(), tenant{}, name), 1)
			}()
			synctest.Wait()
		}
		if want := []string{"a"}; !slices.Equal(inner.asked, want) {
			t.Errorf("asked for %v, want %v", inner.asked, want)
		}
		inner.admitted <- struct{}{}
		synctest.Wait()
		if want := []string{"a", "b"}; !slices.Equal(inner.asked, want) {
			t.Errorf("asked for %v, want %v", inner.asked, want)
		}
		close(inner.admitted)
	})
}

type tenants struct {
	key      any
	asked    []string
	admitted chan struct{}
	call     func() error
}

func (s *tenants) Ready(ctx context.Context) error {
	name, ok := ctx.Value(s.key).(string)
	if !ok {
		return turret.ErrNotReady // without a caller's context
	}
	select {
	case <-s.admitted:
	default:
		s.asked = append(s.asked, name)
		select {
		case <-s.admitted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *tenants) Call(context.Context, int) (int, error) { return 0, s.call() }

// A panic or Goexit in the inner service ends no other call.
func TestWaysOut(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { panic("inner") }, "Goexit": runtime.Goexit} {
		for _, where := range []string{"Ready", "Call"} {
			t.Run(name+" in "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 5, 1)
					inner := &faulty{Service: r.inner(), where: where, f: f}
					r.Buffer = buffer.New[int, int](inner, 5)
					r.fill(1)
					inner.armed.Store(true)
					r.fill(3) // the first of them asks
					r.answer(0)
					if !r.calls[1].done.Load() || name == "panic" && r.calls[1].panicked != "inner" {
						t.Errorf("the call that should not return: %+v", r.calls[1])
					}
					r.wantWith(2)
					r.answer(2)
					r.wantWith(3)
					r.answer(3)
					if s := r.Stats(); s.Waiting != 0 || s.Inside != 0 {
						t.Errorf("%+v: something was left behind", s)
					}
				})
			})
		}
	}
}

// faulty does f once, when it is armed.
type faulty struct {
	Service

	where string
	f     func()
	armed atomic.Bool
}

func (s *faulty) Ready(ctx context.Context) error {
	err := s.Service.Ready(ctx)
	if err == nil && s.where == "Ready" && ctx.Err() == nil && s.armed.CompareAndSwap(true, false) {
		s.f()
	}
	return err
}

func (s *faulty) Call(ctx context.Context, req int) (int, error) {
	if s.where == "Call" && s.armed.CompareAndSwap(true, false) {
		s.f()
	}
	return s.Service.Call(ctx, req)
}

// A rate limit makes room by time alone.
func TestOverARateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := limit.NewTokenBucket(limit.Rate{N: 1, Per: time.Second}, limit.Queue{})
		b := buffer.New(turret.Gated[int, int](bucket, nil)(turret.ServiceFunc(
			func(_ context.Context, req int) (int, error) { return req, nil })), 10)
		began := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if _, err := b.Call(t.Context(), i); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(began)/time.Second)
			})
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(at, []time.Duration{0, 1, 2, 3, 4}) {
			t.Errorf("calls after %d seconds, want one each second", at)
		}
	})
}

func TestBounds(t *testing.T) {
	for n, want := range map[int]string{0: "n is 0, must be at least 1", -1: "n is -1, must be at least 1"} {
		wantPanic(t, "buffer: New: "+want, func() { buffer.New[int, int](turret.Optional[int, int](nil), n) })
		wantPanic(t, "buffer: Layer: "+want, func() { buffer.Layer[int, int](n) })
	}
	wantPanic(t, "buffer: New: service is nil, must be non-nil", func() { buffer.New[int, int](nil, 1) })
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, math.MaxInt, 1)
		r.fill(50)
		if s := r.Stats(); s.Waiting != 49 || turret.ReadyNow(r.Buffer) != nil {
			t.Errorf("%+v", s)
		}
		r.answerAll()
	})
}

func wantPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got, ok := recover().(error); !ok || got.Error() != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	f()
}

// A layer that is used twice makes two lines.
func TestLayerMakesALineForEachService(t *testing.T) {
	ok := turret.ServiceFunc(func(_ context.Context, req int) (int, error) { return req, nil })
	layer := buffer.Layer[int, int](1)
	a, b := layer(ok), layer(ok)
	a.(*Buffer).Close()
	if _, err := b.Call(t.Context(), 1); err != nil {
		t.Errorf("closing one closed the other: %v", err)
	}
}

// Errors of calls that were sent are none of the buffer's business.
func TestPassesErrors(t *testing.T) {
	b := buffer.New(turret.ServiceFunc(func(context.Context, int) (int, error) { return 0, errBroken }), 1)
	if _, err := b.Call(t.Context(), 1); err != errBroken { //nolint:errorlint // the error itself is promised
		t.Errorf("got %v, want the very error", err)
	}
	if s := b.Stats(); s.Over != 1 || s.Inside != 0 {
		t.Errorf("%+v, want 1 over", s)
	}
}

func TestDoesNotAllocate(t *testing.T) {
	b := buffer.New(turret.Gated[int, int](limit.NewConcurrency(1, limit.Queue{}), nil)(turret.ServiceFunc(
		func(_ context.Context, req int) (int, error) { return req, nil })), 1)
	ctx := t.Context()
	if got := testing.AllocsPerRun(100, func() { _, _ = b.Call(ctx, 1); _ = b.Ready(ctx) }); got != 0 {
		t.Errorf("%v allocations, want none when nobody waits", got)
	}
}

// Many callers at once: a line that is long enough refuses no call, for any
// order of callers and any changes of room.
func TestHammer(t *testing.T) {
	var inside, most atomic.Int64
	places := limit.NewConcurrency(2, limit.Queue{})
	inner := turret.Gated[int, int](places, nil)(turret.ServiceFunc(func(_ context.Context, req int) (int, error) {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer inside.Add(-1)
		if req%3 == 0 {
			runtime.Gosched()
		}
		return req, nil
	}))
	b := buffer.New(inner, 64)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				impatient := (i+j)%7 == 0
				if impatient {
					go cancel()
				}
				if _, err := b.Call(ctx, i+j); err != nil && (!impatient || !errors.Is(err, context.Canceled)) {
					t.Errorf("caller %d, call %d: %v", i, j, err)
				}
				_ = turret.ReadyNow(b)
				cancel()
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 || b.Stats().Waiting != 0 || b.Stats().Inside != 0 || places.Stats().InFlight != 0 {
		t.Errorf("%d at a time; afterwards %v and %v", most.Load(), b, places)
	}
}
