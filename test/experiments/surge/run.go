package surge

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/test/experiments/sim"
)

// A Door stands before a server and decides which calls it gets.
type Door interface {
	// Enter lets a call in, or refuses it with an error. It may wait until ctx is
	// done. leave is called once, with how the call went.
	Enter(ctx context.Context, c *Call) (leave func(o turret.Outcome), err error)
}

// Streams says what a door does with streams.
type Streams uint8

// What doors do with streams.
const (
	Pass Streams = iota // does not see them
	Hold                // a stream holds a place as long as it lives
	Turn                // a stream waits for a place and gives it back at once
)

// A Limit makes doors.
type Limit struct {
	Name string
	// Door makes the door of one server. busy returns how much processing the
	// server has done.
	Door func(sc Scenario, busy func() time.Duration) Door
	// Options are how gRPC servers install it; nil: an interceptor that enters the
	// door.
	Options func(sc Scenario) []grpc.ServerOption
	Streams Streams
	// Dial is how each client meets the server, over gRPC; nil: with nothing.
	Dial func() []grpc.DialOption
	// Front is what the server in front has, as a server and as a client.
	Front func(sc Scenario) ([]grpc.ServerOption, []grpc.DialOption)
}

// A world is one run.
type world struct {
	Scenario

	begin  time.Time
	server Server
	calls  []*Call
	door   Door
	limit  *Limit
	behind *grpc.ClientConn // of the server in front
}

// warmup is how long connections and tickers have before the load begins.
const warmup = time.Second

// Run plays a scenario with a limit and a seed: every call enters the door in a
// goroutine. It must be called outside of a synctest bubble, and makes one.
func Run(t *testing.T, sc Scenario, l *Limit, seed uint64) (r *Result) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(sc, l, seed)
		w.load(w.direct)
		r = &Result{Scenario: sc, Calls: w.calls}
	})
	return r
}

// newWorld must be called inside the bubble.
func newWorld(sc Scenario, l *Limit, seed uint64) *world {
	time.Sleep(time.Until(sim.Epoch))
	w := &world{Scenario: sc, calls: sc.calls(seed), server: sc.Server(), limit: l}
	if l.Door != nil {
		w.door = l.Door(sc, w.server.Busy)
	}
	w.begin = time.Now().Add(warmup)
	return w
}

func (w *world) now() time.Duration { return time.Since(w.begin) }

// load makes the calls and returns when the last has ended.
func (w *world) load(call func(ctx context.Context, c *Call)) {
	if w.Changes > 0 {
		time.AfterFunc(time.Until(w.begin.Add(w.Quiet)), func() { w.server.Change(w.Changes) })
		time.AfterFunc(time.Until(w.begin.Add(w.end())), func() { w.server.Change(1 / w.Changes) })
	}
	var all sync.WaitGroup
	for _, c := range w.calls {
		time.Sleep(c.At - w.now())
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), w.Deadline)
			defer cancel()
			call(ctx, c)
		})
	}
	all.Wait()
}

// direct makes a call without gRPC.
func (w *world) direct(ctx context.Context, c *Call) {
	if c.Stream && w.limit.Streams == Pass {
		c.Answered = w.now()
		return
	}
	leave, err := w.door.Enter(ctx, c)
	switch {
	case err != nil:
	case c.Stream && w.limit.Streams == Turn:
		c.Answered = w.now()
		leave(turret.Unused)
	case c.Stream:
		c.Answered = w.now()
		time.Sleep(5 * s1)
		leave(turret.Success)
	default:
		leave(w.answer(ctx, c))
	}
}

// answer does what the server does for a call that was let in.
func (w *world) answer(ctx context.Context, c *Call) turret.Outcome {
	if c.Hangs {
		<-ctx.Done()
		return turret.Failure
	}
	w.server.Do(ctx, c)
	if ctx.Err() != nil {
		c.Late = true
		return turret.Failure
	}
	c.Answered = w.now()
	return turret.Success
}
