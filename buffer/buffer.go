package buffer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// The errors that stand for the reasons of a refusal. They are in reach of
// errors.Is; the refusal itself is a [*turret.Refusal].
var (
	// ErrFull: as many wait as may wait. The reason is BUFFER_FULL.
	ErrFull = errors.New("line full")
	// ErrClosed: the buffer was closed, or its service has failed for good. The
	// reason is BUFFER_CLOSED.
	ErrClosed = errors.New("line closed")
)

// The refusals that say no more than that.
var (
	errFull   = &turret.Refusal{Kind: turret.KindOverloaded, Layer: "buffer", Reason: turret.ReasonBufferFull, Err: ErrFull}
	errClosed = closedBy(ErrClosed)
)

func closedBy(err error) *turret.Refusal {
	return &turret.Refusal{Kind: turret.KindUnavailable, Layer: "buffer", Reason: turret.ReasonBufferClosed, Err: err}
}

// A Buffer is a bounded line in front of a service; the package says how it
// works. It is a [turret.Service]. Use [New]; its methods may be called
// concurrently.
type Buffer[Req, Res any] struct {
	inner turret.Service[Req, Res]
	line  line

	inside atomic.Int64  // calls of the inner service
	over   atomic.Uint64 // calls that were inside and were not refused there
}

// New returns a [Buffer] in front of inner in which at most n callers wait. It
// panics if inner is nil or n is less than 1.
func New[Req, Res any](inner turret.Service[Req, Res], n int) *Buffer[Req, Res] {
	if inner == nil {
		misuse.Check("buffer: New", &turret.FieldError{Package: "buffer", Field: "service", Bound: "non-nil"})
	}
	mustBound("buffer: New", n)
	return &Buffer[Req, Res]{inner: inner, line: line{max: n}}
}

// Layer returns a [turret.Layer] that puts a [Buffer] in front of each service
// that it wraps. A line stands in front of one service, so a Layer that is used
// twice makes two of them. They need not be closed. It panics if n is less than 1.
func Layer[Req, Res any](n int) turret.Layer[Req, Res] {
	mustBound("buffer: Layer", n)
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] { return New(inner, n) }
}

func mustBound(constructor string, n int) {
	if n < 1 {
		misuse.Check(constructor, &turret.FieldError{Package: "buffer", Field: "n", Value: n, Bound: "at least 1"})
	}
}

// Ready waits until there is a place in the line, and takes none. Whether the
// inner service is ready makes no difference: to wait for that is what the line
// is for. It fails for good with an error that matches [ErrClosed] when the
// buffer was closed, or when the inner service was found to have failed.
func (b *Buffer[Req, Res]) Ready(ctx context.Context) error { return b.line.ready(ctx) }

// Close refuses all calls that wait and all later ones, with [ErrClosed].
// Calls that have got in go on. There is nothing else to release, so a buffer
// that is dropped with no call in it need not be closed. Closing again does
// nothing.
func (b *Buffer[Req, Res]) Close() { b.line.close(errClosed) }

// patience is how many refusals in a row a call takes from a service that says
// that it is ready. One may come from a caller that was quicker and has left
// again.
const patience = 3

// Call calls the inner service when that is ready and all earlier callers have
// called it.
func (b *Buffer[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	number, first, err := b.line.arrive()
	if err != nil {
		return res, err
	}
	// ReadyNow costs nothing. If the result differs for this caller, the caller
	// checks again in line, or is refused.
	goes := first && turret.ReadyNow(b.inner) == nil
	for refusals := 0; ; goes = false {
		var w *waiter
		if !goes {
			if w, err = b.wait(ctx, number); err != nil {
				return res, err
			}
		}
		over := b.over.Load()
		res, err = b.call(ctx, req, w)
		if err == nil || !errors.Is(err, turret.ErrNotReady) || ctx.Err() != nil {
			return res, err
		}
		// Ready, or the end of a call, signals that room came back. Nothing else
		// can be waited for.
		if !b.readyFor(ctx) || b.over.Load() != over {
			refusals = 0
			continue
		}
		if refusals++; refusals == patience {
			return res, err
		}
	}
}

// call calls the inner service. w is nil for a call that has not waited.
func (b *Buffer[Req, Res]) call(ctx context.Context, req Req, w *waiter) (res Res, err error) {
	b.inside.Add(1)
	if w != nil {
		b.line.pass(w) // as late as possible
	}
	defer func() {
		b.inside.Add(-1)
		if err == nil || !errors.Is(err, turret.ErrNotReady) {
			b.over.Add(1) // also after a panic or Goexit
		}
	}()
	return b.inner.Call(ctx, req)
}

// readyFor asks the inner service, without waiting, for the owner of ctx.
func (b *Buffer[Req, Res]) readyFor(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return b.inner.Ready(ctx) == nil
}

// fail closes the buffer, as the inner service will never be ready again.
func (b *Buffer[Req, Res]) fail(why error) {
	b.line.close(closedBy(fmt.Errorf("%w: %w", ErrClosed, why)))
}

// wait waits in line until this caller may call the inner service. It has the
// turn then, and passes it on.
func (b *Buffer[Req, Res]) wait(ctx context.Context, number uint64) (*waiter, error) {
	w, err := b.line.join(number)
	if err != nil {
		return nil, err
	}
	goes := false
	defer func() {
		if !goes { // also after a panic or Goexit
			b.line.leave(w, ctx.Err() != nil)
		}
	}()
	for !goes {
		if err := b.line.turn(ctx, w); err != nil {
			return nil, err
		}
		if goes, err = b.ask(ctx, w); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// ask waits until the inner service is ready, and reports whether w goes to it.
func (b *Buffer[Req, Res]) ask(ctx context.Context, w *waiter) (goes bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.line.asking(w, cancel); err != nil {
		return false, err
	}
	unready := b.inner.Ready(ctx)
	if turret.IsFinal(unready) {
		b.fail(unready) // which expels w too
	}
	if goes, err = b.line.answered(w, unready == nil); err == nil && unready != nil {
		err = turret.NotReady(unready)
	}
	return goes, err
}

// Stats is what a [Buffer] was doing at one instant, and has done since it was
// made.
type Stats struct {
	Max     int // how many may wait
	Waiting int // calls in line
	Inside  int // calls of the inner service
	Closed  bool

	Over          uint64 // calls that have been inside, and were not refused there
	Full          uint64 // calls refused because the line was full, reason BUFFER_FULL
	RefusedClosed uint64 // calls refused because the buffer was closed, reason BUFFER_CLOSED
	Cancelled     uint64 // calls whose context ended while they were in line

	// Waited is how long calls have been in line, added up, those that were
	// refused or gave up too. A call that is still in line does not count yet.
	Waited time.Duration
}

// Stats returns a snapshot. The counters are read one after the other while
// calls go on.
func (b *Buffer[Req, Res]) Stats() Stats {
	s := b.line.stats()
	s.Over = b.over.Load()
	s.Inside = int(b.inside.Load())
	return s
}

// String returns the bound and the Stats in one line.
func (b *Buffer[Req, Res]) String() string {
	s := b.Stats()
	state := ""
	if s.Closed {
		state = ", closed"
	}
	return fmt.Sprintf("buffer: %d of %d waiting, %d inside, %d over, %d refused%s", s.Waiting, s.Max, s.Inside, s.Over, s.Full, state)
}
