package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// A fleet is clients with one turret.P2C each, without gRPC's connections, and
// servers that are lines with workers. One server becomes ten times slower.
type fleet struct {
	clients, servers int
	subset           method
	duration         time.Duration // of the load
	onset            time.Duration // of the slowness of server 0
}

const (
	workers = 8
	service = 100 * time.Millisecond // mean
	spreadS = 0.5                    // sigma of its log-normal distribution
	load    = 0.6                    // of the workers
	slower  = 10
	tick    = time.Millisecond // events happen at multiples of it

	hop    = time.Millisecond      // until a message of a server has arrived
	stream = 10 * time.Microsecond // a server writes to its streams one after the other
)

// An outcome is what came of a run.
type outcome struct {
	connections      int
	bytes            float64 // of a client, for each of its endpoints
	deviation, most  float64 // of the calls of servers before the onset, as parts of the mean
	p50, p99         time.Duration
	alarm, known     time.Duration // from the onset until server 0 knows, and until its last client would
	sickCalls, after int           // calls to server 0 after the onset, and after its last client would know
}

type client struct {
	conn   *fakeconn.ClientConn
	policy balancer.Balancer
	using  []int
}

// A served is a call that a server answers at a tick.
type served struct {
	done   func(balancer.DoneInfo)
	server int32
	took   time.Duration
}

type world struct {
	fleet

	random *rand.Rand
	fleets []client
	index  map[string]int // of a server, by its address
	free   [][]time.Duration
	calls  []int
	due    [][]served // by tick
	took   []time.Duration
	now    time.Duration

	sick   []time.Duration // calls to server 0 since the onset
	health health
	result outcome
}

// simulate runs f with a seed, in virtual time.
func simulate(t *testing.T, f fleet, seed uint64) (o outcome) {
	synctest.Test(t, func(*testing.T) {
		w := &world{fleet: f, random: rand.New(rand.NewPCG(seed, 7)), index: map[string]int{}}
		w.build()
		w.run()
		w.close()
		o = w.report()
	})
	return o
}

// build makes the clients and measures their memory.
func (w *world) build() {
	all := fakeconn.Endpoints(w.servers)
	for i, e := range all {
		w.index[e.Addresses[0].Addr] = i
	}
	of := w.subset.prepare(upTo(w.servers))
	before := heap()
	endpoints := 0
	for i := range w.clients {
		c := client{using: of(i)}
		var named []resolver.Endpoint
		for _, s := range c.using {
			named = append(named, all[s])
		}
		endpoints += len(named)
		var err error
		c.conn, c.policy, err = fakeconn.StartInBulk(balance.Name, fmt.Sprintf(`{"seed":%d,"ignoreAlarms":true}`, w.random.Uint64()|1), named)
		if err != nil {
			panic(err)
		}
		state, _ := c.conn.State() // its first pick makes the list of endpoints
		if r, err := state.Picker.Pick(pick); err == nil {
			r.Done(balancer.DoneInfo{})
		}
		w.fleets = append(w.fleets, c)
	}
	w.result.connections, w.result.bytes = endpoints, float64(heap()-before)/float64(endpoints)
	w.calls, w.free = make([]int, w.servers), make([][]time.Duration, w.servers)
	for i := range w.free {
		w.free[i] = make([]time.Duration, workers)
	}
}

// heap returns how much memory is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

var pick = balancer.PickInfo{FullMethodName: "/fleet.Fleet/Call", Ctx: context.Background()}

// run makes the calls, at random instants, and ends them.
func (w *world) run() {
	rate := load * workers / service.Seconds() * float64(w.servers)
	w.due = make([][]served, w.duration/tick+1)
	next := 0.0
	for i := range w.due {
		w.now = time.Duration(i) * tick
		for _, s := range w.due[i] {
			w.end(s)
		}
		w.due[i] = nil
		for next <= w.now.Seconds() {
			w.call(w.random.IntN(w.clients))
			next += w.random.ExpFloat64() / rate
		}
		time.Sleep(tick) //nolint:forbidigo // in virtual time, in which nothing else happens
	}
}

// call sends a call of a client; what the server does is known at once.
func (w *world) call(c int) {
	state, _ := w.fleets[c].conn.State()
	r, err := state.Picker.Pick(pick)
	if err != nil {
		panic(err)
	}
	s := w.index[r.SubConn.(*fakeconn.SubConn).Address]
	free := w.free[s]
	worker := 0
	for i := range free {
		if free[i] < free[worker] {
			worker = i
		}
	}
	begins := max(free[worker], w.now)
	takes := time.Duration(float64(service) * math.Exp(spreadS*w.random.NormFloat64()-spreadS*spreadS/2))
	if s == 0 && w.onset > 0 && begins >= w.onset {
		takes *= slower
	}
	free[worker] = begins + takes
	if w.onset == 0 || w.now < w.onset {
		w.calls[s]++
	} else if s == 0 {
		w.sick = append(w.sick, w.now-w.onset)
	}
	took := free[worker] - w.now
	if at := (w.now + took + tick - 1) / tick; int(at) < len(w.due) {
		at = max(at, w.now/tick+1)
		w.due[at] = append(w.due[at], served{r.Done, int32(s), took})
	}
}

