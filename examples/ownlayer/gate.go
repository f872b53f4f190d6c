package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/turret-go/turret"
)

// ErrDraining is the cause of refusals while a [Drain] is closed.
var ErrDraining = errors.New("the server is draining")

// Drain is a gate that lets everything in until it is closed, and can wait until
// everything has left: for the end of a server's life.
type Drain struct {
	mu      sync.Mutex
	inside  int
	closed  bool
	drained chan struct{} // closed when the gate is closed and no call is inside
}

// NewDrain returns an open Drain.
func NewDrain() *Drain { return &Drain{drained: make(chan struct{})} }

// Ready returns ErrDraining for good once the gate is closed.
func (d *Drain) Ready(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrDraining
	}
	return nil
}

// Enter lets a call in. It never waits.
func (d *Drain) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return d.TryEnter(ctx)
}

// TryEnter lets a call in.
func (d *Drain) TryEnter(context.Context) (turret.Ticket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return turret.Ticket{}, &turret.Refusal{Kind: turret.KindUnavailable, Layer: "drain", Reason: "DRAINING", Err: ErrDraining}
	}
	d.inside++
	return turret.Ticket{}, nil
}

// Leave says that a call has ended.
func (d *Drain) Leave(turret.Ticket, turret.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	d.tell()
}

// Close refuses all calls from now on. The channel that it returns is closed
// when the last call has left.
func (d *Drain) Close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		d.tell()
	}
	return d.drained
}

// tell requires d.mu.
func (d *Drain) tell() {
	if d.closed && d.inside == 0 {
		close(d.drained)
	}
}

// String tells what the gate is doing, in one line.
func (d *Drain) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("drain: %d inside, closed %t", d.inside, d.closed)
}
