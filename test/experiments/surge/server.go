package surge

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"time"
)

// A Server does the work of calls.
type Server interface {
	// Do returns when the work is done, or when ctx ends before it has begun. Work
	// that has begun is done to its end, as most work is.
	Do(ctx context.Context, c *Call)
	// Busy returns how much processing was done since the beginning, as a time
	// during which everything was busy.
	Busy() time.Duration
	// Change makes the server as capable as it was, times factor.
	Change(factor float64)
}

// A meter sums up how busy a server was. Its owner serializes access.
type meter struct {
	at    time.Time
	share float64
	sum   float64 // seconds
}

// set says that from now on this share of the server is busy.
func (m *meter) set(now time.Time, share float64) {
	m.sum += m.share * now.Sub(m.at).Seconds()
	m.at, m.share = now, min(share, 1)
}

func (m *meter) read(now time.Time) time.Duration {
	m.set(now, m.share)
	return time.Duration(m.sum * float64(time.Second))
}

// pool is workers that each do one call at a time, in the order of arrival.
type pool struct {
	mu            sync.Mutex
	workers, busy int
	line          []*waiting
	meter         meter
}

type waiting struct {
	begins chan struct{}
	gone   bool
}

// Workers makes servers of n workers.
func Workers(n int) func() Server {
	return func() Server { return &pool{workers: n, meter: meter{at: time.Now()}} }
}

func (p *pool) Do(ctx context.Context, c *Call) {
	if !p.begin(ctx) {
		return
	}
	time.Sleep(c.Work)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.next()
}

// begin waits for a worker, and returns false if ctx ends first.
func (p *pool) begin(ctx context.Context) bool {
	p.mu.Lock()
	if p.busy < p.workers {
		p.busy++
		p.next()
		p.mu.Unlock()
		return true
	}
	w := &waiting{begins: make(chan struct{})}
	p.line = append(p.line, w)
	p.mu.Unlock()
	select {
	case <-w.begins:
		return true
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.begins:
		return true
	default:
		w.gone = true
		return false
	}
}

// next gives free workers to the calls that wait, with the mutex held.
func (p *pool) next() {
	for p.busy < p.workers && len(p.line) > 0 {
		w := p.line[0]
		p.line = p.line[1:]
		if !w.gone {
			p.busy++
			close(w.begins)
		}
	}
	p.meter.set(time.Now(), float64(p.busy)/float64(p.workers))
}

func (p *pool) Busy() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meter.read(time.Now())
}

func (p *pool) Change(factor float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers = int(math.Round(float64(p.workers) * factor))
	p.next()
}

// cores share their time among all calls inside. contention is the part of the
// capacity that is lost for each core's worth of calls beyond one for each core.
type cores struct {
	mu         sync.Mutex
	n          float64
	contention float64
	done       float64 // seconds of work that a call inside since the beginning has got
	at         time.Time
	inside     jobs
	timer      *time.Timer
	meter      meter
}

type job struct {
	end   float64 // of cores.done
	ended chan struct{}
}

type jobs []job

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a].end < j[b].end }
func (j jobs) Swap(a, b int)      { j[a], j[b] = j[b], j[a] }
func (j *jobs) Push(x any)        { *j = append(*j, x.(job)) }
func (j *jobs) Pop() any {
	last := (*j)[len(*j)-1]
	*j = (*j)[:len(*j)-1]
	return last
}

// Cores makes servers of n cores.
func Cores(n, contention float64) func() Server {
	return func() Server {
		return &cores{n: n, contention: contention, at: time.Now(), meter: meter{at: time.Now()}}
	}
}

func (p *cores) Do(_ context.Context, c *Call) {
	p.mu.Lock()
	p.advance()
	j := job{p.done + c.Work.Seconds(), make(chan struct{})}
	heap.Push(&p.inside, j)
	p.plan()
	p.mu.Unlock()
	<-j.ended
}

// speed is how much of a core each call inside has.
func (p *cores) speed() float64 {
	n := float64(len(p.inside))
	if n == 0 {
		return 0
	}
	total := min(n, p.n)
	if n > p.n {
		total = p.n / (1 + p.contention*(n-p.n)/p.n)
	}
	return total / n
}

func (p *cores) advance() {
	now := time.Now()
	p.done += now.Sub(p.at).Seconds() * p.speed()
	p.at = now
}

// plan sets the timer to the next end of a call.
func (p *cores) plan() {
	p.meter.set(time.Now(), float64(len(p.inside))/p.n)
	if len(p.inside) == 0 {
		return
	}
	wait := time.Duration(math.Ceil((p.inside[0].end - p.done) / p.speed() * float64(time.Second)))
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.fire)
		return
	}
	p.timer.Reset(wait)
}

func (p *cores) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance()
	for len(p.inside) > 0 && p.inside[0].end < p.done+1e-9 {
		close(heap.Pop(&p.inside).(job).ended)
	}
	p.plan()
}

func (p *cores) Busy() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meter.read(time.Now())
}

func (p *cores) Change(factor float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance()
	p.n *= factor
	p.plan()
}

// downstream is a server whose calls then wait for another one, which has room for
// all and is as fast as it is.
type downstream struct {
	Server

	mu    sync.Mutex
	delay time.Duration
}

// Downstream makes servers of n cores before something that takes delay.
func Downstream(n float64, delay time.Duration) func() Server {
	return func() Server { return &downstream{Server: Cores(n, 0)(), delay: delay} }
}

func (d *downstream) Do(ctx context.Context, c *Call) {
	d.Server.Do(ctx, c)
	d.mu.Lock()
	delay := d.delay
	d.mu.Unlock()
	wait := time.NewTimer(time.Duration(float64(delay) * c.elsewhere))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}

// Change makes the downstream as fast as it was, times factor.
func (d *downstream) Change(factor float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = time.Duration(float64(d.delay) / factor)
}
