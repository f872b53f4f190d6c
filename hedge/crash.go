package hedge

import (
	"log/slog"
	"runtime"
)

// A crash is how an attempt ended that did not return.
type crash struct {
	panic any // nil for a runtime.Goexit
	stack []byte
}

// crashed takes note of a crash, which decides the call, and reports whether it
// is the first.
func (r *race[Req, Res]) crashed(c *crash) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.close()
	r.cancel(ErrSuperseded)
	if r.crash != nil {
		return false
	}
	r.crash = c
	return true
}

// raise lets the crash of a hedge go on in the goroutine of the caller. That has
// another stack, so the one of a panic is logged.
func (r *race[Req, Res]) raise() {
	if r.crash.panic == nil {
		runtime.Goexit()
	}
	report("hedge: panic, raised in the caller", r.crash.panic, r.crash.stack)
	panic(r.crash.panic)
}

func report(text string, p any, stack []byte) {
	slog.Error(text, "panic", p, "stack", string(stack))
}
