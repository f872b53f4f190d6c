// Package surge plays surges of calls against one server behind a limit, in
// virtual time: with goroutines that call the limit directly, or over real gRPC.
//
// The load is open: calls come when they come, whether or not the ones before have
// ended. Arrival, work and everything else about a call come from one seeded
// generator before the first call is made, so that every limit is given the same
// calls.
package surge

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	ms = time.Millisecond
	s1 = time.Second
)

// A Scenario is steady load, an event, and steady load again. Fields that are zero
// have the values of the first one.
type Scenario struct {
	ID    string
	Title string

	Normal    float64       // load before and after, as a part of capacity
	During    float64       // load in the event, as a part of capacity; 0: as before
	Event     time.Duration // how long the event lasts; 0: 10 s
	Quiet     time.Duration // before the event; 0: 10 s
	Rest      time.Duration // after the event; 0: as before it
	Capacity  float64       // calls a second that the server can do; 0: 2,000
	After     float64       // capacity in the event, as a part of that before; 0: 1
	Deadline  time.Duration // of each call; 0: 100 ms
	Work      func(r *rand.Rand) time.Duration
	Server    func() Server
	Changes   float64       // by how much the server is asked to change in the event; 0: nothing
	Elsewhere time.Duration // what a call waits for in the event, beside its work
	Hanging   float64       // part of the calls that hang in the event until their deadline
	Streams   float64       // part of the calls that are streams, which live for 5 s and do nothing
	Room      int           // calls inside that suffice before the event: what fixed limits are multiples of; 0: 20
	Start     int           // where an adaptive limit begins; 0: at its default
	Tenants   int           // the first sends ten times what each of the others sends; 0: 1
	Levels    bool          // a tenth is CriticalPlus, and two, three and four tenths the others
	Front     time.Duration // of work at another server, which then calls this one; 0: there is none
	Alone     float64       // part of the calls that the server in front answers by itself
}

// Millis is a log-normal work with this mean and sigma 0.5.
func Millis(mean float64) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(mean * float64(ms) * logNormal(r, 0.5)) }
}

// logNormal has the mean 1.
func logNormal(r *rand.Rand, sigma float64) float64 {
	return math.Exp(sigma*r.NormFloat64() - sigma*sigma/2)
}

func exponential(r *rand.Rand) time.Duration { return time.Duration(10 * float64(ms) * r.ExpFloat64()) }

// mixed is nine short calls to one long one.
func mixed(r *rand.Rand) time.Duration {
	mean := 2.0
	if r.IntN(10) == 0 {
		mean = 80
	}
	return Millis(mean)(r)
}

// All returns the scenarios, in the order of the tables.
func All() []Scenario {
	var (
		two  = Millis(2)
		four = Cores(4, 0)
	)
	all := []Scenario{
		{ID: "e5-2x", Title: "20 workers of 10 ms, load 0.7, then 2", Normal: 0.7, During: 2},
		{ID: "e5-10x", Title: "load 10", Normal: 0.7, During: 10},
		{ID: "e5-5x-30s", Title: "load 5 for 30 s", Normal: 0.7, During: 5, Event: 30 * s1},
		{ID: "e5x-2x", Title: "exponential work", Normal: 0.7, During: 2, Work: exponential},
		{ID: "e5b-cpu", Title: "4 cores shared by all calls, 2 ms", Normal: 0.7, During: 2, Work: two, Server: four, Room: 4},
		{ID: "e5b-cpu10", Title: "4 cores, load 10", Normal: 0.7, During: 10, Work: two, Server: four, Room: 4},
		{ID: "e5b-usl", Title: "4 cores that calls inside slow down, load 3", Normal: 0.7, During: 3, Work: two, Server: Cores(4, 0.02), Room: 4},
		{ID: "half", Title: "20 workers become 10, load 0.8", Normal: 0.8, After: 0.5, Changes: 0.5},
		{ID: "halfcpu", Title: "4 cores become 2, load 0.8", Normal: 0.8, After: 0.5, Changes: 0.5, Work: two, Server: four, Room: 4},
		{ID: "half2x", Title: "20 workers become 10, and load 2", Normal: 0.8, During: 2, After: 0.5, Changes: 0.5},
		{
			ID: "slow10", Title: "a downstream becomes 10 times slower, with room for all", Normal: 1, Deadline: s1, Work: Millis(1),
			Server: Downstream(4, 10*ms), Changes: 0.1, Elsewhere: 100 * ms, Room: 24,
		},
		{ID: "hang", Title: "a tenth of the calls hang until their deadline of 1 s", Normal: 0.7, Hanging: 0.1, Deadline: s1},
		{ID: "n90", Title: "load 0.9 all the time", Normal: 0.9},
		{ID: "mix-n", Title: "90 % of 2 ms, 10 % of 80 ms, load 0.7", Normal: 0.7, Deadline: 500 * ms, Work: mixed, Capacity: 20000 / 9.8},
		{ID: "mix-2x", Title: "90 % of 2 ms, 10 % of 80 ms, load 2", Normal: 0.7, During: 2, Deadline: 500 * ms, Work: mixed, Capacity: 20000 / 9.8},
		{ID: "streams-n", Title: "5 % are streams that live for 5 s", Normal: 0.7, Streams: 0.05},
		{
			ID: "small-3x", Title: "2 workers of 100 ms, load 3 for 30 s", Normal: 0.7, During: 3, Event: 30 * s1, Deadline: s1, Capacity: 20,
			Work: Millis(100), Server: Workers(2), Room: 2, Start: 20,
		},
		{ID: "cold-2x", Title: "begins under load 2", Normal: 2, During: 2},
		{ID: "tenants", Title: "ten tenants, one asks for ten times as much, load 2", Normal: 0.7, During: 2, Tenants: 10},
		{ID: "levels", Title: "four levels, load 3", Normal: 0.7, During: 3, Levels: true},
	}
	for i := range all {
		all[i] = all[i].Filled()
	}
	return all
}

