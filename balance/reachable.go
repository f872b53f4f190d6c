package balance

import (
	"context"
	"fmt"
	"sync"

	"github.com/turret-go/turret"
)

// reachability tracks how many endpoints may still connect: those that are
// connected, and those that have not failed to connect. RPCs that fail fast end
// when the number reaches zero. Before the first endpoint is known there is
// reason to wait. A nil reachability always has reason to wait.
type reachability struct {
	// mu guards everything below. It is taken with the mutex of a connection held, and calls
	// nothing but the cancel functions of contexts.
	mu      sync.Mutex
	hopeful int // endpoints that may still connect
	// A context, because RPCs that wait use context.AfterFunc, which needs no goroutine.
	lost context.Context // ends when hopeful is 0
	lose context.CancelFunc

	failures map[*connection]string // why the last attempt to connect failed, where that is known
	latest   *connection            // the connection that failed last; nil if none has
	source   string                 // why the source has found no address; "" if it has, or does not say
	refusal  error                  // what RPCs get when no endpoint can be reached; nil if it has to be made
}

func newReachability() *reachability {
	r := &reachability{failures: map[*connection]string{}}
	r.lost, r.lose = context.WithCancel(context.Background())
	return r
}

// add adds n, 1, 0 or -1, to the endpoints that may still connect.
// With 0 it only looks whether the number is 0: also when the first endpoint has failed
// before it was counted.
func (r *reachability) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hopeful += n
	switch {
	case r.hopeful == 0:
		r.lose()
	case r.lost.Err() != nil:
		r.lost, r.lose = context.WithCancel(context.Background())
	}
}

// report notes why c could not connect; "" means that it is connected, or has
// left.
func (r *reachability) report(c *connection, failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = nil
	if failure != "" {
		r.failures[c], r.latest = failure, c
		return
	}
	delete(r.failures, c)
	if r.latest != c {
		return
	}
	r.latest = nil
	for other := range r.failures {
		r.latest = other // any of them: their order is not kept
		break
	}
}

// reportSource notes why the source has failed to find addresses; "" means that it
// has found some. RPCs do not wait for endpoints that a source cannot find.
func (r *reachability) reportSource(failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.source, r.refusal = failure, nil
	if failure != "" && r.hopeful == 0 {
		r.lose()
	}
}

// why returns the address of the endpoint that failed last and its failure; else
// what the source says, or "" if that is not known. The failure is only text: what gRPC returned may match
// any error.
func (r *reachability) why() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.whyLocked()
}

// whyLocked is why, for callers that hold the mutex.
func (r *reachability) whyLocked() string {
	if r.latest == nil {
		return r.source
	}
	return r.latest.address + ": " + r.failures[r.latest]
}

// unreachable returns the error of an RPC when no endpoint can be reached. Many
// RPCs get the same one.
// It is made once after each change, because a lost server fails RPCs by the
// thousand.
func (r *reachability) unreachable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusal == nil {
		err := ErrUnreachable
		if why := r.whyLocked(); why != "" {
			err = fmt.Errorf("%w: %s", ErrUnreachable, why)
		}
		r.refusal = refuse(turret.KindUnavailable, turret.ReasonNoEndpoint, err)
	}
	return r.refusal
}

// An unreachableError is the cause with which the context of a waiting RPC ends.
type unreachableError struct{ *reachability }

func (unreachableError) Error() string { return ErrUnreachable.Error() }

// onLost calls giveUp when no endpoint can be reached any more, or at once if none
// can, until stop is called.
func (r *reachability) onLost(giveUp context.CancelCauseFunc) (stop func() bool) {
	if r == nil {
		return func() bool { return true }
	}
	r.mu.Lock()
	lost := r.lost
	r.mu.Unlock()
	return context.AfterFunc(lost, func() { giveUp(unreachableError{r}) })
}
