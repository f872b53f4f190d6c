package turrettest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/turret-go/turret"
)

// A Recorder is a [turret.Gate] with room for every call that remembers how each
// call went. Put it around a layer to see the layer as the rest of a stack sees
// it:
//
//	calls := turrettest.NewRecorder()
//	service := turret.Stack(turret.Gated[Req, Res](calls, nil), layer)(inner)
//	...
//	calls.Outcomes() // one for each call that is over
//	calls.Inside()   // the calls that are not
//
// A Leave that has no Enter, or is the second one of its Enter, panics. Use
// [NewRecorder]. A Recorder may be used from many goroutines at once.
type Recorder struct {
	mu       sync.Mutex
	entered  uint64
	inside   map[uint64]struct{} // the numbers of the calls that have not left
	outcomes []turret.Outcome
	left     chan struct{} // closed when the next call leaves; nil while no goroutine waits for that
}

// NewRecorder returns a [Recorder] that has seen nothing.
func NewRecorder() *Recorder { return &Recorder{inside: map[uint64]struct{}{}} }

// Ready returns nil.
func (r *Recorder) Ready(context.Context) error { return nil }

// Enter lets the call in, unless ctx is done.
func (r *Recorder) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return r.TryEnter(ctx)
}

// TryEnter lets the call in.
func (r *Recorder) TryEnter(context.Context) (turret.Ticket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entered++
	r.inside[r.entered] = struct{}{}
	return turret.Ticket{Data: r.entered}, nil
}

// Leave records o. It panics if the call that t stands for is not inside.
func (r *Recorder) Leave(t turret.Ticket, o turret.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.inside[t.Data]; !ok {
		panic(fmt.Errorf("turrettest: Recorder.Leave: call %d is not inside (it left before, or never entered)", t.Data))
	}
	delete(r.inside, t.Data)
	r.outcomes = append(r.outcomes, o)
	if r.left != nil {
		close(r.left)
		r.left = nil
	}
}

// Outcomes returns how the calls went that are over, in the order in which they
// left. The slice is the caller's.
func (r *Recorder) Outcomes() []turret.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.outcomes)
}

// Inside returns how many calls are inside.
func (r *Recorder) Inside() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.inside)
}

// Await waits until at least n calls are over and returns the outcomes of all
// that are, or ctx's error if ctx ends first. It is for tests over a real
// network, where the end of a call is not always seen by the caller; in a
// synctest bubble, synctest.Wait and Outcomes say more.
func (r *Recorder) Await(ctx context.Context, n int) ([]turret.Outcome, error) {
	for {
		r.mu.Lock()
		if len(r.outcomes) >= n {
			outcomes := slices.Clone(r.outcomes)
			r.mu.Unlock()
			return outcomes, nil
		}
		if r.left == nil {
			r.left = make(chan struct{})
		}
		left := r.left
		r.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return r.Outcomes(), ctx.Err()
		}
	}
}

// Reset forgets the outcomes. Calls that are inside stay inside.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = nil
}

// String says in one line how many calls are inside, and how many are over.
func (r *Recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("recorder: %d inside, %d over", len(r.inside), len(r.outcomes))
}
