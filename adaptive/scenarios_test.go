package adaptive

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/turret-go/turret"
)

// A scenario is steady load, an event, and steady load again. Fields that are
// zero have the values of the first one.
type scenario struct {
	name       string
	normal     float64 // load before and after, as a part of capacity
	during     float64 // load in the event, as a part of capacity; 0: as before
	event      int64   // how long the event lasts; 0: 10 s
	capacity   float64 // calls a second that the server can do; 0: 2,000
	after      float64 // capacity in the event, as a part of that before; 0: 1
	deadline   int64   // of each call; 0: 100 ms, never: none
	work       func(r *rand.Rand) int64
	server     func(s *sim) server
	happens    func(s *sim, v server, begins bool) // at the beginning and the end of the event
	hanging    float64                             // part of the calls that hang in the event
	streams    float64                             // part of the calls that are streams
	pauses     int64                               // the process stops for so long every 2 s
	quiet      int64                               // before the event and after it; 0: 10 s
	config     Config
	level, key func(r *rand.Rand) int
}

// millis is a log-normal work of that mean.
func millis(mean float64) func(*rand.Rand) int64 {
	return func(r *rand.Rand) int64 { return int64(mean * float64(ms) * lognormal(r, 0.5)) }
}

func workers(n int) func(*sim) server { return func(s *sim) server { return &pool{s: s, workers: n} } }

func fourCores(contention float64) func(*sim) server {
	return func(s *sim) server { return &shared{s: s, cores: 4, contention: contention} }
}

// half takes half of the workers or cores away during the event.
func half(_ *sim, v server, begins bool) {
	factor := 2.0
	if begins {
		factor = 0.5
	}
	switch v := v.(type) {
	case *pool:
		v.workers = int(float64(v.workers) * factor)
		v.next()
	case *shared:
		v.advance()
		v.cores *= factor
		v.plan()
	}
}

// slower makes what the server waits for ten times slower.
func slower(_ *sim, v server, begins bool) {
	delay := v.(*elsewhere).delay
	*delay = 10 * ms
	if begins {
		*delay = 100 * ms
	}
}

func downstream(s *sim) server {
	return &elsewhere{s, &shared{s: s, cores: 4}, new(10 * ms)}
}

// mixed is nine short calls to one long one.
func mixed(r *rand.Rand) int64 {
	mean := 2.0
	if r.Float64() < 0.1 {
		mean = 80
	}
	return int64(mean * float64(ms) * lognormal(r, 0.5))
}

var scenarios = []scenario{
	{name: "e5-2x", normal: 0.7, during: 2},
	{name: "e5-10x", normal: 0.7, during: 10},
	{name: "e5x-2x", normal: 0.7, during: 2, work: func(r *rand.Rand) int64 { return int64(10 * float64(ms) * r.ExpFloat64()) }},
	{name: "e5b-cpu", normal: 0.7, during: 2, work: millis(2), server: fourCores(0)},
	{name: "e5b-cpu10", normal: 0.7, during: 10, work: millis(2), server: fourCores(0)},
	{name: "e5b-usl", normal: 0.7, during: 3, work: millis(2), server: fourCores(0.02)},
	{name: "half", normal: 0.8, after: 0.5, happens: half},
	{name: "halfcpu", normal: 0.8, after: 0.5, happens: half, work: millis(2), server: fourCores(0)},
	{name: "half2x", normal: 0.8, during: 2, after: 0.5, happens: half},
	{name: "slow10", normal: 1, capacity: 2000, deadline: sec, work: millis(1), server: downstream, happens: slower},
	{name: "hang", normal: 0.7, hanging: 0.1, deadline: sec},
	{name: "n90", normal: 0.9},
	{name: "mix-n", normal: 0.7, deadline: 500 * ms, work: mixed, capacity: 2038},
	{name: "mix-2x", normal: 0.7, during: 2, deadline: 500 * ms, work: mixed, capacity: 2038},
	{name: "streams-n", normal: 0.7, streams: 0.05},
	{name: "small-3x", normal: 0.7, during: 3, event: 30 * sec, deadline: sec, capacity: 20, work: millis(100), server: workers(2)},
	{name: "cold-2x", normal: 2, during: 2},
	{name: "pauses", normal: 0.6, pauses: 60 * ms},
}

