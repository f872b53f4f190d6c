package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/turret-go/turret"
)

// ErrOff is the cause of refusals while a [Switch] is off.
var ErrOff = errors.New("switched off by an operator")

// A Switch is a gate that an operator turns off: it refuses all calls until it is
// turned on again. Calls that are inside go on. The zero Switch is on. Its methods
// may be called concurrently.
type Switch struct {
	off      atomic.Bool
	inFlight atomic.Int64
	refused  atomic.Uint64
}

// Turn turns the switch on or off.
func (s *Switch) Turn(on bool) { s.off.Store(!on) }

// Ready returns an error that matches ErrOff and turret.ErrNotReady while the
// switch is off: it may be turned on again.
func (s *Switch) Ready(context.Context) error {
	if s.off.Load() {
		return turret.NotReady(ErrOff)
	}
	return nil
}

// Enter lets a call in. It never waits.
func (s *Switch) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return s.TryEnter(ctx)
}

// TryEnter lets a call in.
func (s *Switch) TryEnter(context.Context) (turret.Ticket, error) {
	if s.off.Load() {
		s.refused.Add(1)
		return turret.Ticket{}, &turret.Refusal{Kind: turret.KindUnavailable, Layer: "switch", Reason: "SWITCHED_OFF", Err: ErrOff}
	}
	s.inFlight.Add(1)
	return turret.Ticket{}, nil
}

// Leave counts a call that has ended.
func (s *Switch) Leave(turret.Ticket, turret.Outcome) { s.inFlight.Add(-1) }

// String returns what the gate is doing, in one line.
func (s *Switch) String() string {
	return fmt.Sprintf("switch: %s, %d in flight, %d refused", s.position(), s.inFlight.Load(), s.refused.Load())
}

func (s *Switch) position() string {
	if s.off.Load() {
		return "off"
	}
	return "on"
}

// Describe says the same for the status page and for metrics.
func (s *Switch) Describe(d *turret.Description) {
	d.Is("switch", s.String())
	d.State("position", s.position())
	d.Gauge("in_flight", "{call}", float64(s.inFlight.Load()))
	d.Count("refused", "{call}", "SWITCHED_OFF", s.refused.Load())
}
