package interceptors

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// An interruptible is the stream that a server's stack was given, underneath all
// that layers put around it. Its RecvMsg and SendMsg end when the context that the
// layers have derived ends.
//
// gRPC's methods end with the context of the transport alone, and there is no way
// to interrupt them. Where the layers' context may end before that, they run on a
// helper: one goroutine a stream, and a second one while the handler receives and
// sends at the same time. A method that is given up returns and leaves its helper
// to gRPC, which ends it with the stream, when the handler has returned.
//
// Invariant: after RecvMsg has returned nothing is written to its message, and
// after SendMsg has returned its message is not read. So gRPC receives into a
// message of our own, and sends one that was encoded before.
type interruptible struct {
	grpc.ServerStream

	helpers atomic.Pointer[helpers] // nil while the layers' context ends with the transport's
}

// listen makes RecvMsg and SendMsg end with ctx, until unlisten is called with what
// it returns. An adopted interceptor may have a further context for what is inside
// it: the last one counts.
// Helpers are made at the first context that differs from the transport's, and stay
// for the rest of the stream. Comparing the Done channels finds contexts that only
// add values, which need no helper.
func (s *interruptible) listen(ctx context.Context) (before context.Context) {
	h := s.helpers.Load()
	if h == nil {
		if ctx.Done() == s.ServerStream.Context().Done() {
			return nil
		}
		h = newHelpers(s.ServerStream)
		s.helpers.Store(h)
	}
	return h.listen(ctx)
}

// unlisten undoes listen.
func (s *interruptible) unlisten(before context.Context) {
	if h := s.helpers.Load(); h != nil {
		h.listen(before)
	}
}

// RecvMsg receives from gRPC, on a helper if the layers' context may end first.
func (s *interruptible) RecvMsg(m any) error {
	if h := s.helpers.Load(); h != nil {
		return h.recvMsg(m)
	}
	return s.ServerStream.RecvMsg(m)
}

// SendMsg sends by gRPC, likewise.
func (s *interruptible) SendMsg(m any) error {
	if h := s.helpers.Load(); h != nil {
		return h.sendMsg(m)
	}
	return s.ServerStream.SendMsg(m)
}

// helpers runs the methods of a stream on goroutines of their own.
type helpers struct {
	stream grpc.ServerStream
	inbox  inbox  // used by one RecvMsg at a time
	outbox outbox // used by one SendMsg at a time

	mu      sync.Mutex
	ctx     context.Context // that the methods end with; nil: with the transport's alone
	idle    *helper
	first   helper   // in place: most streams need no other
	begun   bool     // first is in use
	givenUp [2]error // of recv and send: what their methods return from now on
}

// newHelpers starts no goroutine: take does when there is work.
func newHelpers(stream grpc.ServerStream) *helpers {
	h := &helpers{stream: stream}
	h.outbox.init(stream)
	return h
}

// listen makes ctx the one to end with, and returns the one before. With nil there
// is nothing to wait for any more, and the helper goes.
func (h *helpers) listen(ctx context.Context) (before context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, h.ctx = h.ctx, ctx
	if ctx == nil && h.idle != nil {
		close(h.idle.work)
		h.idle = nil
	}
	return before
}

// The message is delivered on the goroutine of the handler, after the helper is done
// with it. A message that comes after the method was given up stays in the inbox's
// message, which nothing else refers to.
func (h *helpers) recvMsg(m any) error {
	ctx, err := h.begin(recv)
	switch {
	case err != nil:
		return err
	case ctx == nil:
		return h.stream.RecvMsg(m)
	}
	into := h.inbox.open(m)
	if err := h.run(ctx, task{recv, into}); err != nil {
		return err
	}
	h.inbox.deliver(into, m)
	return nil
}

// pack encodes or copies m before the helper gets it, so that the handler may change
// m as soon as this returns.
func (h *helpers) sendMsg(m any) error {
	ctx, err := h.begin(send)
	switch {
	case err != nil:
		return err
	case ctx == nil:
		return h.stream.SendMsg(m)
	}
	return h.run(ctx, task{send, h.outbox.pack(h.stream, m)})
}

