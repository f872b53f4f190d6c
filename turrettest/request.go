package turrettest

import (
	"context"
	"runtime"
	"slices"
)

// A Request is one call of a [Mock], waiting for the test's answer. It takes one
// answer; the first one counts. Its methods may be called from any goroutine,
// and report whether the answer reached the call: false if it has one already,
// or if its caller gave up.
type Request[Req, Res any] struct {
	// Context is the context that the call was made with.
	Context context.Context
	// Request is what was sent.
	Request Req

	mock   *Mock[Req, Res]
	held   bool // guarded by mock.mu
	answer chan answer[Res]
}

// An answer is run by the goroutine that waits in Call.
type answer[Res any] func() (Res, error)

// Respond answers with res.
func (r *Request[Req, Res]) Respond(res Res) bool {
	return r.reply(func() (Res, error) { return res, nil })
}

// Fail answers with err.
func (r *Request[Req, Res]) Fail(err error) bool { return r.reply(failure[Res](err)) }

// Panic makes the call panic with v, on its own goroutine.
func (r *Request[Req, Res]) Panic(v any) bool {
	return r.reply(func() (Res, error) { panic(v) })
}

// Goexit makes the call end its goroutine with [runtime.Goexit], as a t.FailNow
// in a fake does.
func (r *Request[Req, Res]) Goexit() bool {
	return r.reply(func() (res Res, err error) { runtime.Goexit(); return res, nil })
}

// Hold makes the call wait for its answer even when its context ends: a service
// that works on. It has no effect on a call that is over.
func (r *Request[Req, Res]) Hold() {
	r.mock.mu.Lock()
	defer r.mock.mu.Unlock()
	r.held = true
}

func (r *Request[Req, Res]) reply(a answer[Res]) bool {
	r.mock.mu.Lock()
	defer r.mock.mu.Unlock()
	if !remove(&r.mock.taken, r) {
		return false
	}
	r.answer <- a // has room: only the goroutine that removes the request answers it
	return true
}

func failure[Res any](err error) answer[Res] {
	return func() (res Res, _ error) { return res, err }
}

// remove takes r out of list and reports whether it was there.
func remove[T comparable](list *[]T, r T) bool {
	i := slices.Index(*list, r)
	if i < 0 {
		return false
	}
	*list = slices.Delete(*list, i, i+1)
	return true
}
