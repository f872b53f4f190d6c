package limit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// A space is what the model knows of room: the simplest arithmetic that can be
// right, for small numbers.
type space interface {
	free() bool
	take()
	put(o turret.Outcome)
	pass(d time.Duration, waited bool)
	// next is how long it takes until there is room by itself; negative: never.
	next() time.Duration
	// refused is the least and the most RetryAfter of a refusal while n wait.
	refused(n int) (least, most time.Duration)
}

// spots is the space of a concurrency limit.
type spots struct{ max, inside int }

func (s *spots) free() bool                              { return s.inside < s.max }
func (s *spots) take()                                   { s.inside++ }
func (s *spots) put(turret.Outcome)                      { s.inside-- }
func (s *spots) pass(time.Duration, bool)                {}
func (s *spots) next() time.Duration                     { return -1 }
func (s *spots) refused(int) (least, most time.Duration) { return 0, 0 }

// coins is the space of a token bucket. The level counts tokens times Per.
type coins struct {
	rate  limit.Rate
	level int64
}

func (c *coins) free() bool { return c.level >= int64(c.rate.Per) }
func (c *coins) take()      { c.level -= int64(c.rate.Per) }
func (c *coins) cut()       { c.level = min(c.level, int64(c.rate.Burst)*int64(c.rate.Per)) }

func (c *coins) put(o turret.Outcome) {
	if o == turret.Unused {
		c.level += int64(c.rate.Per)
		c.cut()
	}
}

// pass adds what comes in d. A full bucket loses it, but for the fraction of a
// nanosecond by which a waiting call got a token too late.
func (c *coins) pass(d time.Duration, waited bool) {
	full := int64(c.rate.Burst) * int64(c.rate.Per)
	wasFull := c.level == full
	c.level += int64(d) * int64(c.rate.N)
	if c.level > full {
		part := c.level % int64(c.rate.Per)
		c.level = full
		if waited && !wasFull {
			c.level += min(part, int64(c.rate.N)-1)
		}
	}
}

func (c *coins) next() time.Duration { return c.newcomer(0) }

func (c *coins) newcomer(n int) time.Duration {
	lack := max(0, int64(n+1)*int64(c.rate.Per)-c.level)
	return time.Duration((lack + int64(c.rate.N) - 1) / int64(c.rate.N))
}

// refused tells of a token behind the line, of as many as come in a second, or 16.
func (c *coins) refused(n int) (least, most time.Duration) {
	spread := max(16, int(int64(c.rate.N)*int64(time.Second)/int64(c.rate.Per)))
	return c.newcomer(n), c.newcomer(n + spread - 1)
}

func (c *coins) setRate(r limit.Rate) {
	tokens, part := c.level/int64(c.rate.Per), c.level%int64(c.rate.Per)
	c.level = tokens*int64(r.Per) + part*int64(r.Per)/int64(c.rate.Per)
	c.rate = r
	c.cut()
}

// A visit is one call of the gate: what became of it, and what the model says.
type visit struct {
	over   atomic.Bool // set after ticket and err
	ticket turret.Ticket
	err    error
	cancel context.CancelFunc

	want        string        // "waits", "in", "gave up", or the reason of a refusal
	least, most time.Duration // of RetryAfter
	since       time.Duration
	longest     time.Duration // in line; 0: for ever
}

// overdue reports whether v has waited for as long as it may.
func (v *visit) overdue(now time.Duration) bool {
	return v.longest > 0 && v.since+v.longest <= now
}

// got returns what became of the visit, in the words of the model.
func (v *visit) got() string {
	if !v.over.Load() {
		return "waits"
	}
	refusal, refused := errors.AsType[*turret.Refusal](v.err)
	switch {
	case v.err == nil:
		return "in"
	case refused:
		return refusal.Reason
	case errors.Is(v.err, context.Canceled) && errors.Is(v.err, turret.ErrNotReady):
		return "gave up"
	default:
		return v.err.Error()
	}
}

// A world is a gate in a bubble and the model of it.
type world struct {
	*testing.T

	gate   turret.Gate
	space  space
	queue  limit.Queue
	noRoom string // the reason of a refusal without a line
	retune func(arg byte)
	check  func() // compares the gate's Stats with the model

	now    time.Duration
	visits []*visit // all of them
	line   []*visit
	polls  []*visit
	inside []*visit
}

// run plays a schedule: each step is a byte for the operation, and one for
// the call or the amount.
func (w *world) run(schedule []byte) {
	for len(schedule) >= 2 {
		w.step(schedule[0]%9, schedule[1])
		schedule = schedule[2:]
		synctest.Wait()
		w.compare()
	}
	for _, v := range w.visits {
		v.cancel()
	}
	synctest.Wait()
}

