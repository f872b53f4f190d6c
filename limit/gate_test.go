package limit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/turrettest"
)

// queues are the lines that the conformance suite sees in front of each gate.
var queues = map[string]limit.Queue{
	"no line":          {},
	"line of one":      {Max: 1},
	"line of two":      {Max: 2, Timeout: time.Minute},
	"long line":        {Max: 100, Timeout: time.Hour},
	"line without end": {Max: limit.Unbounded},
}

func TestConcurrencyIsAGate(t *testing.T) {
	for name, q := range queues {
		for _, room := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, room), func(t *testing.T) {
				turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) {
					return limit.NewConcurrency(room, q), room
				})
			})
		}
	}
}

func TestTokenBucketIsAGate(t *testing.T) {
	rates := map[string]limit.Rate{
		"one a second":    limit.PerSecond(1),
		"burst of 3":      {N: 1, Per: time.Minute, Burst: 3},
		"a thousand of 2": {N: 1000, Per: time.Second, Burst: 2},
		"a third of 1ns":  {N: 3, Per: 1, Burst: 3},
	}
	for name, q := range queues {
		for rateName, r := range rates {
			t.Run(name+"/"+rateName, func(t *testing.T) {
				turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) {
					return limit.NewTokenBucket(r, q), max(r.Burst, 1)
				})
			})
		}
	}
}
