package soak

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/test/faults/internal/traffic"
)

var duration = flag.Duration("for", 30*time.Second, "how long to soak")

const (
	// warm is how many rounds pass before memory must stop to grow.
	warm = 3
	// mayGrow is how much more memory may be in use at the end than when it was
	// warm: buffers and pools are not always the same. A leak of 100 bytes in each
	// RPC passes this bound after some 10,000 of them.
	mayGrow = 1 << 20
)

// A round is what was measured at its end, when no RPC was running.
type round struct {
	sums

	goroutines int
	heap       int // bytes in use
}

func TestSoak(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	w := newWorld(t)
	var rounds []round
	var total sums
	length := min(max(*duration/12, time.Second), 20*time.Second)
	for began := time.Now(); len(rounds) < 2*warm || time.Since(began) < *duration; {
		r := w.round(t, uint64(len(rounds)), length)
		rounds = append(rounds, r)
		total.add(r.sums)
		t.Logf("round %d: %d RPCs/s, %d goroutines, %d KiB in use; %s",
			len(rounds), int(float64(r.RPCs)/length.Seconds()), r.goroutines, r.heap>>10, &r.sums)
		if t.Failed() {
			return
		}
	}
	t.Logf("all of it: %s", &total)
	w.fleet.Stop() // after which nothing comes late
	w.compare(t, &total)
	w.agree(t, &total)
	flat(t, rounds)
	await(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// round lets all callers send RPCs for a while, waits until everything is at
// rest, and accounts for every RPC.
func (w *world) round(t *testing.T, number uint64, length time.Duration) round {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	until := time.Now().Add(length)
	for i := range callers {
		c := &caller{w, rand.New(rand.NewPCG(number, uint64(i)))}
		all.Go(func() {
			for time.Now().Before(until) {
				n := int(next.Add(1)) - 1
				if n >= perRound {
					return
				}
				if err := c.call(number, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	w.tally.close()
	await(t, "everything is at rest", w.atRest)
	s := w.tally.settle(min(int(next.Load()), perRound), t.Errorf)
	return round{sums: s, goroutines: w.resting(t), heap: inUse()}
}

// resting waits until there are no more goroutines than after the first round,
// and returns how many there are.
func (w *world) resting(t *testing.T) int {
	t.Helper()
	if w.goroutines == 0 {
		// A goroutine of a connection may still be on its way out.
		runtime.GC()
		w.goroutines = runtime.NumGoroutine()
	}
	await(t, "as many goroutines as after the first round", func() bool { return runtime.NumGoroutine() <= w.goroutines })
	return runtime.NumGoroutine()
}

// compare asserts that the counters of the limits and of the breaker, of the
// servers and of the spans say the same as the tally.
func (w *world) compare(t *testing.T, s *sums) {
	t.Helper()
	late := w.tally.late.Load()
	equal := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	equal("attempts with a number out of bounds", w.tally.tooMany.Load(), 0)
	equal("attempts that servers saw", w.tally.arrived.Load(), s.Seen+late)
	equal("attempts that servers saw, by what became of them", s.SrvAnswered+s.SrvRefused+s.SrvFailed, s.Seen)
	c := w.circuit.Stats()
	equal("RPCs that the breaker let in", c.Entered, s.Tried)
	p := w.places.Stats()
	equal("attempts that the client's limit let in or refused", p.Entered+p.Full+p.QueueFull+p.QueueTimeout, s.Attempts-s.Early)
	var entered uint64
	for _, r := range w.rooms {
		entered += r.Stats().Entered
	}
	if in := s.SrvAnswered + s.SrvFailed; entered < in || entered > in+late {
		t.Errorf("the servers' limits let in %d attempts, want %d, and at most %d late ones", entered, in, late)
	}
	for what, n := range map[string]uint64{
		"retries": w.counters.client.of(interceptors.EventRetry), "panics": w.panics.Load(), "refusals by the client": s.Unsent,
		"refusals by servers": s.SrvRefused, "RPCs that were given up": s.GaveUp,
	} {
		if n == 0 {
			t.Errorf("there were no %s: the load is too light", what)
		}
	}
	_, spans := w.spans.Count()
	t.Logf("%d retries, %d panics recovered, %d attempts seen late; the breaker opened %d times; %d spans",
		w.counters.client.of(interceptors.EventRetry), w.panics.Load(), late, c.Opened, spans)
	t.Logf("the client's limit: %v", w.places)
	for _, r := range w.rooms {
		t.Logf("a server's limit: %v", r)
	}
}

// flat asserts that memory has not grown.
func flat(t *testing.T, rounds []round) {
	t.Helper()
	byHeap := func(a, b round) int { return a.heap - b.heap }
	before, after := rounds[1:warm+1], rounds[len(rounds)-warm:]
	// The most of the beginning, and the least of the end: what grows passes
	// between them; what only varies does not.
	most, least := slices.MaxFunc(before, byHeap).heap, slices.MinFunc(after, byHeap).heap
	if grown := least - most; grown > mayGrow {
		t.Errorf("memory in use grew by %d KiB, want at most %d KiB", grown>>10, mayGrow>>10)
	}
	t.Logf("memory in use: at most %d KiB in rounds 2 to %d, at least %d KiB in the last %d", most>>10, warm+1, least>>10, warm)
}

// inUse returns how many bytes of memory are in use.
func inUse() int {
	runtime.GC() // what pools held moves to where the second one finds it
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// await waits until condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	traffic.Await(t, what, 20*time.Second, condition, traffic.Goroutines)
}
