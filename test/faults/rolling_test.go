//go:build unix

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/drain"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/faults/internal/traffic"
)

const (
	lameDuck = 5 * time.Second
	learns   = 3 * time.Second // after a server was signalled
)

// Servers are replaced one after another, as Kubernetes replaces pods: a new one
// starts, the old one gets SIGTERM, and 3 s later the load balancers learn that it
// is gone. No RPC fails, though nothing is tried again.
func TestRollingRestart(t *testing.T) {
	d := deploy(t, lameDuck, "a", "b", "c")
	load := d.startLoad()
	load.goOn()
	for _, old := range d.running {
		d.start(old.config.Name + "2")
		load.goOn()
		since := time.Now()
		old.signal(syscall.SIGTERM)
		after(learns)
		d.forget(old)
		learned := time.Since(since)
		old.gone(patience)
		took := time.Since(since)
		t.Logf("server %s: the balancers learned after %v that it was signalled; it was gone after %v, cut %d RPCs, and stood still for %v",
			old.config.Name, learned.Round(time.Millisecond), took.Round(time.Millisecond), old.drained.cut, old.drained.paused)
		if took < lameDuck || old.drained.cut != 0 || old.drained.stuck != 0 {
			t.Errorf("server %s was gone after %v and reports %+v", old.config.Name, took, old.drained)
		}
		load.judge(since, learned, old.drained.paused)
	}
	load.goOn()
	load.end()
	load.judge(time.Now(), 0, 0)
	d.close()
}

// judge asserts that no RPC has failed that has ended since the last judgement. A
// server was signalled at an instant, and forgotten some time later. An RPC may
// fail if, for a time that would make up for the rest of LameDuck, it or a process
// did not get on.
func (l *rollingLoad) judge(signalled time.Time, learned, paused time.Duration) {
	l.Helper()
	const margin = (lameDuck - learns) / 2
	calls := l.soFar()
	fresh := calls[l.judged:]
	l.judged = len(calls)
	paused += l.pauses.Between(signalled, time.Now()) + learned - min(learned, learns)
	counts := map[string]int{}
	for _, c := range fresh {
		counts[string(c.kind)]++
		took := c.ended.Sub(c.began)
		switch {
		case c.err == nil:
		case paused > margin || took > margin:
			l.Logf("after a pause of %v an RPC with %s failed after %v: %v", paused, c.kind, took, c.err)
		default:
			l.Errorf("%v after the signal an RPC with %s, to %s, failed after %v: %v", c.ended.Sub(signalled), c.kind, c.server, took, c.err)
		}
	}
	l.Logf("RPCs that have ended: %v", counts)
}

// The same with no time between the signal and GracefulStop fails: the balancers
// of this test do learn of it late.
func TestRestartWithoutLameDuck(t *testing.T) {
	d := deploy(t, time.Nanosecond, "a", "b")
	load := d.startLoad()
	load.goOn()
	d.running[0].signal(syscall.SIGTERM)
	d.running[0].gone(patience)
	traffic.Await(t, "RPCs fail that go to a server which is gone", normalBound, func() bool { return load.failed() > 10 },
		func() string { return fmt.Sprint(load.failed(), " failed") })
	for _, r := range load.end() {
		if r.err != nil && status.Code(r.err) != codes.Unavailable {
			t.Errorf("an RPC ended with %v", r.err)
		}
	}
	d.close()
}

