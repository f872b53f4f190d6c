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

// hammer uses the gate from many goroutines at once, none of which sleeps. The
// bubble's clock stands still until all of them wait for room, that is, until
// the gate has lost some.
func hammer(s *subject) {
	const callers, calls = 8, 150
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer time.AfterFunc(time.Hour, func() {
		s.Error("all calls wait, and nobody is inside: room, or a wake-up, was lost")
		cancel()
	}).Stop()
	began := time.Now()
	var inside atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			h := &hammerer{s, rand.New(rand.NewPCG(1, uint64(i))), &inside}
			for range calls {
				h.call(ctx)
			}
		})
	}
	wg.Wait()
	if waited := time.Since(began); waited > 0 {
		s.Errorf("time passed (%v): all calls waited, and nobody was inside", waited)
	}
	s.wantRoom()
}

// A hammerer is one caller of the hammer.
type hammerer struct {
	s      *subject
	rand   *rand.Rand
	inside *atomic.Int64
}

// call makes one call, of a kind and with a patience drawn at random.
func (h *hammerer) call(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	impatient := h.rand.IntN(2) == 0 || h.s.room == 0
	if impatient {
		n := h.rand.IntN(20)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { dawdle(n); cancel() })
	}
	switch h.rand.IntN(8) {
	case 0:
		h.s.print()
	case 1:
		// Only calls that will give up may wait here: while others come and go, there
		// may never be an instant with room and an empty line.
		if !impatient {
			ctx = ended(ctx)
		}
		_ = h.s.gate.Ready(ctx)
	case 2, 3:
		h.visit(h.s.gate.TryEnter(ctx))
	default:
		h.visit(h.s.gate.Enter(ctx))
	}
}

// visit stays inside for a moment, if it got in.
func (h *hammerer) visit(ticket turret.Ticket, err error) {
	if err != nil {
		return
	}
	if n := h.inside.Add(1); h.s.room >= 0 && n > int64(h.s.room) {
		h.s.Errorf("%d calls are inside, want at most %d", n, h.s.room)
	}
	dawdle(h.rand.IntN(10))
	h.inside.Add(-1)
	h.s.gate.Leave(ticket, turret.Unused)
}

// dawdle lets others run n times.
func dawdle(n int) {
	for range n {
		runtime.Gosched()
	}
}
