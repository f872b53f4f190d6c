// Package background runs work that belongs to a service and not to one call of
// it. A panic there could reach no caller and must not end the process: it
// becomes an error.
package background

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
)

// The errors of work that did not return. They do not contain the value of the
// panic, because errors are sent to others; the log has it.
var (
	ErrPanicked = errors.New("panicked, see the log")
	ErrExited   = errors.New("exited its goroutine")
)

// Go runs f on a goroutine that wg waits for, and then done, on the same
// goroutine, with the error of f. If f does not return but panics or exits, done
// gets [ErrPanicked] or [ErrExited]; a panic is logged as one of what, and so is
// one of done.
//
// As with wg.Go, the owner of wg sees to it that no work is added once it waits.
func Go(wg *sync.WaitGroup, what string, f func() error, done func(error)) {
	wg.Go(func() {
		defer caught(what, func() {})
		err := ErrExited // unless f returns or panics
		defer func() { done(err) }()
		defer caught(what, func() { err = ErrPanicked })
		err = f()
	})
}

// Close closes s if it has a method Close() error or Close(). Its error is
// dropped; a panic is logged as a panic of what.
func Close(what string, s any) {
	defer caught(what, func() {})
	switch s := s.(type) {
	case io.Closer:
		_ = s.Close()
	case interface{ Close() }:
		s.Close()
	}
}

// caught is to be deferred: it logs a panic, and then calls f.
func caught(what string, f func()) {
	if p := recover(); p != nil {
		slog.Default().Error("panic in the background", "in", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		f()
	}
}