// Throttled is a surge at a server of 500 calls a second whose clients may hold back.
func Throttled() Scenario {
	return Scenario{
		ID: "E10", Title: "10 clients ask for ten times what a server can do, for 20 s", Normal: 0.7, During: 10, Capacity: 500,
		Server: Workers(5), Quiet: 5 * s1, Event: 20 * s1, Rest: 30 * s1,
	}.Filled()
}

// TwoServers are surges at a server in front, which has room for all, of three times
// what the server behind can do. In the first all calls need the server behind, in
// the second a seventh does not.
func TwoServers() []Scenario {
	const front, quiet, event = 2 * ms, 5 * s1, 6 * s1
	return []Scenario{
		Scenario{
			ID: "E8", Title: "two servers, four levels, three times what the second can do",
			Normal: 0.7, During: 3, Capacity: 1000, Server: Workers(10), Levels: true, Front: front, Quiet: quiet, Event: event, Rest: s1,
		}.Filled(),
		Scenario{
			ID: "E8b", Title: "the same, and a seventh of the calls needs the first server alone",
			Normal: 0.7 * 7 / 6, During: 3 * 7.0 / 6, Alone: 1.0 / 7, Capacity: 1000, Server: Workers(10), Levels: true, Front: front, Quiet: quiet, Event: event, Rest: s1,
		}.Filled(),
	}
}

// Filled returns sc with its zeros filled in.
func (sc Scenario) Filled() Scenario {
	fill(&sc.During, sc.Normal)
	fill(&sc.Event, 10*s1)
	fill(&sc.Quiet, 10*s1)
	fill(&sc.Rest, sc.Quiet)
	fill(&sc.Capacity, 2000)
	fill(&sc.After, 1)
	fill(&sc.Deadline, 100*ms)
	fill(&sc.Room, 20)
	fill(&sc.Tenants, 1)
	if sc.Work == nil {
		sc.Work = Millis(10)
	}
	if sc.Server == nil {
		sc.Server = Workers(20)
	}
	return sc
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// end is when the event ends.
func (sc Scenario) end() time.Duration { return sc.Quiet + sc.Event }

// A Call is one call and what became of it. All times count from the beginning of
// the load.
type Call struct {
	At     time.Duration
	Work   time.Duration
	Level  int // 0: the most critical
	Tenant int
	Hangs  bool
	Stream bool

	Alone bool // needs the server in front only

	Answered time.Duration // when the answer came in time; 0: it did not
	Late     bool          // was let in, and missed its deadline
	Reached  bool          // came to the server, which let it in or refused it; over gRPC only
	Fronted  bool          // the server in front worked for it

	number    int
	elsewhere float64 // of the delay of a downstream
}

// calls draws all calls of a run.
func (sc Scenario) calls(seed uint64) []*Call {
	r := rand.New(rand.NewPCG(seed, 7))
	var calls []*Call
	at := time.Duration(0)
	for {
		load, event := sc.Normal, at >= sc.Quiet && at < sc.end()
		if event {
			load = sc.During
		}
		at += max(1, time.Duration(r.ExpFloat64()/(load*sc.Capacity)*float64(s1)))
		if at >= sc.end()+sc.Rest {
			return calls
		}
		c := &Call{number: len(calls), At: at, Work: max(1, sc.Work(r)), elsewhere: logNormal(r, 0.2)}
		c.Hangs = r.Float64() < sc.Hanging && at >= sc.Quiet && at < sc.end()
		c.Stream = r.Float64() < sc.Streams
		c.Tenant = max(0, r.IntN(sc.Tenants+9)-9)
		c.Alone = r.Float64() < sc.Alone
		if sc.Levels {
			c.Level = level(r.Float64())
		}
		calls = append(calls, c)
	}
}

func level(u float64) int {
	switch {
	case u < 0.1:
		return 0
	case u < 0.3:
		return 1
	case u < 0.6:
		return 2
	default:
		return 3
	}
}
