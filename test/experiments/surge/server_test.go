package surge

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ends makes calls of this work at once and returns how many end after each time.
func ends(t *testing.T, server func() Server, calls int, work, deadline time.Duration) (after map[time.Duration]int, busy time.Duration) {
	t.Helper()
	after = map[time.Duration]int{}
	synctest.Test(t, func(*testing.T) {
		s := server()
		var mu sync.Mutex
		var all sync.WaitGroup
		begin := time.Now()
		for range calls {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				defer cancel()
				s.Do(ctx, &Call{Work: work, elsewhere: 1})
				mu.Lock()
				defer mu.Unlock()
				after[time.Since(begin)]++
			})
		}
		all.Wait()
		busy = s.Busy()
	})
	return after, busy
}

// TestServers plays a few calls at once at each kind of server.
func TestServers(t *testing.T) {
	for name, tt := range map[string]struct {
		server   func() Server
		deadline time.Duration
		want     map[time.Duration]int
		busy     time.Duration
	}{
		"workers take turns":              {Workers(2), time.Second, map[time.Duration]int{10 * ms: 2, 20 * ms: 1}, 15 * ms},
		"calls whose time is over leave":  {Workers(2), 5 * ms, map[time.Duration]int{5 * ms: 1, 10 * ms: 2}, 10 * ms},
		"cores are shared":                {Cores(2, 0), time.Second, map[time.Duration]int{15 * ms: 3}, 15 * ms},
		"calls inside slow each other":    {Cores(2, 1), time.Second, map[time.Duration]int{22500 * time.Microsecond: 3}, 22500 * time.Microsecond},
		"calls wait for what is behind":   {Downstream(3, 100*ms), time.Second, map[time.Duration]int{110 * ms: 3}, 10 * ms},
		"and no longer than they may":     {Downstream(3, 100*ms), 50 * ms, map[time.Duration]int{50 * ms: 3}, 10 * ms},
		"a core for each call is no rush": {Cores(4, 1), time.Second, map[time.Duration]int{10 * ms: 3}, 7500 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			got, busy := ends(t, tt.server, 3, 10*ms, tt.deadline)
			for at, n := range got {
				if tt.want[at.Round(ms/10)] != n {
					t.Errorf("%d ended after %v; want %v", n, at, tt.want)
				}
			}
			if busy.Round(ms/10) != tt.busy {
				t.Errorf("busy for %v, want %v", busy, tt.busy)
			}
		})
	}
}

// TestCallsAreTheSame draws the calls of every scenario twice.
func TestCallsAreTheSame(t *testing.T) {
	for _, sc := range All() {
		first, second, other := sc.calls(1), sc.calls(1), sc.calls(2)
		if len(first) != len(second) || len(first) < 100 {
			t.Fatalf("%s: %d calls, and %d with the same seed", sc.ID, len(first), len(second))
		}
		for i := range first {
			if *first[i] != *second[i] {
				t.Fatalf("%s: call %d is %+v, and %+v with the same seed", sc.ID, i, *first[i], *second[i])
			}
		}
		if *first[0] == *other[0] {
			t.Errorf("%s: the same first call with another seed", sc.ID)
		}
	}
}
