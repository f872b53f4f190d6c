package turrettest

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// ErrClosed is the error of a [Mock] that was closed.
var ErrClosed = errors.New("turrettest: mock closed")

// A Mock is a [turret.Service] whose part is played by the test. Calls wait
// until the test takes them with Next and answers them; nothing is answered by
// itself.
//
//	inner := turrettest.NewMock[string, string](t)
//	service := layer(inner)
//	call := turrettest.Go(ctx, service, "ping")
//	inner.Expect(ctx, "ping").Respond("pong")
//	call.Result() // "pong", nil
//
// A Mock keeps the contract of a Service: a call whose ctx ends returns ctx's
// error soon, unless the test took it and holds it with [Request.Hold]. It
// starts with room for every call; Allow and Fail change what Ready returns.
//
// A test that ends with a request unanswered whose caller still waits fails,
// and the caller gets [ErrClosed]. Requests are handed out in the order in
// which they came.
//
// It follows tower-test's mock, except that Call waits when there is no room, as
// every Turret service does, where Tower's panics. Use [NewMock]. A Mock may be
// used from many goroutines at once.
type Mock[Req, Res any] struct {
	t testing.TB

	mu      sync.Mutex
	allowed int   // how many more requests are let in; negative: all
	err     error // if not nil, the end: what Ready and Call return
	polling int   // calls of Ready that wait
	waiting []*Request[Req, Res]
	arrived []*Request[Req, Res] // let in, not yet taken by Next
	taken   []*Request[Req, Res] // taken by Next, not yet over
	changed chan struct{}        // closed and replaced when any of this changes
}

// NewMock returns a [Mock] with room for every call. When t ends, the Mock is
// closed, and t fails if that left a caller without an answer.
func NewMock[Req, Res any](t testing.TB) *Mock[Req, Res] {
	m := &Mock[Req, Res]{t: t, allowed: -1, changed: make(chan struct{})}
	t.Cleanup(func() {
		if n := m.Close(); n > 0 {
			t.Errorf("turrettest: the test ended with %d unanswered requests", n)
		}
	})
	return m
}

// NewMockUnder returns a [Mock] and the service that layer makes of it.
func NewMockUnder[Req, Res any](t testing.TB, layer turret.Layer[Req, Res]) (turret.Service[Req, Res], *Mock[Req, Res]) {
	m := NewMock[Req, Res](t)
	return layer(m), m
}

// Ready waits until a request would be let in.
func (m *Mock[Req, Res]) Ready(ctx context.Context) error {
	for {
		m.mu.Lock()
		err, room, changed := m.err, m.allowed != 0, m.changed
		m.mu.Unlock()
		switch {
		case err != nil:
			return err
		case room:
			return nil
		}
		if ctx.Err() != nil {
			return turret.NotReady(ctx.Err())
		}
		m.poll(1)
		select {
		case <-changed:
		case <-ctx.Done():
		}
		m.poll(-1)
	}
}

func (m *Mock[Req, Res]) poll(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.polling += n
}

// Call sends req to the test and waits for the answer.
func (m *Mock[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	r := &Request[Req, Res]{Context: ctx, Request: req, mock: m, answer: make(chan answer[Res], 1)}
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return res, m.err
	}
	m.waiting = append(m.waiting, r)
	m.admit()
	m.mu.Unlock()
	select {
	case a := <-r.answer:
		return a()
	case <-ctx.Done():
	}
	if err := m.abandon(r); err != nil {
		return res, err
	}
	return (<-r.answer)()
}

// Next takes the next request that was let in, and waits for one if there is
// none. If ctx ends first, the test fails and stops, so Next is to be called on
// the test's own goroutine.
func (m *Mock[Req, Res]) Next(ctx context.Context) *Request[Req, Res] {
	m.t.Helper()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if r, ok := m.TryNext(); ok {
			return r
		}
		select {
		case <-changed:
		case <-ctx.Done():
			m.t.Fatalf("turrettest: no request came: %v", ctx.Err())
		}
	}
}

// Expect is [Mock.Next], and fails and stops the test if the request is not
// deeply equal to want.
func (m *Mock[Req, Res]) Expect(ctx context.Context, want Req) *Request[Req, Res] {
	m.t.Helper()
	r := m.Next(ctx)
	if !reflect.DeepEqual(r.Request, want) {
		m.t.Fatalf("turrettest: the request is %v, want %v", r.Request, want)
	}
	return r
}

// TryNext takes the next request that was let in, if there is one. It does not
// wait.
func (m *Mock[Req, Res]) TryNext() (*Request[Req, Res], bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.arrived) == 0 {
		return nil, false
	}
	r := m.arrived[0]
	m.arrived = m.arrived[1:]
	m.taken = append(m.taken, r)
	return r, true
}

// Allow lets in n more requests, and none after them; those that wait come
// first. It replaces what an earlier Allow left. A negative n lets in all, as a
// new Mock does.
func (m *Mock[Req, Res]) Allow(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.allowed = n
	m.admit()
}

// Waiting returns how many calls of Ready wait now, and how many calls wait to be
// let in. A layer that gave up should have left neither behind.
func (m *Mock[Req, Res]) Waiting() (ready, calls int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.polling, len(m.waiting)
}

// Fail ends the service: Ready and Call return err from now on, and so do calls
// that wait to be let in. Requests that were let in can still be answered. It
// panics if err is nil.
func (m *Mock[Req, Res]) Fail(err error) {
	if err == nil {
		misuse.Check("turrettest: Mock.Fail", &turret.FieldError{Package: "turrettest", Field: "error", Bound: "non-nil"})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail(err)
}

// Close ends the service with [ErrClosed] and gives the same error to every
// request that has no answer. It returns how many those were. Closing again
// does nothing.
func (m *Mock[Req, Res]) Close() (unanswered int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	unanswered = len(m.waiting) + len(m.arrived) + len(m.taken)
	for _, r := range append(m.arrived, m.taken...) {
		r.answer <- failure[Res](ErrClosed)
	}
	m.arrived, m.taken = nil, nil
	m.fail(ErrClosed)
	return unanswered
}

// fail requires that mu is held.
func (m *Mock[Req, Res]) fail(err error) {
	m.err = err
	for _, r := range m.waiting {
		r.answer <- failure[Res](err)
	}
	m.waiting = nil
	m.change()
}

// admit lets in the waiting calls that are allowed. It requires that mu is held.
func (m *Mock[Req, Res]) admit() {
	for len(m.waiting) > 0 && m.allowed != 0 {
		m.arrived = append(m.arrived, m.waiting[0])
		m.waiting = m.waiting[1:]
		if m.allowed > 0 {
			m.allowed--
		}
	}
	m.change()
}

// change wakes the waits in Ready and Next. It requires that mu is held.
func (m *Mock[Req, Res]) change() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// abandon takes r, whose caller gave up, off the books and returns what the
// caller is to return. It returns nil if the caller is to wait for the answer:
// there is one, or the test holds the call.
func (m *Mock[Req, Res]) abandon(r *Request[Req, Res]) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case remove(&m.waiting, r):
		return turret.NotReady(r.Context.Err())
	case remove(&m.arrived, r):
		return r.Context.Err()
	case !r.held && remove(&m.taken, r):
		return r.Context.Err()
	default:
		return nil
	}
}