// A result is what came of a scenario. Shares are of calls or of capacity.
type result struct {
	goodput   float64 // answers in time during the event but for its first second
	first     float64 // in its first second
	second    float64 // after its second second
	p99       float64 // of successes in the event, over that of the work alone
	refused   float64 // of the calls in the 8 s before the event
	recovered float64 // seconds after the event until all calls were answered
	late      int     // calls that were let in and answered after their deadline
	most      int     // the greatest limit
	byLevel   [4]float64
	calls     []*simCall
}

// play runs sc before the admission that before makes.
func (sc scenario) play(seed uint64, before func(s *sim) admission) result {
	sc = sc.filled()
	s := newSim(seed)
	door := before(s)
	r := &run{scenario: sc, sim: s, door: door, server: sc.server(s)}
	end := sc.quiet + sc.event
	s.at(0, r.arrive)
	if sc.happens != nil {
		s.at(sc.quiet, func() { sc.happens(s, r.server, true) })
		s.at(end, func() { sc.happens(s, r.server, false) })
	}
	if sc.pauses > 0 {
		for t := 2 * sec; t < end+sc.quiet; t += 2 * sec {
			s.at(t, func() { s.stopped = s.now + sc.pauses })
		}
	}
	s.run(end + sc.quiet)
	return r.result()
}

func (sc scenario) filled() scenario {
	if sc.during == 0 {
		sc.during = sc.normal
	}
	if sc.event == 0 {
		sc.event = 10 * sec
	}
	if sc.quiet == 0 {
		sc.quiet = 10 * sec
	}
	if sc.capacity == 0 {
		sc.capacity = 2000
	}
	if sc.after == 0 {
		sc.after = 1
	}
	if sc.deadline == 0 {
		sc.deadline = 100 * ms
	}
	if sc.work == nil {
		sc.work = millis(10)
	}
	if sc.server == nil {
		sc.server = workers(20)
	}
	return sc
}

type run struct {
	scenario

	sim    *sim
	door   admission
	server server
	calls  []*simCall
	late   int
	most   int
}

func (r *run) during(t int64) bool { return t >= r.quiet && t < r.quiet+r.event }

// arrive is the arrival of a call, and plans the next.
func (r *run) arrive() {
	s := r.sim
	rate := r.normal
	if r.during(s.now) {
		rate = r.scenario.during
	}
	s.at(s.now+max(1, int64(s.rand.ExpFloat64()/(rate*r.capacity)*float64(sec))), r.arrive)
	c := &simCall{arrived: s.now, deadline: never, work: r.work(s.rand)}
	if r.deadline != never {
		c.deadline = s.now + r.deadline
	}
	c.hangs = s.rand.Float64() < r.hanging && r.during(s.now)
	c.stream = s.rand.Float64() < r.streams
	if r.level != nil {
		c.level = r.level(s.rand)
	}
	if r.key != nil {
		c.key = uint64(r.key(s.rand)) * 0x9e3779b97f4a7c15
	}
	r.calls = append(r.calls, c)
	r.door.enter(c, func(in bool) { r.entered(c, in) })
	if s.gate != nil {
		r.most = max(r.most, s.gate.knee.places())
	}
}

func (r *run) entered(c *simCall, in bool) {
	s := r.sim
	switch {
	case !in:
		c.refused = true
	case c.stream:
		c.answered = s.now
		if _, ok := r.door.(gated); ok {
			r.door.leave(c, turret.Unused)
		} else {
			s.at(s.now+5*sec, func() { r.door.leave(c, turret.Success) })
		}
	case c.hangs:
		s.at(c.deadline, func() { r.door.leave(c, turret.Failure) })
	default:
		r.server.start(c, func() { r.ended(c) })
	}
}