func (w *world) end(s served) {
	if s.server == 0 {
		if w.health.answered(w.now, s.took) && w.result.alarm == 0 && w.onset > 0 && w.now > w.onset {
			w.result.alarm = w.now - w.onset
		}
	}
	if w.onset == 0 || w.now < w.onset {
		w.took = append(w.took, s.took)
	}
	s.done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
}

func (w *world) close() {
	for _, c := range w.fleets {
		c.policy.Close()
		c.conn.Settle()
	}
}

// report sums the run up.
func (w *world) report() outcome {
	o := w.result
	mean, using := 0.0, 0
	for _, n := range w.calls {
		mean += float64(n) / float64(w.servers)
	}
	for _, n := range w.calls {
		o.deviation += (float64(n) - mean) * (float64(n) - mean) / float64(w.servers)
	}
	o.deviation, o.most = math.Sqrt(o.deviation)/mean, float64(slices.Max(w.calls))/mean
	slices.Sort(w.took)
	o.p50, o.p99 = w.took[len(w.took)/2], w.took[len(w.took)*99/100]
	for _, c := range w.fleets {
		if slices.Contains(c.using, 0) {
			using++
		}
	}
	if o.alarm > 0 {
		o.known = o.alarm + hop + time.Duration(using)*stream
	}
	o.sickCalls = len(w.sick)
	for _, at := range w.sick {
		if o.known > 0 && at > o.known {
			o.after++
		}
	}
	return o
}

// health is what a server with an alarm knows of itself: its mean latency, of about
// 300 ms, beside the ordinary one. It is the model of package load/alarm that is
// enough here.
type health struct {
	mean, typical float64
	last          time.Duration
}

func (h *health) answered(now, took time.Duration) (sick bool) {
	if h.mean == 0 {
		h.mean, h.typical = float64(took), float64(took)
	}
	weight := min(1, max(0.05, float64(now-h.last)/float64(300*time.Millisecond)))
	h.mean += weight * (min(float64(took), 2*max(h.mean, h.typical)) - h.mean)
	h.last = now
	if h.mean > 2*h.typical {
		return true
	}
	h.typical += 0.01 * (float64(took) - h.typical)
	return false
}

// loads prints what fleets of these sizes do with their calls.
func loads(t *testing.T, out io.Writer, most int) {
	fmt.Fprintln(out, "| clients x servers | subset | connections | memory of an endpoint | calls of a server: deviation, most | p50, p99 | alarm raised, all know | calls of the sick server, of a fair share; after all would know |\n"+
		"|---|---|--:|--:|--:|--:|--:|--:|")
	for _, f := range []fleet{
		{clients: most / 50, servers: most / 50, subset: everyone(most / 50)},
		{clients: most / 50, servers: most / 50, subset: ring(20)},
		{clients: most / 10, servers: most / 10, subset: ring(20)},
		{clients: most / 10, servers: most / 10, subset: rendezvous(20)},
		{clients: most / 10, servers: most / 10, subset: rendezvous(100)},
		{clients: most, servers: most, subset: ring(20)},
	} {
		f.duration, f.onset = 15*time.Second, 10*time.Second
		if f.clients > 1000 {
			f.onset, f.duration = 3*time.Second, 5*time.Second // millions of calls
		}
		fmt.Fprintln(out, f.row(simulate(t, f, 1)))
	}
}

// everyone uses all servers.
func everyone(servers int) method {
	m := ring(servers)
	m.name = "all"
	return m
}

func (f fleet) row(o outcome) string {
	return fmt.Sprintf("| %d x %d | %s, %d | %d | %.1f KB | %.1f %%, %.2f | %d, %d ms | %.2f, %.2f s | %d of %.0f; %d |",
		f.clients, f.servers, f.subset.name, f.subset.size, o.connections, o.bytes/1000, 100*o.deviation, o.most,
		o.p50.Milliseconds(), o.p99.Milliseconds(), o.alarm.Seconds(), o.known.Seconds(),
		o.sickCalls, load*workers/service.Seconds()*(f.duration-f.onset).Seconds(), o.after)
}
