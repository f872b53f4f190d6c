package load

import (
	"context"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// A Meter is a [turret.Gate] that lets every call in and passes it to a [Tracker], for
// code with a choice of its own among services:
//
//	meter := load.NewMeter(load.NewPending())
//	service := turret.Gated[Req, Res](meter, nil)(inner)
//	meter.Load()
//
// That is what Tower's load.PeakEwma and PendingRequests do, which wrap a service.
// The balancers of package balance measure their endpoints themselves. A Meter
// costs what its Tracker does and a reading of the clock. Use [NewMeter]; its
// methods may be called concurrently.
type Meter struct {
	tracker Tracker
	base    time.Time
}

// NewMeter returns a [Meter] over t, which must have no other owner: its instants
// are counted from now. It panics if t is nil.
func NewMeter(t Tracker) *Meter {
	if t == nil {
		misuse.Check("load: NewMeter", invalid("tracker", nil, "non-nil"))
	}
	return &Meter{t, time.Now()}
}

func (m *Meter) now() int64 { return int64(time.Since(m.base)) }

// Load returns the load of what the calls went to, as the Tracker has it: lower is
// better.
func (m *Meter) Load() float64 { return m.tracker.Load(m.now()) }

// Ready returns nil.
func (m *Meter) Ready(context.Context) error { return nil }

// Enter lets the call in, unless ctx is done.
func (m *Meter) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return m.TryEnter(ctx)
}

// TryEnter lets the call in.
func (m *Meter) TryEnter(context.Context) (turret.Ticket, error) {
	return m.tracker.Start(m.now()), nil
}

// Leave tells the Tracker how the call went.
func (m *Meter) Leave(t turret.Ticket, o turret.Outcome) { m.tracker.Done(m.now(), t, o, 0) }

// String returns the load in words.
func (m *Meter) String() string { return fmt.Sprintf("load %.6g", m.Load()) }