// In LameDuck new connections are served; in Stopping there are none, connections
// have had GOAWAY, and streams go on; in Cutting they end with UNAVAILABLE and
// reason DRAINING. A further signal ends each phase.
func TestSignalsEndPhases(t *testing.T) {
	d := deploy(t, patience, "a")
	server := d.running[0]
	before := d.dial()
	stream, err := before.client.BidiStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say := func() error {
		r := traffic.RPC{ID: d.ids.Add(1)}
		_ = stream.Send(&echov1.BidiStreamRequest{Payload: r.Payload(0)}) // Recv has the status
		_, err := stream.Recv()
		return err
	}
	call := func() error {
		c := d.dial()
		defer c.conn.Close()
		r := traffic.RPC{Client: c.client, ID: d.ids.Add(1)}
		_, err := r.Do(t.Context())
		return err
	}
	for _, phase := range []drain.Phase{drain.Serving, drain.LameDuck, drain.Stopping} {
		if phase != drain.Serving {
			server.signal(syscall.SIGTERM)
			server.awaitPhase(phase)
		}
		if phase == drain.Stopping {
			traffic.Await(t, "the connection has had GOAWAY", normalBound,
				func() bool { return before.conn.GetState() != connectivity.Ready }, func() string { return before.conn.GetState().String() })
		}
		if err := say(); err != nil {
			t.Errorf("%s: on the open stream: %v", phase, err)
		}
		if got, want := status.Code(call()), map[drain.Phase]codes.Code{drain.Stopping: codes.Unavailable}[phase]; got != want {
			t.Errorf("%s: an RPC on a new connection ended with %s, want %s", phase, got, want)
		}
	}
	server.signal(syscall.SIGTERM)
	server.awaitPhase(drain.Cutting)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !isDraining(err) {
		t.Errorf("the stream was cut with %v", err)
	}
	server.gone(patience)
	if got := server.drained; got.cut != 1 || got.stuck != 0 {
		t.Errorf("the server reports %+v, want one RPC that was cut", got)
	}
	_ = before.conn.Close()
	d.close()
}

func isDraining(err error) bool {
	return slices.ContainsFunc(status.Convert(err).Details(), func(d any) bool {
		info, ok := d.(*errdetails.ErrorInfo)
		return ok && info.GetReason() == drain.ReasonDraining
	})
}

// awaitPhase waits until the drain of p is in a phase.
func (p *process) awaitPhase(want drain.Phase) {
	p.Helper()
	select {
	case got := <-p.phases:
		if got != want.String() {
			p.Fatalf("server %s is in phase %s, want %s", p.config.Name, got, want)
		}
	case <-p.ended:
		p.Fatalf("server %s has ended: %s", p.config.Name, &p.stderr)
	}
}

// after returns after some time, counted as this process can use it.
func after(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// A deployment is servers, and what load balancers know of them.
type deployment struct {
	*testing.T

	goroutines int
	lameDuck   time.Duration
	ledger     *ledger
	running    []*process
	all        []*process
	pauses     *traffic.Pauses
	ids        atomic.Uint64
	resolver   *manual.Resolver
	channel    *route // which balances by itself; nil without a load

	mu    sync.Mutex
	known []string // addresses
}

// deploy starts servers of these names.
func deploy(t *testing.T, lameDuck time.Duration, names ...string) *deployment {
	t.Helper()
	d := &deployment{
		T: t, goroutines: runtime.NumGoroutine(), lameDuck: lameDuck, ledger: newLedger(),
		resolver: manual.NewBuilderWithScheme("rolling"), pauses: traffic.WatchPauses(),
	}
	t.Cleanup(d.pauses.Stop)
	for _, name := range names {
		d.running = append(d.running, d.start(name))
	}
	return d
}

// start starts a server, and makes it known.
func (d *deployment) start(name string) *process {
	d.Helper()
	p := startProcess(d.T, serverConfig{Name: name, LameDuck: d.lameDuck}, d.ledger)
	d.all = append(d.all, p)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = append(d.known, p.config.Address)
	d.resolve()
	return p
}

// forget makes the balancers learn that p is gone.
func (d *deployment) forget(p *process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = slices.DeleteFunc(slices.Clone(d.known), func(a string) bool { return a == p.config.Address })
	d.resolve()
}

// resolve gives the addresses to the channel that balances by itself. It needs
// d.mu.
func (d *deployment) resolve() {
	var state resolver.State
	for _, a := range d.known {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	d.resolver.UpdateState(state)
}

// close ends everything, and asserts that nothing is left of it.
func (d *deployment) close() {
	d.Helper()
	if d.channel != nil {
		_ = d.channel.conn.Close()
	}
	for _, p := range d.all {
		p.close()
	}
	for _, problem := range d.ledger.problems {
		d.Error(problem)
	}
	d.pauses.Stop()
	traffic.Await(d, "no goroutine is left", 10*time.Second,
		func() bool { return runtime.NumGoroutine() <= d.goroutines }, traffic.Goroutines)
}

// A route is a channel through a load balancer that chooses a server for each
// connection, as kube-proxy does.
type route struct {
	conn   *grpc.ClientConn
	client echov1.EchoServiceClient
	last   atomic.Pointer[string] // the address that was chosen last
}

func (d *deployment) dial() *route {
	l := &route{}
	l.connect(d, "passthrough:///virtual", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		d.mu.Lock()
		address := d.known[rand.IntN(len(d.known))]
		d.mu.Unlock()
		l.last.Store(&address)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}))
	return l
}