func (w *world) step(what, arg byte) {
	switch what {
	case 0, 1:
		w.enter()
	case 2:
		w.tryEnter()
	case 3:
		w.leave(arg)
	case 4:
		w.giveUp(arg)
	case 5:
		w.sleep(time.Duration(arg))
	case 6:
		w.ready()
	case 7:
		w.retune(arg)
		w.settle()
	case 8:
		w.queue = smallQueue(arg, arg/6)
		w.gate.(interface{ SetQueue(q limit.Queue) }).SetQueue(w.queue)
	}
}

// compare fails the test if the gate and the model disagree.
func (w *world) compare() {
	w.Helper()
	for i, v := range w.visits {
		if got := v.got(); got != v.want {
			w.Fatalf("at %v: visit %d: %s, the model says %s", w.now, i, got, v.want)
		}
		if !v.over.Load() {
			continue
		}
		// Calls that have waited too long in the same instant leave in any order, and
		// have more or fewer behind them.
		refusal, refused := errors.AsType[*turret.Refusal](v.err)
		if refused && v.want != turret.ReasonQueueTimeout && (refusal.RetryAfter < v.least || refusal.RetryAfter > v.most) {
			w.Fatalf("at %v: visit %d: retry after %v, the model says %v to %v", w.now, i, refusal.RetryAfter, v.least, v.most)
		}
	}
	w.check()
}

// begin starts f on a goroutine of its own.
func (w *world) begin(f func(ctx context.Context) (turret.Ticket, error)) *visit {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visit{cancel: cancel, want: "waits", since: w.now}
	w.visits = append(w.visits, v)
	go func() {
		v.ticket, v.err = f(ctx)
		v.over.Store(true)
	}()
	return v
}

func (w *world) enter() {
	v := w.begin(w.gate.Enter)
	switch {
	case w.space.free():
		w.letIn(v)
	case w.queue.Max == 0:
		w.refuse(v, w.noRoom)
	case w.queue.Max > 0 && len(w.line) >= w.queue.Max:
		w.refuse(v, turret.ReasonQueueFull)
	default:
		v.longest = w.queue.Timeout
		w.line = append(w.line, v)
	}
}

func (w *world) tryEnter() {
	v := w.begin(w.gate.TryEnter)
	if w.space.free() {
		w.letIn(v)
	} else {
		w.refuse(v, w.noRoom)
	}
}

func (w *world) letIn(v *visit) {
	v.want = "in"
	w.space.take()
	w.inside = append(w.inside, v)
}

func (w *world) refuse(v *visit, reason string) {
	v.want = reason
	v.least, v.most = w.space.refused(len(w.line))
}

func (w *world) leave(arg byte) {
	if len(w.inside) == 0 {
		return
	}
	i := int(arg) % len(w.inside)
	o := turret.Outcome(arg / 16 % 6)
	w.gate.Leave(w.inside[i].ticket, o)
	w.inside = slices.Delete(w.inside, i, i+1)
	w.space.put(o)
	w.settle()
}

// giveUp cancels a waiting call.
func (w *world) giveUp(arg byte) {
	waiting := slices.Concat(w.line, w.polls)
	if len(waiting) == 0 {
		return
	}
	v := waiting[int(arg)%len(waiting)]
	v.cancel()
	v.want = "gave up"
	isV := func(other *visit) bool { return other == v }
	w.line = slices.DeleteFunc(w.line, isV)
	w.polls = slices.DeleteFunc(w.polls, isV)
	w.settle()
}

func (w *world) ready() {
	v := w.begin(func(ctx context.Context) (turret.Ticket, error) {
		return turret.Ticket{}, w.gate.Ready(ctx)
	})
	w.polls = append(w.polls, v)
	w.settle()
}

// settle gives the model's free room to waiting calls.
func (w *world) settle() {
	for len(w.line) > 0 && w.space.free() {
		w.letIn(w.line[0])
		w.line = w.line[1:]
	}
	if len(w.line) == 0 && w.space.free() {
		for _, v := range w.polls {
			v.want = "in"
		}
		w.polls = nil
	}
}

// sleep lets d pass, from event to event: room comes, a call has waited long
// enough. Room that comes in the same instant is in time.
func (w *world) sleep(d time.Duration) {
	for end := w.now + d; ; {
		w.settle()
		for {
			i := slices.IndexFunc(w.line, func(v *visit) bool { return v.overdue(w.now) })
			if i < 0 {
				break
			}
			v := w.line[i]
			w.line = slices.Delete(w.line, i, i+1)
			w.refuse(v, turret.ReasonQueueTimeout)
			w.settle()
		}
		if w.now == end {
			break
		}
		step := end - w.now
		if next := w.space.next(); next > 0 {
			step = min(step, next)
		}
		for _, v := range w.line {
			if v.longest > 0 {
				step = min(step, v.since+v.longest-w.now)
			}
		}
		w.space.pass(step, len(w.line) > 0)
		w.now += step
	}
	time.Sleep(d)
}

