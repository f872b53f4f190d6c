package balance_test

import (
	"testing"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// However many fail, at most MaxBanned of the endpoints are out: calls that may go
// to no endpoint that is out still find one, even if nothing recovers.
func TestMaxBanned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{MaxBanned: 0.5, OnBanned: balance.Refuse}, fakeconn.Endpoints(10))
		late := map[string]bool{}
		for n := range 1000 { // at one instant: no ban ends
			p, err := f.tryPick(t.Context())
			if err != nil {
				t.Fatalf("call %d: %v", n, err)
			}
			p.done(down)
			if n >= 500 {
				late[p.address] = true
			}
		}
		if len(late) != 5 {
			t.Errorf("%d endpoints are used when all of them have failed, want 5 of 10", len(late))
		}
	})
}
