package balance

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/circuit"
)

// An ambush is a tracker that bans the endpoint as the better one of two is looked
// for: after its standing was asked for and before it is entered.
type ambush struct {
	tracker

	e    *endpoint
	asks *int // of all endpoints
}

func (a ambush) Load(now int64) float64 {
	if *a.asks++; *a.asks%2 == 1 { // the first one of two, which wins a tie
		a.e.pool.ban(now, a.e, &a.e.failures)
	}
	return 0
}

// A call for which the endpoint that it chose was banned in that moment, and the
// next one too, goes to one that is left.
func TestBannedWhileChosen(t *testing.T) {
	var p pool
	p.init(func(Transition) {}, func() { t.Error("sent to one that is banned") })
	s := &snapshot{config: newSettings(Config{OnBanned: Refuse}.withDefaults())}
	asks := 0
	for i := range 4 {
		e := newEndpoint(&p, s.config, "")
		s.choices = append(s.choices, choice{e, ambush{e.tracker(), e, &asks}, i})
	}
	p.count(len(s.choices))
	if _, err := s.choose(new(visit), 0, nil); err != nil || p.outOfUse() != 2 {
		t.Errorf("%v with %d of 4 banned, want 2 and no error", err, p.outOfUse())
	}
}

// An endpoint is out until both of its circuits are closed, and counted for as long
// as it is there.
func TestOutUntilBothAreClosed(t *testing.T) {
	for _, goes := range []int{2, 3, 4} { // after so many steps
		var p pool
		p.init(func(Transition) {}, func() {})
		p.count(2)
		e := newEndpoint(&p, newSettings(Config{}.withDefaults()), "")
		recovers := func(c *circuit.Circuit) {
			c.Reset()
			p.heed(0, e, c, circuit.Recovered)
		}
		for k, step := range []func(){
			func() { p.ban(0, e, &e.failures) },
			func() { p.ban(0, e, &e.slowness) },
			func() { recovers(&e.failures) },
			func() { recovers(&e.slowness) },
		} {
			if k == goes {
				forget(&p, e)
				forget(&p, e)
			}
			step()
			out, counted := k < 3, 0
			if out && k < goes {
				counted = 1
			}
			if e.out.Load() != out || e.standing(0, nil) == banned != out || p.outOfUse() != counted {
				t.Errorf("gone after %d, step %d: out %t, standing %d, counted %d", goes, k, e.out.Load(), e.standing(0, nil), p.outOfUse())
			}
		}
	}
}

// Whatever begins and ends at the same time, also at endpoints that have gone: no
// call is refused while an endpoint is in use, banned endpoints are counted, and
// all of them return.
func TestBansAtTheSameTime(t *testing.T) {
	const endpoints, workers, calls = 12, 4, 5_000
	var p pool
	var bans atomic.Int64
	p.init(func(Transition) { bans.Add(1) }, func() {})
	p.failing.next.Store(math.MaxInt64) // no row of failures is ordinary
	s := &snapshot{config: newSettings(Config{OnBanned: Refuse, MaxBanned: 0.25, Limit: 100}.withDefaults())}
	for i := range endpoints {
		s.choices = append(s.choices, newChoice(newEndpoint(&p, s.config, ""), i))
	}
	p.count(endpoints)
	var clock atomic.Int64
	step := func(outcome func(i int, now int64) (turret.Outcome, time.Duration)) {
		now := clock.Add(int64(time.Millisecond))
		var v visit
		c, err := s.choose(&v, now, nil)
		if err != nil {
			t.Errorf("%v with %d of %d out", err, p.outOfUse(), endpoints)
			return
		}
		v.start(c, now, false)
		o, took := outcome(c.index, now)
		if now%5 == 0 {
			runtime.Gosched()
		}
		v.ticket.Start -= int64(took)
		c.finish(&v, now, o, 0)
	}
	var work sync.WaitGroup
	var left [workers]bool
	for w := range workers {
		work.Go(func() {
			for n := range calls {
				step(troubled)
				if n > calls*w/workers && !left[w] {
					left[w] = leave(&p, s.choices)
				}
			}
		})
	}
	work.Wait()
	if checkOut(t, &p, s.choices); bans.Load() == 0 {
		t.Error("there were no bans")
	}
	for range 100 * endpoints {
		clock.Add(int64(100 * time.Millisecond))
		step(func(int, int64) (turret.Outcome, time.Duration) { return turret.Success, time.Millisecond })
	}
	for i, c := range s.choices {
		if c.out.Load() || c.inflight.Load() != 0 || p.outOfUse() != 0 {
			t.Errorf("in the end %d is out: %t, %d in flight, %d out of use", i, c.out.Load(), c.inflight.Load(), p.outOfUse())
		}
	}
}

// checkOut checks that endpoints are out while one of their circuits is not closed,
// and that those that are left are counted.
func checkOut(t *testing.T, p *pool, choices []choice) {
	t.Helper()
	out := 0
	for i, c := range choices {
		open := !c.failures.IsClosed() || !c.slowness.IsClosed()
		if open != c.out.Load() {
			t.Errorf("%d has a circuit that is not closed: %t, is out: %t", i, open, c.out.Load())
		}
		if open && !c.gone {
			out++
		}
	}
	if got := p.outOfUse(); got != out {
		t.Errorf("%d are out, counted %d", out, got)
	}
}

// forget takes e out of the count of p.
func forget(p *pool, e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(e)
}

// leave forgets one that is out, and reports whether there was any.
func leave(p *pool, choices []choice) bool {
	i := slices.IndexFunc(choices, func(c choice) bool { return c.out.Load() })
	if i >= 0 {
		forget(p, choices[i].endpoint)
		forget(p, choices[i].endpoint) // it may be gone already
	}
	return i >= 0
}

// troubled is how a call goes where two of six endpoints fail, and two are slow, one
// of them the same; which of them do changes.
func troubled(i int, now int64) (o turret.Outcome, took time.Duration) {
	o, took = turret.Success, time.Millisecond
	k := (i + int(now/int64(time.Second))) % 6
	if k < 2 {
		o = turret.Failure
	}
	if k == 1 || k == 2 {
		took = 10 * time.Second
	}
	return o, took
}
