package balance_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// An endpoint that is banned is no rival: where it is drawn the other one of the
// pair does not get the call for want of a comparison. Of three endpoints, as
// many a service has, every third call would go to the slowest otherwise.
func TestBannedIsNoRival(t *testing.T) {
	for _, c := range []balance.Config{{}, {Choices: 3}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, c, fakeconn.Endpoints(3))
			const slow = "e00001"
			counts := map[string]int{}
			for range 500 {
				p := f.pick()
				counts[p.address]++
				if p.address == slow {
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(5 * time.Millisecond)
				p.done(sick(down)(p.address))
			}
			if counts[first] > 20 || counts[slow] > 50 {
				t.Errorf("%+v: %v of 500 calls, want few to %s, which fails, and to %s, which is slow", c, counts, first, slow)
			}
		})
	}
}
