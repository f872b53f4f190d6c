//go:build unix

package faults

import (
	"fmt"
	"sync"

	"github.com/turret-go/turret/test/faults/internal/traffic"
)

// A ledger is what the servers say they have received, checked as it comes in.
type ledger struct {
	mu       sync.Mutex
	attempts map[attempt]*receipt
	problems []string
}

// An attempt is one attempt of an RPC of the client.
type attempt struct {
	rpc    uint64
	number int
}

// A receipt is how much of an attempt a server has received.
type receipt struct {
	server   string
	messages int
}

func newLedger() *ledger { return &ledger{attempts: map[attempt]*receipt{}} }

// add takes note of a message that a handler received: the number of its RPC, of
// the attempt, and its own, from 0. The messages of an attempt must come once
// each, in order, at one server.
func (l *ledger) add(server string, n [3]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := attempt{uint64(n[0]), n[1]}
	r, ok := l.attempts[a]
	if !ok {
		r = &receipt{server: server}
		l.attempts[a] = r
	}
	if r.server != server || r.messages != n[2] {
		l.problemLocked("RPC %d, attempt %d: server %s has received message %d after %d of them at server %s",
			a.rpc, a.number, server, n[2], r.messages, r.server)
	}
	r.messages++
}

func (l *ledger) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problemLocked(format, args...)
}

func (l *ledger) problemLocked(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// settle compares the ledger with what the callers saw, when all servers have
// said all. It returns how many attempts and messages were received.
func (l *ledger) settle(results []result) (attempts, messages int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	type total struct{ attempts, last, complete int }
	received := map[uint64]*total{}
	for a, r := range l.attempts {
		t, ok := received[a.rpc]
		if !ok {
			t = new(total)
			received[a.rpc] = t
		}
		t.attempts++
		t.last = max(t.last, a.number)
		if r.messages == traffic.Messages(kindOf(a.rpc)) {
			t.complete++
		}
		attempts++
		messages += r.messages
	}
	for _, r := range results {
		t := received[r.id]
		switch {
		case t == nil && r.err == nil:
			l.problemLocked("RPC %d was answered, and no server has received it", r.id)
		case t == nil:
		case r.notSent:
			l.problemLocked("RPC %d was refused before it was sent, and a server has received it", r.id)
		case t.last >= maxAttempts:
			l.problemLocked("RPC %d was tried %d times", r.id, t.last+1)
		case !mayRepeat(r.id) && t.last > 0:
			l.problemLocked("RPC %d must not be repeated, and was tried %d times", r.id, t.last+1)
		case r.err == nil && t.complete == 0:
			l.problemLocked("RPC %d was answered, and no server has received all of it", r.id)
		}
	}
	return attempts, messages
}
