//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/faults/internal/traffic"
)

// A setup configures a world.
type setup struct {
	proxied bool          // there is a proxy in front of each server
	deaf    bool          // the one of server a does not accept yet
	maxAge  time.Duration // of connections to the servers
	size    int           // of the load's messages
	maxBan  time.Duration // of a server, by the balancer; 0: the default
}

// A world is two servers, a client of both, and a load on them.
type world struct {
	*testing.T

	goroutines int // before there was anything
	pauses     *traffic.Pauses
	ledger     *ledger
	servers    []*process
	proxies    []*proxy
	client     *client
	load       *load
	ids        atomic.Uint64 // of RPCs
}

// names are the names of the servers.
var names = []string{"a", "b"}

// begin starts a world, and waits until its traffic is normal.
func begin(t *testing.T, s setup) *world {
	t.Helper()
	w := &world{T: t, goroutines: runtime.NumGoroutine(), ledger: newLedger()}
	w.pauses = traffic.WatchPauses()
	t.Cleanup(w.pauses.Stop)
	addresses := []string{}
	for _, name := range names {
		p := startProcess(t, serverConfig{Name: name, MaxAge: s.maxAge}, w.ledger)
		w.servers = append(w.servers, p)
		address := p.config.Address
		if s.proxied {
			proxy := newProxy(t, address)
			if name != "a" || !s.deaf {
				proxy.accept()
			}
			w.proxies = append(w.proxies, proxy)
			address = proxy.address()
		}
		addresses = append(addresses, address)
	}
	w.client = dial(t, addresses, s.maxBan)
	t.Cleanup(w.abandon)
	began := time.Now()
	w.load = startLoad(w.client, s.size, &w.ids)
	if s.deaf {
		w.normalAfter("the start", began, "b")
	} else {
		w.normalAfter("the start", began, names...)
	}
	return w
}

// abandon ends the world's load, processes and connections, if the test has not
// come to its end.
func (w *world) abandon() {
	if !w.Failed() {
		return
	}
	_ = w.client.conn.Close()
	w.load.end()
	for _, p := range w.servers {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
		}
	}
	for _, p := range w.proxies {
		p.close()
	}
}

// normalBound is how soon traffic must be normal again after each fault, on a
// machine that has other things to do.
const normalBound = 15 * time.Second

// normalAfter waits until traffic is back to normal after something that
// happened at an instant, and says how long that took.
func (w *world) normalAfter(what string, since time.Time, servers ...string) {
	w.Helper()
	w.normalWithin(normalBound, what, since, servers...)
}

func (w *world) normalWithin(bound time.Duration, what string, since time.Time, servers ...string) {
	w.Helper()
	traffic.Await(w, "traffic is normal after "+what, bound-w.awake(since, time.Now()),
		func() bool { return w.load.normal(since, servers...) }, w.load.String)
	who := "the callers are"
	if len(servers) > 0 {
		who = fmt.Sprintf("the callers and servers %v are", servers)
	}
	w.Logf("%s: %s back to normal after %v (bound %v)", what, who, time.Since(since).Round(time.Millisecond), bound)
}

// awake returns how much of the time between two instants this process could use.
func (w *world) awake(from, to time.Time) time.Duration {
	return to.Sub(from) - w.pauses.Between(from, to)
}

// felt returns how much the callers have felt so far of what was broken: RPCs
// that failed, and attempts.
func (w *world) felt() int {
	_, badly := w.load.ended()
	return badly + int(w.client.retries.Load())
}

// feel waits until the callers have felt a fault so many times more than before.
func (w *world) feel(times, before int) {
	w.Helper()
	traffic.Await(w, "the fault is felt", normalBound, func() bool { return w.felt() >= before+times }, w.load.String)
}

// end ends the load and asserts what must hold whatever was broken. It returns
// how the RPCs ended. All servers must be up.
func (w *world) end(allowed ...codes.Code) {
	w.Helper()
	results := w.load.end()
	w.checkEnds(results, allowed)
	w.checkRoom()
	w.checkPermits()
	attempts, messages := w.ledger.settle(results)
	for i, p := range w.ledger.problems {
		if w.Error(p); i == 10 {
			break
		}
	}
	w.Logf("%d RPCs: %s; %d retries; the servers received %d messages of %d attempts, none twice",
		len(results), summary(results), w.client.retries.Load(), messages, attempts)
	w.close()
}

