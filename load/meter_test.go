package load_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/load"
	"github.com/turret-go/turret/turrettest"
)

// Two services are measured, and each request goes to the one with fewer calls in
// flight.
func ExampleMeter() {
	meters := []*load.Meter{load.NewMeter(load.NewPending()), load.NewMeter(load.NewPending())}
	var services []turret.Service[string, string]
	for i, meter := range meters {
		services = append(services, turret.Gated[string, string](meter, nil)(turret.ServiceFunc(
			func(context.Context, string) (string, error) {
				return fmt.Sprintf("service %d, loads %v and %v", i, meters[0].Load(), meters[1].Load()), nil
			})))
	}
	least := turret.Steer(func(context.Context, string, []turret.Service[string, string]) int {
		if meters[1].Load() < meters[0].Load() {
			return 1
		}
		return 0
	}, services...)

	busy, _ := meters[0].TryEnter(context.Background()) // a call that takes long
	fmt.Println(least.Call(context.Background(), ""))
	meters[0].Leave(busy, turret.Success)
	fmt.Println(least.Call(context.Background(), ""))
	// Output:
	// service 1, loads 1 and 1 <nil>
	// service 0, loads 1 and 0 <nil>
}

func TestMeterIsAGate(t *testing.T) {
	for name, made := range map[string]func() load.Tracker{
		"Pending":  func() load.Tracker { return load.NewPending() },
		"EWMA":     func() load.Tracker { return load.NewEWMA(load.EWMAConfig{}) },
		"Constant": func() load.Tracker { return load.Constant(1) },
	} {
		t.Run(name, func(t *testing.T) {
			turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return load.NewMeter(made()), -1 })
		})
	}
}

// The tracker gets the start, the end and the outcome of each call.
func TestMeterTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &telling{}
		time.Sleep(time.Hour) // the clock begins with the meter
		meter := load.NewMeter(told)
		s, inner := turrettest.NewMockUnder(t, turret.Gated[string, string](meter, nil))
		for i, answer := range []func(*turrettest.Request[string, string]) bool{
			func(r *turrettest.Request[string, string]) bool { return r.Respond("") },
			func(r *turrettest.Request[string, string]) bool { return r.Fail(errors.New("failed")) },
			func(r *turrettest.Request[string, string]) bool { return r.Fail(turret.ErrNotReady) },
		} {
			call := turrettest.Go(t.Context(), s, "")
			request := inner.Next(t.Context())
			time.Sleep(time.Duration(i+1) * time.Second)
			answer(request)
			_, _ = call.Result()
		}
		want := "start 0s; done 1s of 0s Success; start 1s; done 3s of 1s Failure; start 3s; done 6s of 3s Unused; "
		if told.log != want {
			t.Errorf("told %q, want %q", told.log, want)
		}
		if got := meter.Load(); got != 6 {
			t.Errorf("load %v, want the tracker's of now", got)
		}
	})
}

// telling is a tracker that records its calls; its load is the time in
// seconds.
type telling struct{ log string }

func (t *telling) Start(now int64) turret.Ticket {
	t.log += fmt.Sprintf("start %v; ", time.Duration(now))
	return turret.Ticket{Start: now}
}

func (t *telling) Done(now int64, ticket turret.Ticket, o turret.Outcome, _ time.Duration) {
	t.log += fmt.Sprintf("done %v of %v %v; ", time.Duration(now), time.Duration(ticket.Start), o)
}

func (t *telling) Load(now int64) float64 { return time.Duration(now).Seconds() }

func TestMeterDoesNotAllocate(t *testing.T) {
	s := turret.Gated[string, string](load.NewMeter(load.NewEWMA(load.EWMAConfig{})), nil)(
		turret.ServiceFunc(func(_ context.Context, req string) (string, error) { return req, nil }))
	ctx := t.Context()
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, "") }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func TestMeterNeedsATracker(t *testing.T) {
	defer func() {
		if got, want := fmt.Sprint(recover()), "load: NewMeter: tracker is nil, must be non-nil"; got != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	load.NewMeter(nil)
}
