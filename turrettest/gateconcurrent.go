package turrettest

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
)

// concurrentCalls uses the gate from many goroutines at once, none of which sleeps. The
// bubble's clock stands still until all of them wait for room, that is, until
// the gate has lost some.
func concurrentCalls(s *subject) {
	const callers, calls = 8, 150
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer time.AfterFunc(time.Hour, func() {
		s.Error("all calls wait and none is inside: room, or a wake-up, was lost")
		cancel()
	}).Stop()
	began := time.Now()
	var inside atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			c := &concurrentCaller{s, rand.New(rand.NewPCG(1, uint64(i))), &inside}
			for range calls {
				c.call(ctx)
			}
		})
	}
	wg.Wait()
	if waited := time.Since(began); waited > 0 {
		s.Errorf("time passed (%v): all calls waited and none was inside", waited)
	}
	s.wantRoom()
}

// A concurrentCaller is one of the callers of concurrentCalls.
type concurrentCaller struct {
	s      *subject
	rand   *rand.Rand
	inside *atomic.Int64
}

// call makes one call, of a kind and with a patience drawn at random.
func (c *concurrentCaller) call(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	impatient := c.rand.IntN(2) == 0 || c.s.room == 0
	if impatient {
		n := c.rand.IntN(20)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { yield(n); cancel() })
	}
	switch c.rand.IntN(8) {
	case 0:
		c.s.print()
	case 1:
		// Only calls that will give up may wait here: while others come and go, there
		// may never be an instant with room and an empty line.
		if !impatient {
			ctx = ended(ctx)
		}
		_ = c.s.gate.Ready(ctx)
	case 2, 3:
		c.visit(c.s.gate.TryEnter(ctx))
	default:
		c.visit(c.s.gate.Enter(ctx))
	}
}

// visit stays inside for a moment, if it got in.
func (c *concurrentCaller) visit(ticket turret.Ticket, err error) {
	if err != nil {
		return
	}
	if n := c.inside.Add(1); c.s.room >= 0 && n > int64(c.s.room) {
		c.s.Errorf("%d calls are inside, want at most %d", n, c.s.room)
	}
	yield(c.rand.IntN(10))
	c.inside.Add(-1)
	c.s.gate.Leave(ticket, turret.Unused)
}

// yield lets other goroutines run n times.
func yield(n int) {
	for range n {
		runtime.Gosched()
	}
}
