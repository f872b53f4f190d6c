package load_test

import (
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/load"
)

// The owner of the trackers reads the clock and says what time it is, in
// nanoseconds since an instant of its choice.
func ExamplePeakEWMA() {
	const ms = int64(time.Millisecond)
	a, b := load.NewPeakEWMA(load.EWMAConfig{}), load.NewPeakEWMA(load.EWMAConfig{})
	for _, tr := range []*load.PeakEWMA{a, b} {
		tr.Done(10*ms, tr.Start(0), turret.Success, 0)
	}
	fmt.Println("equal:", a.Load(10*ms) == b.Load(10*ms))

	a.Start(10 * ms) // one call in flight
	fmt.Println("in flight:", time.Duration(a.Load(10*ms)), "against", time.Duration(b.Load(10*ms)))
	b.Done(11*ms, b.Start(10*ms), turret.Failure, 0) // fails within 1 ms
	fmt.Println("after a failure:", time.Duration(b.Load(11*ms)))
	// Output:
	// equal: true
	// in flight: 20ms against 10ms
	// after a failure: 5s
}
