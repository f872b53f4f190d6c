package balance

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// A connection is one endpoint of a [ClientConn]: a grpc.ClientConn of its own,
// with a stack of its own.
type connection struct {
	address string
	// nil if err is set.
	conn  *grpc.ClientConn
	err   error               // why there is none
	stack *interceptors.Stack // may be nil

	// Set by connect before watch begins.
	weight   uint32
	endpoint *endpoint
	reach    *reachability
	resolve  func() // asks the source for new addresses; must not wait for RPCs

	// up is written with mu held, and read without it by RPCs.
	up atomic.Bool // connected

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when up changes
	counted bool          // counted in reach
	left    bool
}

// dial makes the connection of an address; it begins to connect when it is
// watched. What is wrong with the address is for Ready to say.
func dial(address string, stack *interceptors.Stack, h *reachability, options []grpc.DialOption) *connection {
	c := &connection{address: address, stack: stack, reach: h, changed: make(chan struct{})}
	failures, forget := reporting(c)
	defer forget()
	// An unused endpoint must keep its connection: without one it would not be ready,
	// and so would never be used.
	// The caller's options come behind ours, and the stack's behind both: a service config
	// of the caller takes the place of ours, and the stack is inside the caller's
	// interceptors.
	all := append([]grpc.DialOption{grpc.WithIdleTimeout(0), failures}, options...)
	if stack != nil {
		all = append(all, stack.DialOptions()...)
	}
	c.conn, c.err = grpc.NewClient(target(address), all...)
	c.count(c.err == nil)
	return c
}

// target returns the target of gRPC that dials address, unless it is a target.
func target(address string) string {
	if strings.Contains(address, "://") {
		return address
	}
	return (&url.URL{Scheme: "passthrough", Path: "/" + address}).String() // a zone of IPv6 has a percent sign
}

// Weight returns the weight of the address; 0 counts as 1.
func (c *connection) Weight() uint32 { return c.weight }

// watch connects, again and again, until the connection is closed.
// It is one goroutine for each connection. States that pass while it is at work are
// missed, which does no harm: the newest counts. gRPC waits between attempts to
// connect, so that this loop does not spin.
func (c *connection) watch() {
	for {
		state := c.conn.GetState()
		c.note(state)
		switch state {
		case connectivity.Idle:
			c.conn.Connect()
		case connectivity.Shutdown:
			return
		default:
		}
		c.conn.WaitForStateChange(context.Background(), state)
	}
}

// note takes note of a state. A connection that was made anew begins a slow
// start: the server may have been started anew as well.
func (c *connection) note(state connectivity.State) {
	switch state {
	case connectivity.Ready:
		c.count(true)
		c.report("") // not the policy's part: a resolver may have brought another one
		c.endpoint.warmUp(c.endpoint.pool.now())
	case connectivity.TransientFailure:
		c.count(false)
	default:
	}
	c.setUp(state == connectivity.Ready)
}

// setUp notes whether there is a connection. If it was lost, the server may have
// moved.
func (c *connection) setUp(up bool) {
	if changed := c.change(up); changed && !up {
		c.resolve()
	}
}

// change is setUp, and reports whether up is news.
// It wakes all that wait in Ready, by closing the channel that they have read.
func (c *connection) change(up bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if up == c.up.Load() {
		return false
	}
	c.up.Store(up)
	close(c.changed)
	c.changed = make(chan struct{})
	return true
}

// count notes whether the connection may still connect.
// It also reports a state that is no news (add(0)), so that reachability looks again.
func (c *connection) count(counts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts = counts && !c.left
	switch {
	case counts && !c.counted:
		c.reach.add(1)
	case !counts && c.counted:
		c.reach.add(-1)
	default:
		c.reach.add(0)
	}
	c.counted = counts
}

// report takes the reason why the connection could not be made, and "" when it was
// made.
func (c *connection) report(failure string) {
	if failure != "" {
		c.resolve()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		failure = ""
	}
	c.reach.report(c, failure)
}

// leave takes the connection out of those that may connect.
// It is called once, when the source has removed the address or the group is closed.
func (c *connection) leave() {
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	c.count(false)
	c.report("")
}

// Ready waits until the connection is there and the stack has room.
// An error that is c.err is final: the group drops the address.
func (c *connection) Ready(ctx context.Context) error {
	if c.err != nil {
		return c.err
	}
	for !c.up.Load() {
		c.mu.Lock()
		up, changed := c.up.Load(), c.changed
		c.mu.Unlock()
		if up {
			break
		}
		if ctx.Err() == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
		}
		return turret.NotReady(fmt.Errorf("%w: %s is %v", ctx.Err(), c.conn.Target(), c.conn.GetState()))
	}
	if c.stack == nil {
		return nil
	}
	return c.stack.Ready(ctx)
}
