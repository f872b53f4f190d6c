package ready_test

import (
	"context"
	"errors"
	"sync"

	"github.com/turret-go/turret"
)

var errBroken = errors.New("broken")

// A door is a service that is ready while it is open. Its zero value is shut.
type door struct {
	mu      sync.Mutex
	open    bool
	err     error         // final
	changed chan struct{} // closed when any of this changes; nil if no call waits
	waiting int           // in Ready
	calls   int
}

func (d *door) Ready(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.err != nil:
			return d.err
		case d.open:
			return nil
		case ctx.Err() != nil:
			return turret.NotReady(ctx.Err())
		}
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		d.wait(ctx, d.changed)
	}
}

// wait unlocks the door while it waits.
func (d *door) wait(ctx context.Context, changed <-chan struct{}) {
	d.waiting++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.waiting--
	}()
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

func (d *door) Call(_ context.Context, req string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return req, nil
}

func (d *door) set(open bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open, d.err = open, err
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

func (d *door) asking() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

// opened returns a door that is open.
func opened() *door { return &door{open: true} }
