package balance_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// endings are the ways in which a call can end.
var endings = []balancer.DoneInfo{
	answered, down, unused, cutStream, failed(codes.NotFound), failed(codes.ResourceExhausted),
	failed(codes.DeadlineExceeded), failed(codes.Canceled),
}

// FuzzTimeline plays faults of all kinds and checks what must hold whatever
// happens: no removed endpoint is picked, no call is refused while there is
// room, room comes back once, and every healthy endpoint is used.
func FuzzTimeline(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 16, 24, 1, 9, 17, 2, 10, 3, 11, 4, 12})
	f.Add([]byte{0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 9, 9, 9, 250, 251, 252, 7, 15, 6, 14, 22})
	f.Add([]byte{7, 7, 7, 0, 0, 0, 6, 6, 0, 0, 5, 5, 13, 0, 0, 255, 247, 239})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 300 {
			return
		}
		synctest.Test(t, func(t *testing.T) { playTimeline(t, steps) })
	})
}

const (
	fuzzEndpoints = 10
	fuzzLimit     = 3
)

func playTimeline(t *testing.T, steps []byte) {
	all := fakeconn.Endpoints(fuzzEndpoints)
	f := newFleet(t, balance.Config{Limit: fuzzLimit}, all)
	named := fuzzEndpoints // the first so many are
	var inside []picked
	end := func(i int, d balancer.DoneInfo) {
		inside[i].done(d)
		inside = append(inside[:i], inside[i+1:]...)
	}
	for _, step := range steps {
		what, how := step&7, int(step>>3)
		switch {
		case what <= 2: // a call
			p, err := f.tryPick(t.Context())
			if err != nil {
				if len(inside) < fuzzLimit {
					t.Fatalf("refused with %d in flight: %v", len(inside), err)
				}
				continue
			}
			if p.address >= all[named-1].Addresses[0].Addr && p.address != all[named-1].Addresses[0].Addr {
				t.Fatalf("picked %s of %d endpoints", p.address, named)
			}
			inside = append(inside, p)
		case what == 3 && len(inside) > 0:
			end(0, endings[how%len(endings)])
		case what == 4 && len(inside) > 0:
			end(len(inside)-1, endings[how%len(endings)])
		case what == 5 && len(inside) > 0: // a connection is lost; it comes back
			inside[how%len(inside)].conn.Become(connectivity.Idle)
			f.conn.Settle()
			synctest.Wait()
			f.conn.Settle()
		case what == 6:
			named = how%fuzzEndpoints + 1
			f.resolve(all[:named])
		case what == 7:
			time.Sleep(time.Duration(how*how) * 20 * time.Millisecond)
		}
	}
	for len(inside) > 0 {
		end(0, answered)
	}
	f.resolve(all)
	checkHealthy(t, f)
}

// checkHealthy checks that a fleet whose endpoints are all healthy uses all of them,
// with all of their room.
func checkHealthy(t *testing.T, f *fleet) {
	t.Helper()
	for range 2 { // the longest ban is over, and every endpoint was tried
		time.Sleep(time.Minute)
		f.serve(200, well)
	}
	for range 3 {
		if n := len(f.serve(1000, well)); n != fuzzEndpoints {
			t.Fatalf("%d of %d healthy endpoints were used in 10 s", n, fuzzEndpoints)
		}
	}
	for n := range fuzzEndpoints * fuzzLimit {
		if _, err := f.tryPick(t.Context()); err != nil {
			t.Fatalf("call %d of %d with nothing else in flight: %v", n+1, fuzzEndpoints*fuzzLimit, err)
		}
	}
	if _, err := f.tryPick(t.Context()); err == nil {
		t.Fatal("there is more room than there was at first")
	}
}
