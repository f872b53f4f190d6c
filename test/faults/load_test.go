//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/faults/internal/traffic"
)

const (
	// callers is how many RPCs of the load are under way at a time.
	callers = 8
	// deadline is how long an RPC of the load may take.
	deadline = 4 * time.Second
	// lateness is how much later than its deadline an RPC may end, on a machine
	// that has other things to do.
	lateness = 2 * time.Second
)

// The number of an RPC determines its kind, and whether it may be repeated.
func kindOf(id uint64) interceptors.Kind { return traffic.Kinds[id%uint64(len(traffic.Kinds))] }
func mayRepeat(id uint64) bool           { return id/uint64(len(traffic.Kinds))%2 == 0 }

// plan is what the servers do for an RPC of the load: they take some time, so
// that there is always an RPC under way.
func plan() *echov1.Plan { return &echov1.Plan{Delay: durationpb.New(2 * time.Millisecond)} }

// A load is callers that send RPC after RPC, of all kinds in turn.
type load struct {
	client  *client
	size    int // of messages
	ids     *atomic.Uint64
	stop    chan struct{}
	stopped sync.Once
	running sync.WaitGroup

	mu      sync.Mutex
	results []result             // in the order in which the RPCs ended
	open    map[uint64]time.Time // when the RPCs began that are under way
}

// A result is how an RPC of the load ended.
type result struct {
	id      uint64
	began   time.Time
	took    time.Duration
	server  string // that answered
	err     error
	notSent bool
}

func startLoad(c *client, size int, ids *atomic.Uint64) *load {
	l := &load{client: c, size: size, ids: ids, stop: make(chan struct{}), open: map[uint64]time.Time{}}
	for range callers {
		l.running.Go(l.call)
	}
	return l
}

// call is one caller.
func (l *load) call() {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		if !l.once() && !l.pause() {
			return
		}
	}
}

// once carries out one RPC, and reports whether it was answered.
func (l *load) once() bool {
	id := l.ids.Add(1)
	r := traffic.RPC{Client: l.client, ID: id, Kind: kindOf(id), Size: l.size, Plan: plan()}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if !mayRepeat(id) {
		ctx = context.WithValue(ctx, onceKey{}, true)
	}
	began := time.Now()
	l.mu.Lock()
	l.open[id] = began
	l.mu.Unlock()
	server, err := r.Do(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, id)
	l.results = append(l.results, result{id, began, time.Since(began), server, err, errors.Is(err, turret.ErrNotReady)})
	return err == nil
}

// pause keeps a caller that was not answered from asking again at once. It
// returns false if the load ends meanwhile.
func (l *load) pause() bool {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-l.stop:
		return false
	case <-timer.C:
		return true
	}
}

// end lets the RPCs under way end, and returns all results. It may be called more
// than once.
func (l *load) end() []result {
	l.stopped.Do(func() { close(l.stop) })
	l.running.Wait()
	return l.results
}

// ended returns how many RPCs have ended, and how many of them not well.
func (l *load) ended() (all, badly int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.results {
		if r.err != nil {
			badly++
		}
	}
	return len(l.results), badly
}

const (
	// normalRow is how many RPCs in a row make traffic normal,
	normalRow = 100
	// normalShare is how many of them each server must answer.
	normalShare = 5
)

// normal reports whether the last RPCs that ended, all of them begun after an
// instant, were answered; each of these servers answered a share of them; and no
// RPC hangs, that is, is under way since before them. While not all servers are
// well one may hang: the one by which the balancer tries a server out.
func (l *load) normal(after time.Time, servers ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	share, row, first := map[string]int{}, 0, time.Now()
	for _, r := range slices.Backward(l.results) {
		if row == normalRow {
			break
		}
		if r.began.Before(after) {
			continue
		}
		if r.err != nil {
			return false
		}
		if r.began.Before(first) {
			first = r.began
		}
		share[r.server]++
		row++
	}
	hanging := 0
	for _, began := range l.open {
		if began.Before(first) {
			hanging++
		}
	}
	if hanging > 1 || hanging > 0 && len(servers) == len(names) {
		return false
	}
	for _, s := range servers {
		if share[s] < normalShare {
			return false
		}
	}
	return row == normalRow
}

// String lists how the last RPCs ended.
func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return "The last RPCs: " + summary(l.results[max(0, len(l.results)-normalRow):])
}

// summary counts results by what came of them.
func summary(results []result) string {
	counts := map[string]int{}
	for _, r := range results {
		what := status.Code(r.err).String()
		if r.err == nil {
			what += " of " + r.server
		}
		if !mayRepeat(r.id) {
			what += " (once)"
		}
		counts[what]++
	}
	lines := []string{}
	for what, n := range counts {
		lines = append(lines, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// failed returns how many results are none of these, or OK.
func failed(results []result, allowed ...codes.Code) (n int, first error) {
	for _, r := range results {
		if r.err == nil || slices.Contains(allowed, status.Code(r.err)) {
			continue
		}
		n++
		if first == nil {
			first = fmt.Errorf("RPC %d (%v): %w", r.id, kindOf(r.id), r.err)
		}
	}
	return n, first
}
