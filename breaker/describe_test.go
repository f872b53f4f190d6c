package breaker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/retry"
)

func TestBreakerCountsItsTransitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Consecutive: 1, Backoff: retry.Backoff{Base: time.Second}})
		call := func(o turret.Outcome) {
			ticket, err := b.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b.Leave(ticket, o)
		}
		call(turret.Failure) // opens
		_, _ = b.Enter(t.Context())
		time.Sleep(2 * time.Second)
		call(turret.Failure) // a probe fails
		time.Sleep(4 * time.Second)
		call(turret.Success) // a probe succeeds
		b.Reset()            // is closed already
		n := turret.Describe(b, 0)
		got := map[string]float64{}
		for _, f := range n.Figures {
			got[f.Name+" "+f.Reason+f.Text] = f.Value
		}
		for name, want := range map[string]float64{
			"transitions open": 2, "transitions half_open": 2, "transitions closed": 1,
			"refused CIRCUIT_OPEN": 1, "entered ": 3, "in_flight ": 0,
		} {
			if got[name] != want {
				t.Errorf("%s: %v, want %v", name, got[name], want)
			}
		}
		if _, ok := got["state closed"]; !ok {
			t.Errorf("the state is missing: %v", n.Figures)
		}
	})
}