// begin returns the context that a method ends with, or the error with which it
// ends at once: its context has ended, or one before it was given up.
func (h *helpers) begin(d direction) (context.Context, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.givenUp[d]; err != nil {
		return nil, err
	}
	if h.ctx != nil && h.ctx.Err() != nil {
		return nil, status.FromContextError(h.ctx.Err()).Err()
	}
	return h.ctx, nil
}

// run has a helper carry out t, and returns when it has, or when ctx ends.
// A result that is there wins over a context that has ended: a message that was
// received must not be lost.
func (h *helpers) run(ctx context.Context, t task) error {
	w := h.take()
	w.task = t
	// The channel has room for one: this does not block.
	w.work <- struct{}{}
	select {
	case <-w.done:
		return h.finish(w)
	case <-ctx.Done():
	}
	select {
	case <-w.done: // in the same moment
		return h.finish(w)
	default:
		return h.giveUp(w, t.direction, status.FromContextError(ctx.Err()).Err())
	}
}

// take returns a helper that has nothing to do.
func (h *helpers) take() *helper {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.idle
	if w != nil {
		h.idle = nil
		return w
	}
	if w = &h.first; h.begun {
		w = new(helper)
	}
	h.begun = true
	w.work, w.done = make(chan struct{}, 1), make(chan struct{}, 1)
	go w.serve(h.stream)
	return w
}

// finish returns the error of w's method, or lets its panic go on here, where the
// handler runs.
// A helper that has returned is kept for the next method, one at most; others end. The
// helper's goroutine has ended where its method called runtime.Goexit.
func (h *helpers) finish(w *helper) error {
	r := w.result
	w.task, w.result = task{}, result{}
	h.mu.Lock()
	if r.returned && h.idle == nil && h.ctx != nil {
		h.idle = w
	} else {
		close(w.work)
	}
	h.mu.Unlock()
	switch {
	case r.returned:
		return r.err
	case r.panicked == nil:
		runtime.Goexit()
	}
	panic(r.panicked)
}

// giveUp leaves w to what it is doing.
// Its goroutine ends when gRPC's method returns, at the latest when the handler has.
// The direction is closed for good: gRPC's method still runs, and a second one beside
// it would break gRPC's rules.
func (h *helpers) giveUp(w *helper, d direction, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.givenUp[d] = err
	w.abandoned.Store(true)
	close(w.work)
	return err
}

// A direction is that of a message.
type direction int

const (
	recv direction = iota
	send
)

// A task is a method to be called.
type task struct {
	direction

	m any
}

// A result is what came of a task.
type result struct {
	err      error
	returned bool // else it panicked or exited
	panicked any
}

// A helper is a goroutine that calls methods of a stream, one after the other.
type helper struct {
	work      chan struct{} // says that there is a task; closed when there will be no more
	task      task
	done      chan struct{} // says that there is a result
	result    result
	abandoned atomic.Bool // no method waits for the result
}

// serve is the goroutine of the helper. It ends when work is closed.
func (w *helper) serve(stream grpc.ServerStream) {
	for range w.work {
		w.do(stream, w.task)
	}
}

// do carries out t. A panic goes on in the method that waits; it is logged if none
// does.
func (w *helper) do(stream grpc.ServerStream, t task) {
	var r result
	defer func() {
		if !r.returned {
			r.panicked = recover()
		}
		if r.panicked != nil && w.abandoned.Load() {
			slog.Error("panic in a method of a stream that was given up", "panic", fmt.Sprint(r.panicked), "stack", string(debug.Stack()))
		}
		w.result = r
		w.done <- struct{}{} // also if a runtime.Goexit ends this goroutine
	}()
	if t.direction == recv {
		r.err = stream.RecvMsg(t.m)
	} else {
		r.err = stream.SendMsg(t.m)
	}
	r.returned = true
}
