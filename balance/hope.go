package balance

import (
	"context"
	"fmt"
	"sync"

	"github.com/turret-go/turret"
)

// A hope says whether there is reason to wait for an endpoint to be connected:
// while nothing is known of any, and while at least one is connected or has not
// failed to connect. Calls that fail fast end when it is lost. A nil hope is never
// lost.
type hope struct {
	mu     sync.Mutex
	reason int             // endpoints that are not known to be out of reach
	lost   context.Context // ends when reason is 0
	lose   context.CancelFunc

	failures map[*connection]string // why the last attempt to connect has failed, where that is known
	latest   *connection            // that has failed; nil if none has
	refusal  error                  // what calls get when hope is lost; nil if it is to be made
}

func newHope() *hope {
	h := &hope{failures: map[*connection]string{}}
	h.lost, h.lose = context.WithCancel(context.Background())
	return h
}

// add adds n, 1, 0 or -1, to the endpoints that may be within reach.
func (h *hope) add(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reason += n
	switch {
	case h.reason == 0:
		h.lose()
	case h.lost.Err() != nil:
		h.lost, h.lose = context.WithCancel(context.Background())
	}
}

// report notes why c could not be connected; "" if it is, or has left.
func (h *hope) report(c *connection, failure string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusal = nil
	if failure != "" {
		h.failures[c], h.latest = failure, c
		return
	}
	delete(h.failures, c)
	if h.latest != c {
		return
	}
	h.latest = nil
	for other := range h.failures {
		h.latest = other // or any other one: nobody has kept their order
		break
	}
}

// why says which endpoint failed last, or still does, and why; "" if that is not
// known. What gRPC says may match anything, and so it is only a text.
func (h *hope) why() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told()
}

// told is why, for callers that hold the mutex.
func (h *hope) told() string {
	if h.latest == nil {
		return ""
	}
	return h.latest.address + ": " + h.failures[h.latest]
}

// unreachable returns the error of a call when hope is lost: many get the same.
func (h *hope) unreachable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refusal == nil {
		err := ErrUnreachable
		if why := h.told(); why != "" {
			err = fmt.Errorf("%w: %s", ErrUnreachable, why)
		}
		h.refusal = refuse(turret.KindUnavailable, turret.ReasonNoEndpoint, err)
	}
	return h.refusal
}

// A lostHopeError is the cause of the end of a call's context.
type lostHopeError struct{ *hope }

func (lostHopeError) Error() string { return ErrUnreachable.Error() }

// onLost calls giveUp when h is lost, or at once if it is, until stop is called.
func (h *hope) onLost(giveUp context.CancelCauseFunc) (stop func() bool) {
	if h == nil {
		return func() bool { return true }
	}
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	return context.AfterFunc(lost, func() { giveUp(lostHopeError{h}) })
}