func (r *run) ended(c *simCall) {
	if r.sim.now >= c.deadline {
		r.late++
		r.door.leave(c, turret.Failure)
		return
	}
	c.answered = r.sim.now
	r.door.leave(c, turret.Success)
}

// result reads what came of the calls.
func (r *run) result() result {
	res := result{late: r.late, most: r.most, calls: r.calls}
	res.first = r.share(r.quiet, r.quiet+sec)
	res.goodput = r.share(r.quiet+sec, r.quiet+r.event)
	res.second = r.share(r.quiet+2*sec, r.quiet+r.event)
	res.p99 = r.slowness()
	before, refused := 0, 0
	for _, c := range r.calls {
		if c.arrived >= 2*sec && c.arrived < r.quiet {
			before++
			if c.answered == 0 {
				refused++
			}
		}
	}
	res.refused = float64(refused) / float64(max(before, 1))
	res.recovered = r.recovery()
	res.byLevel = r.levels()
	return res
}

// share returns the answers in time to calls that came in [from, to), as a part
// of those that could have had one.
func (r *run) share(from, to int64) float64 {
	asked, answered := 0.0, 0.0
	for _, c := range r.calls {
		if c.arrived >= from && c.arrived < to {
			if !c.hangs {
				asked++
			}
			if c.answered > 0 {
				answered++
			}
		}
	}
	possible := r.capacity * r.after * float64(to-from) / float64(sec)
	return answered / min(asked, possible)
}

// slowness is the p99 of the successes in the event after its first second, over
// that of the work alone.
func (r *run) slowness() float64 {
	var took, bare []int64
	for _, c := range r.calls {
		if c.answered > 0 && !c.stream && c.arrived >= r.quiet+sec && c.arrived < r.quiet+r.event {
			took = append(took, c.answered-c.arrived)
		}
		bare = append(bare, c.work)
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	slices.Sort(bare)
	extra := int64(0)
	if e, ok := r.server.(*elsewhere); ok {
		extra = *e.delay
		if r.happens != nil {
			extra = 100 * ms
		}
	}
	return float64(took[len(took)*99/100]) / float64(bare[len(bare)*99/100]+extra)
}

// recovery is when the last 100 ms ended in which more than 2 % of the calls (and
// more than one) failed, in seconds after the event.
func (r *run) recovery() float64 {
	const bin = 100 * ms
	from := r.quiet + r.event
	asked, failed := map[int64]int{}, map[int64]int{}
	for _, c := range r.calls {
		if c.arrived >= from {
			asked[(c.arrived-from)/bin]++
			if c.answered == 0 && c.deadline < r.sim.now {
				failed[(c.arrived-from)/bin]++
			}
		}
	}
	last := 0.0
	for i, n := range failed {
		if n > 1 && float64(n) > 0.02*float64(asked[i]) {
			last = math.Max(last, float64(i+1)/10)
		}
	}
	return last
}

// levels is the share of answered calls of each level in the event but for its
// first second.
func (r *run) levels() (shares [4]float64) {
	var asked [4]float64
	for _, c := range r.calls {
		if c.arrived >= r.quiet+sec && c.arrived < r.quiet+r.event {
			asked[c.level]++
			if c.answered > 0 {
				shares[c.level]++
			}
		}
	}
	for i := range shares {
		shares[i] /= max(asked[i], 1)
	}
	return shares
}

// adaptively is the gate of this package.
func adaptively(c Config) func(s *sim) admission {
	return func(s *sim) admission {
		s.gate = newGate(c.withDefaults())
		return gated{s}
	}
}

// fixedly is a limit of n that does not move.
func fixedly(n int) func(s *sim) admission {
	return func(*sim) admission { return &fixed{max: n} }
}
