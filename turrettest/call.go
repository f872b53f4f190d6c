package turrettest

import (
	"context"
	"runtime"

	"github.com/turret-go/turret"
)

// A Call is a call of a service, or of its Ready, on a goroutine of its own, so
// that a test can look whether it waits. It is what polling a future by hand is in
// tower-test. Its methods may be called concurrently.
type Call[Res any] struct {
	over   chan struct{} // closed after what follows
	res    Res
	err    error
	raises func() // panics or exits as the call did; nil if it returned
}

// Go calls s with req on a goroutine of its own.
//
//	call := turrettest.Go(ctx, service, "ping")
//	synctest.Wait()
//	if call.Over() { // it should wait for the answer
func Go[Req, Res any](ctx context.Context, s turret.Service[Req, Res], req Req) *Call[Res] {
	return begin(func() (Res, error) { return s.Call(ctx, req) })
}

// GoReady asks s whether it is ready on a goroutine of its own. The Res of its
// result is zero.
func GoReady[Req, Res any](ctx context.Context, s turret.Service[Req, Res]) *Call[Res] {
	return begin(func() (res Res, err error) { return res, s.Ready(ctx) })
}

func begin[Res any](f func() (Res, error)) *Call[Res] {
	c := &Call[Res]{over: make(chan struct{}), raises: runtime.Goexit} // unless f returns or panics
	go func() {
		defer close(c.over)
		defer func() {
			if p := recover(); p != nil {
				c.raises = func() { panic(p) }
			}
		}()
		c.res, c.err = f()
		c.raises = nil
	}()
	return c
}

// Over reports whether the call is over: returned, panicked, or its goroutine
// ended. In a synctest bubble ask after synctest.Wait, when nothing moves any
// more: a call that is not over then waits for something else.
func (c *Call[Res]) Over() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// Result waits until the call is over and returns what it returned. If the call
// panicked, Result panics with the same value, and if its goroutine ended with
// runtime.Goexit, so does this one.
func (c *Call[Res]) Result() (Res, error) {
	<-c.over
	if c.raises != nil {
		c.raises()
	}
	return c.res, c.err
}
