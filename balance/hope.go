package balance

import (
	"context"
	"sync"
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
}

func newHope() *hope {
	h := new(hope)
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

// onLost calls giveUp when h is lost, or at once if it is, until stop is called.
func (h *hope) onLost(giveUp context.CancelCauseFunc) (stop func() bool) {
	if h == nil {
		return func() bool { return true }
	}
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	return context.AfterFunc(lost, func() { giveUp(errUnreachable) })
}