// playConcurrency runs a schedule of everything that can be done with a
// concurrency limit, in virtual time, beside the model.
func playConcurrency(t *testing.T, places byte, q limit.Queue, schedule []byte) {
	synctest.Test(t, func(t *testing.T) {
		space := &spots{max: int(places % 5)}
		gate := limit.NewConcurrency(space.max, q)
		w := &world{T: t, gate: gate, space: space, queue: q, noRoom: turret.ReasonLimitFull}
		w.retune = func(arg byte) {
			space.max = int(arg % 5)
			gate.SetMax(space.max)
		}
		w.check = func() {
			got := gate.Stats()
			if got.Max != space.max || got.InFlight != len(w.inside) || got.Waiting != len(w.line) {
				t.Fatalf("at %v: %v, the model says %+v with %d in line", w.now, gate, *space, len(w.line))
			}
		}
		w.run(schedule)
	})
}

// playTokenBucket does the same with a token bucket.
func playTokenBucket(t *testing.T, rate byte, q limit.Queue, schedule []byte) {
	synctest.Test(t, func(t *testing.T) {
		r := smallRate(rate)
		space := &coins{rate: r, level: int64(r.Burst) * int64(r.Per)}
		gate := limit.NewTokenBucket(r, q)
		w := &world{T: t, gate: gate, space: space, queue: q, noRoom: turret.ReasonRateLimited}
		w.retune = func(arg byte) {
			space.setRate(smallRate(arg))
			gate.SetRate(smallRate(arg))
		}
		w.check = func() {
			got := gate.Stats()
			tokens := int(space.level / int64(space.rate.Per))
			if got.Tokens != tokens || got.Waiting != len(w.line) || got.Rate != space.rate {
				t.Fatalf("at %v: %v, the model says %d tokens with %d in line", w.now, gate, tokens, len(w.line))
			}
		}
		w.run(schedule)
	})
}

// smallQueue makes a queue of two bytes.
func smallQueue(most, timeout byte) limit.Queue {
	q := limit.Queue{Max: int(most%6) - 1, Timeout: time.Duration(timeout)}
	if q.Max == 0 {
		q.Timeout = 0
	}
	return q
}

// smallRate makes a rate of a byte, whose tokens seldom come on a whole
// nanosecond.
func smallRate(b byte) limit.Rate {
	return limit.Rate{N: int(b%7) + 1, Per: time.Duration(b/7) + 1, Burst: int(b%4) + 1}
}

func FuzzConcurrency(f *testing.F) {
	f.Add(byte(2), byte(0), byte(0), []byte{0, 0, 0, 0, 0, 0, 6, 0, 3, 0, 4, 0, 3, 0})
	f.Add(byte(1), byte(3), byte(50), []byte{0, 0, 0, 0, 5, 20, 0, 0, 5, 40, 3, 0, 7, 0, 7, 3})
	f.Add(byte(1), byte(0), byte(0), []byte{0, 0, 0, 0, 8, 48, 0, 0, 0, 0, 8, 1, 0, 0, 5, 9, 3, 0, 3, 0})
	f.Add(byte(3), byte(0), byte(9), []byte{0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 3, 0, 3, 0, 2, 0, 5, 9, 7, 5})
	f.Fuzz(func(t *testing.T, places, most, timeout byte, schedule []byte) {
		playConcurrency(t, places, smallQueue(most, timeout), schedule[:min(len(schedule), 200)])
	})
}

func FuzzTokenBucket(f *testing.F) {
	f.Add(byte(16), byte(0), byte(0), []byte{0, 0, 0, 0, 0, 0, 6, 0, 5, 1, 5, 1, 3, 80, 4, 0})
	f.Add(byte(200), byte(4), byte(20), []byte{0, 0, 0, 0, 0, 0, 0, 0, 5, 7, 2, 0, 5, 20, 7, 30, 5, 3})
	f.Add(byte(100), byte(0), byte(30), []byte{0, 0, 0, 0, 7, 250, 0, 0, 3, 80, 6, 0, 5, 29, 4, 1, 5, 1})
	f.Fuzz(func(t *testing.T, rate, most, timeout byte, schedule []byte) {
		playTokenBucket(t, rate, smallQueue(most, timeout), schedule[:min(len(schedule), 200)])
	})
}

// TestRandomSchedules plays schedules that are drawn at random, the same ones in
// each run.
func TestRandomSchedules(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		schedule := make([]byte, 120)
		for i := range schedule {
			schedule[i] = byte(random.Uint32())
		}
		seed, q := byte(random.Uint32()), smallQueue(byte(random.Uint32()), byte(random.Uint32()))
		playConcurrency(t, seed, q, schedule)
		playTokenBucket(t, seed, q, schedule)
		if t.Failed() {
			t.Fatalf("seed %d, queue %+v, schedule %v", seed, q, schedule)
		}
	}
}