func (l *route) connect(d *deployment, target string, options ...grpc.DialOption) {
	d.Helper()
	conn, err := grpc.NewClient(target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())...)
	if err != nil {
		d.Fatal(err)
	}
	l.conn, l.client = conn, echov1.NewEchoServiceClient(conn)
}

// A callerKind is how a caller reaches the servers.
type callerKind string

const (
	eachTime callerKind = "a connection for each RPC"
	kept     callerKind = "a connection that is kept"
	balanced callerKind = "turret.P2C"
)

// A call is how an RPC of a deployment's load ended.
type call struct {
	kind    callerKind
	server  string // its address, if it is known
	began   time.Time
	ended   time.Time
	err     error
	answers string // the name of the server
}

// A rollingLoad is callers of all kinds, none of which tries anything again.
type rollingLoad struct {
	*deployment

	stop    chan struct{}
	running sync.WaitGroup

	judged int // of calls

	mu    sync.Mutex
	calls []call
}

// pace is how long callers wait between RPCs.
const pace = 5 * time.Millisecond

func (d *deployment) startLoad() *rollingLoad {
	l := &rollingLoad{deployment: d, stop: make(chan struct{})}
	d.channel = &route{}
	d.channel.connect(d, "rolling:///echo", balance.WithP2C(balance.Config{}), grpc.WithResolvers(d.resolver))
	for _, kind := range []callerKind{eachTime, eachTime, kept, kept, balanced, balanced} {
		l.running.Go(func() { l.caller(kind) })
	}
	return l
}

func (l *rollingLoad) caller(kind callerKind) {
	to := l.channel
	if kind != balanced {
		to = l.dial()
		defer func() { _ = to.conn.Close() }()
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		if kind == eachTime {
			_ = to.conn.Close()
			to = l.dial()
		}
		l.once(kind, to)
	}
}

func (l *rollingLoad) once(kind callerKind, to *route) {
	c := call{kind: kind, began: time.Now()}
	id := l.ids.Add(1)
	r := traffic.RPC{Client: to.client, ID: id, Kind: kindOf(id), Plan: plan()}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.answers, c.err = r.Do(ctx)
	c.ended = time.Now()
	if last := to.last.Load(); last != nil {
		c.server = *last
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
}

// goOn waits until each kind of caller has ended some RPCs more.
func (l *rollingLoad) goOn() {
	l.Helper()
	from := len(l.soFar())
	traffic.Await(l, "callers of all kinds go on", normalBound, func() bool {
		counts := map[callerKind]int{}
		for _, c := range l.soFar()[from:] {
			counts[c.kind]++
		}
		return min(counts[eachTime], counts[kept], counts[balanced]) >= 20
	}, func() string { return fmt.Sprint(len(l.soFar()), " RPCs have ended") })
}

func (l *rollingLoad) soFar() []call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.calls)
}

func (l *rollingLoad) failed() (n int) {
	for _, c := range l.soFar() {
		if c.err != nil {
			n++
		}
	}
	return n
}

func (l *rollingLoad) end() []call {
	close(l.stop)
	l.running.Wait()
	return l.soFar()
}