// checkEnds asserts that each RPC ended with a status, by its deadline.
func (w *world) checkEnds(results []result, allowed []codes.Code) {
	w.Helper()
	if paused := w.pauses.Between(results[0].began, time.Now()); paused > attemptTimeout/2 {
		w.Logf("the machine stood still for %v: RPCs may have missed their deadlines, and breakers have opened", paused)
		allowed = append(allowed, codes.Unavailable, codes.DeadlineExceeded)
	}
	var longest time.Duration
	for _, r := range results {
		longest = max(longest, w.awake(r.began, r.began.Add(r.took)))
		if wrong, ok := errors.AsType[*traffic.AnswerError](r.err); ok {
			w.Error(wrong)
		} else if _, ok := status.FromError(r.err); !ok {
			w.Errorf("RPC %d ended with an error that is no status: %v", r.id, r.err)
		}
	}
	if longest > deadline+lateness {
		w.Errorf("an RPC with a deadline of %v ended after %v", deadline, longest)
	}
	if n, err := failed(results, allowed...); n > 0 {
		w.Errorf("%d RPCs ended with statuses that nothing explains. The first: %v", n, err)
	}
	w.Logf("the longest RPC took %v (deadline %v)", longest.Round(time.Millisecond), deadline)
}

// checkRoom asserts that the balancer has all of its room: as many streams as
// its limits allow can be open at a time, as many at each server, and not one
// more.
func (w *world) checkRoom() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	share := map[string]int{}
	var open []echov1.EchoService_BidiStreamClient
	for range len(names) * roomPerServer {
		var stream echov1.EchoService_BidiStreamClient
		var server string
		var err error
		// A server whose connection is being replaced has no room for a moment.
		traffic.Await(w, "there is room", 10*time.Second, func() bool {
			stream, server, err = w.open(ctx)
			return !full(err)
		}, func() string { return fmt.Sprintf("%d streams are open: %v", len(open), share) })
		if err != nil {
			w.Errorf("with %d streams open: %v", len(open), err)
			break
		}
		share[server]++
		open = append(open, stream)
	}
	for _, name := range names {
		if share[name] != roomPerServer {
			w.Errorf("server %s has %d streams, want %d", name, share[name], roomPerServer)
		}
	}
	if _, _, err := w.open(ctx); !full(err) {
		w.Errorf("a stream more ended with %v, want LIMIT_FULL", err)
	}
	for _, stream := range open {
		_ = stream.CloseSend() // never fails
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			w.Errorf("a stream ended with %v", err)
		}
	}
}

// full reports whether the balancer had no room.
func full(err error) bool {
	r, ok := errors.AsType[*turret.Refusal](err)
	return ok && r.Layer == "balance" && r.Reason == "LIMIT_FULL"
}

// open opens a stream, in one attempt, and gets an answer on it.
func (w *world) open(ctx context.Context) (stream echov1.EchoService_BidiStreamClient, server string, err error) {
	if stream, err = w.client.BidiStream(context.WithValue(ctx, onceKey{}, true)); err != nil {
		return nil, "", err
	}
	r := traffic.RPC{ID: w.ids.Add(1)}
	_ = stream.Send(&echov1.BidiStreamRequest{Payload: r.Payload(0)}) // Recv has the status
	answer, err := stream.Recv()
	return stream, answer.GetReport().GetServer(), err
}

// checkPermits asserts that nothing of any RPC is held any more.
func (w *world) checkPermits() {
	w.Helper()
	if s := w.client.places.Stats(); s.InFlight != 0 || s.Waiting != 0 {
		w.Errorf("the client's limit: %+v", s)
	}
	if s := w.client.circuit.Stats(); s.InFlight != 0 || s.State != breaker.Closed {
		w.Errorf("the client's breaker: %+v", s)
	}
	if started, ended := w.client.spans.Count(); started != ended {
		w.Errorf("%d spans were started, and %d ended", started, ended)
	}
	for _, p := range w.servers {
		traffic.Await(w, "server "+p.config.Name+" holds nothing", 10*time.Second, func() bool {
			s := p.ask()
			return s.inFlight == 0 && s.waiting == 0
		}, func() string { return "" })
	}
}

// close ends everything, and asserts that nothing is left of it.
func (w *world) close() {
	w.Helper()
	_ = w.client.conn.Close()
	for _, p := range w.servers {
		p.close()
	}
	for _, p := range w.proxies {
		p.close()
	}
	w.pauses.Stop()
	traffic.Await(w, "no goroutine is left", 10*time.Second,
		func() bool { return runtime.NumGoroutine() <= w.goroutines },
		traffic.Goroutines)
}
