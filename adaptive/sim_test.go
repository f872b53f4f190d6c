package adaptive

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/turret-go/turret"
)

// A sim plays calls against a gate in virtual time: a heap of events, no
// goroutine, no clock. The same seed always gives the same result.
type sim struct {
	now    int64
	events events
	seq    uint64
	rand   *rand.Rand
	gate   *gate
	armed  int64 // when the gate's timer fires

	stopped int64 // the process stands still until then
	waiting []*pending
}

const (
	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
)

type event struct {
	at  int64
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newSim(seed uint64) *sim {
	return &sim{rand: rand.New(rand.NewPCG(seed, 7)), armed: never}
}

func (s *sim) at(t int64, do func()) {
	s.seq++
	heap.Push(&s.events, event{max(t, s.now), s.seq, do})
}

// run plays all events until end.
func (s *sim) run(end int64) {
	for len(s.events) > 0 && s.events[0].at <= end {
		e := heap.Pop(&s.events).(event)
		if e.at < s.stopped { // everything waits for the process
			e.at = s.stopped
			s.seq++
			e.seq = s.seq
			heap.Push(&s.events, e)
			continue
		}
		s.now = e.at
		e.do()
		s.deliver()
		s.arm()
	}
	s.now = end
}

// arm plays the timer of a Limit.
func (s *sim) arm() {
	if s.gate == nil {
		return
	}
	if due := s.gate.due(); due < s.armed {
		s.armed = due
		s.at(due, func() {
			if s.armed != due {
				return
			}
			s.armed = never
			s.gate.tick(s.now)
		})
	}
}

// An admission is what stands before a server.
type admission interface {
	// enter calls then once, with whether the call may run.
	enter(c *simCall, then func(in bool))
	leave(c *simCall, o turret.Outcome)
}

type simCall struct {
	arrived, deadline, entered int64
	work                       int64
	level                      int
	key                        uint64
	hangs, stream              bool
	answered                   int64 // when the answer came in time; 0: it did not
	refused                    bool
}

// gated is the gate of this package as an admission.
type gated struct{ s *sim }

func (a gated) enter(c *simCall, then func(bool)) {
	g := a.s.gate
	if g.enter(a.s.now, c.key) {
		c.entered = a.s.now
		then(true)
		return
	}
	w := &waiter{told: make(chan struct{}, 1), level: c.level, key: c.key, deadline: c.deadline}
	p := &pending{w, c, then}
	a.s.waiting = append(a.s.waiting, p)
	g.wait(a.s.now, w)
	if c.deadline != never {
		a.s.at(c.deadline, func() {
			if w.fate == undecided {
				p.c = nil
				g.giveUp(a.s.now, w)
				then(false)
			}
		})
	}
}

// A pending call waits in the gate's line.
type pending struct {
	w    *waiter
	c    *simCall // nil once its caller has gone
	then func(bool)
}

// deliver does what the goroutines do after a message of the gate.
func (s *sim) deliver() {
	s.waiting = slices.DeleteFunc(s.waiting, func(p *pending) bool {
		if p.c != nil && p.w.fate != undecided {
			c := p.c
			s.at(s.now, func() {
				c.entered = p.w.entered
				p.then(p.w.fate == admitted)
			})
		}
		return p.c == nil || p.w.fate != undecided
	})
}

func (a gated) leave(c *simCall, o turret.Outcome) { a.s.gate.leave(a.s.now, c.entered, o) }

// fixed is a limit that never moves and refuses what comes beyond; 0: none.
type fixed struct {
	max, inside int
}

func (f *fixed) enter(c *simCall, then func(bool)) {
	if f.max > 0 && f.inside >= f.max {
		then(false)
		return
	}
	f.inside++
	then(true)
}

func (f *fixed) leave(*simCall, turret.Outcome) { f.inside-- }

// A server runs the work of calls.
type server interface {
	// start runs c and calls done when it has ended.
	start(c *simCall, done func())
}

// pool is workers that each do one call at a time, in the order of arrival. A
// call whose deadline passes while it waits leaves.
type pool struct {
	s             *sim
	workers, busy int
	line          []*pooled
}

type pooled struct {
	c    *simCall
	done func()
	gone bool
}

func (p *pool) start(c *simCall, done func()) {
	q := &pooled{c: c, done: done}
	if p.busy < p.workers {
		p.serve(q)
		return
	}
	p.line = append(p.line, q)
	if c.deadline != never {
		p.s.at(c.deadline, func() {
			if !q.gone {
				q.gone = true
				done()
			}
		})
	}
}

func (p *pool) serve(q *pooled) {
	p.busy++
	q.gone = true
	p.s.at(p.s.now+q.c.work, func() {
		p.busy--
		q.done()
		p.next()
	})
}

func (p *pool) next() {
	for p.busy < p.workers && len(p.line) > 0 {
		q := p.line[0]
		p.line = p.line[1:]
		if !q.gone {
			p.serve(q)
		}
	}
}

// shared is cores that share their time among all calls inside. contention is
// the part of the capacity that is lost for each core's worth of calls beyond.
type shared struct {
	s          *sim
	cores      float64
	contention float64
	running    []*running
	last       int64
	version    int
}

type running struct {
	c    *simCall
	left float64
	done func()
}

func (p *shared) speed() float64 {
	n := float64(len(p.running))
	if n == 0 {
		return 0
	}
	total := min(n, p.cores)
	if n > p.cores && p.contention > 0 {
		total = p.cores / (1 + p.contention*(n-p.cores)/p.cores)
	}
	return total / n
}

func (p *shared) advance() {
	done := float64(p.s.now-p.last) * p.speed()
	p.last = p.s.now
	for _, r := range p.running {
		r.left -= done
	}
}

func (p *shared) start(c *simCall, done func()) {
	p.advance()
	p.running = append(p.running, &running{c, float64(c.work), done})
	p.plan()
}

func (p *shared) plan() {
	p.version++
	version := p.version
	if len(p.running) == 0 {
		return
	}
	least := math.Inf(1)
	for _, r := range p.running {
		least = min(least, r.left)
	}
	p.s.at(p.s.now+int64(math.Ceil(max(least, 0)/p.speed())), func() {
		if p.version != version {
			return
		}
		p.advance()
		var over []*running
		p.running = slices.DeleteFunc(p.running, func(r *running) bool {
			if r.left < 1 {
				over = append(over, r)
				return true
			}
			return false
		})
		p.plan()
		for _, r := range over {
			r.done()
		}
	})
}

// waiting is a server with room for every call, whose calls wait for something
// else.
type elsewhere struct {
	s     *sim
	inner server
	delay *int64 // of what it waits for
}

func (e *elsewhere) start(c *simCall, done func()) {
	e.inner.start(c, func() {
		took := int64(float64(*e.delay) * lognormal(e.s.rand, 0.2))
		e.s.at(min(e.s.now+took, max(c.deadline, e.s.now)), done)
	})
}

// lognormal has the mean 1.
func lognormal(r *rand.Rand, sigma float64) float64 {
	return math.Exp(r.NormFloat64()*sigma - sigma*sigma/2)
}
