//go:build unix

package faults

import (
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/test/faults/internal/traffic"
)

// A server dies, and comes back at its address.
func TestServerKilled(t *testing.T) {
	w := begin(t, setup{})
	before, since := w.felt(), time.Now()
	w.servers[0].kill()
	w.feel(1, before)
	w.normalAfter("kill -9 of server a", since)
	since = time.Now()
	w.servers[0] = w.servers[0].restart()
	w.normalAfter("its restart", since, names...)
	w.end(codes.Unavailable, codes.DeadlineExceeded)
}

// All servers die: no endpoint is left.
func TestAllServersKilled(t *testing.T) {
	w := begin(t, setup{})
	before := w.felt()
	for _, p := range w.servers {
		p.kill()
	}
	w.feel(200, before)
	since := time.Now()
	for i, p := range w.servers {
		w.servers[i] = p.restart()
	}
	w.normalAfter("the restart of all servers after kill -9", since, names...)
	w.end(codes.Unavailable, codes.DeadlineExceeded)
}

// A server's process stops: its system still accepts connections and bytes, and no
// answer comes. Then the process continues, with requests whose callers have given
// up.
func TestServerStopped(t *testing.T) {
	w := begin(t, setup{})
	before, since := w.felt(), time.Now()
	w.servers[0].signal(syscall.SIGSTOP)
	w.feel(1, before)
	w.normalAfter("SIGSTOP of server a", since)
	since = time.Now()
	w.servers[0].signal(syscall.SIGCONT)
	w.normalAfter("SIGCONT", since, names...)
	w.end(codes.Unavailable, codes.DeadlineExceeded)
}

// A connection breaks in the middle of a request, and one to the other server in
// the middle of a response.
func TestCutInMessage(t *testing.T) {
	w := begin(t, setup{proxied: true, size: 12 << 10})
	for d, what := range [...]string{toServer: "a cut in a request", toClient: "a cut in a response"} {
		before, since := w.felt(), time.Now()
		w.proxies[d].cutInMessage(direction(d))
		w.feel(1, before)
		w.normalAfter(what, since, names...)
		if n := w.proxies[d].done(); n != 1 {
			t.Errorf("%d connections were cut in a message, want 1", n)
		}
	}
	w.end(codes.Unavailable, codes.DeadlineExceeded)
}

// An address accepts connections and sends nothing, from the start: no RPC waits
// for it, and it is used once a server is there.
func TestBlackHoleFromTheStart(t *testing.T) {
	w := begin(t, setup{proxied: true, deaf: true})
	since := time.Now()
	w.proxies[0].accept()
	w.normalAfter("the end of the black hole", since, names...)
	w.end() // all were answered
}

// Nothing arrives any more, in both directions, and new connections lead
// nowhere; then what was under way arrives after all.
func TestBlackHoleForAWhile(t *testing.T) {
	w := begin(t, setup{proxied: true})
	before, since := w.felt(), time.Now()
	w.proxies[0].stall()
	w.feel(1, before)
	w.normalAfter("the beginning of the black hole", since)
	since = time.Now()
	w.proxies[0].pass()
	w.normalAfter("the end of the black hole", since, names...)
	w.end(codes.Unavailable, codes.DeadlineExceeded)
}

// A connection loses everything, and neither end gets an error: the
// client notices by keepalive, after 11 s.
func TestConnectionForgotten(t *testing.T) {
	w := begin(t, setup{proxied: true, maxBan: 2 * time.Second})
	before, since := w.felt(), time.Now()
	w.proxies[0].lose()
	w.feel(1, before)
	w.normalAfter("the loss of a connection", since)
	w.normalWithin(2*normalBound, "the loss of a connection", since, names...)
	w.end(codes.Unavailable, codes.DeadlineExceeded)
}

// Servers say GOAWAY again and again in the middle of a load: the connections
// are replaced, and no RPC fails.
func TestGoAway(t *testing.T) {
	w := begin(t, setup{maxAge: 100 * time.Millisecond})
	const connections = 20
	for _, p := range w.servers {
		traffic.Await(t, "connections have been replaced", normalBound,
			func() bool { return p.ask().connections >= connections }, w.load.String)
	}
	w.normalAfter("20 connections to each server", time.Now(), names...)
	w.end() // all were answered
}

// A server stops gracefully under load: it sends GOAWAY, finishes what it has
// begun, and goes. No RPC fails.
func TestGracefulStop(t *testing.T) {
	w := begin(t, setup{})
	since := time.Now()
	w.Logf("GracefulStop took %v", w.servers[0].stop(normalBound).Round(time.Millisecond))
	w.normalAfter("GracefulStop of server a", since)
	since = time.Now()
	w.servers[0] = w.servers[0].restart()
	w.normalAfter("its restart", since, names...)
	w.end() // all were answered
}
