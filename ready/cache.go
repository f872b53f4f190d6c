package ready

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/discover"
)

// ErrClosed is the final error of what this package has made once it was closed.
var ErrClosed = errors.New("cache closed")

// A Member is a service in a [Cache]. It stands for this service, not for
// whatever is under its key.
type Member[K comparable, S Readier] struct {
	Key     K
	Service S

	dropped atomic.Bool
	place   int                // its index among the ready ones, or nowhere; guarded by the cache's mutex
	stop    context.CancelFunc // ends the asking; nil unless it is pending
}

// nowhere is the place of a member that is not listed as ready.
const nowhere = -1

// A Cache holds services under keys, and knows which of them are ready. It
// follows Tower's ReadyCache. A service that is inserted is pending: the cache
// asks it for readiness until it is ready, and lists it among the [Cache.Members]
// then. There it stays until [Cache.Check] finds that it is not ready any more:
// it is pending again. One that fails for good is dropped.
//
// Inserting under a key that is taken replaces the service there; while the new
// one is pending, one that is ready stays in use.
//
// Each pending service costs one goroutine, which waits in its Ready. Use
// [NewCache]; its methods may be called concurrently.
type Cache[K comparable, S Readier] struct {
	onDrop func(key K, s S, err error)
	ctx    context.Context // of the asking; ends with the cache
	cancel context.CancelFunc
	asking sync.WaitGroup

	// listed is what Members returns: a copy of ready, made when it is
	// needed. Nil when ready has changed since.
	listed atomic.Pointer[[]*Member[K, S]]

	mu      sync.Mutex
	keys    map[K]entry[K, S]
	ready   []*Member[K, S]
	pending int
	some    chan struct{} // closed while there is one in ready, and when the cache is
	last    error         // of the last service that failed since one became ready
	closed  bool
}

// An entry is what is under a key: one service or two of them.
type entry[K comparable, S Readier] struct{ ready, pending *Member[K, S] }

// NewCache returns an empty [Cache].
//
// onDrop, if not nil, is called once for each service that leaves the cache, with
// the reason: the final error of its Ready, or nil if it was removed, replaced,
// or in the cache when that was closed. The owner of the services closes them
// there; calls that are in flight may still be using them. onDrop runs with no
// lock held, on the goroutine that caused it or on one of the cache's; it
// may be called concurrently and may call all methods but Close.
func NewCache[K comparable, S Readier](onDrop func(key K, s S, err error)) *Cache[K, S] {
	if onDrop == nil {
		onDrop = func(K, S, error) {}
	}
	c := &Cache[K, S]{onDrop: onDrop, keys: map[K]entry[K, S]{}, some: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Insert puts s under key. What is pending there is dropped at once, what is
// ready when s is ready, or when it is not ready itself any more. A closed cache
// drops s.
func (c *Cache[K, S]) Insert(key K, s S) {
	c.drop(c.insert(&Member[K, S]{Key: key, Service: s, place: nowhere}), nil)
}

// insert makes m pending, and returns the member to drop for that: the one that
// was pending before it, or m itself.
func (c *Cache[K, S]) insert(m *Member[K, S]) *Member[K, S] {
	c.mu.Lock()
	defer c.mu.Unlock() // also if there is no hash of a key of an interface type
	if c.closed {
		return m
	}
	replaced := c.takePending(m.Key)
	c.await(m)
	return replaced
}

// Remove drops what is under key, and reports whether there was anything.
func (c *Cache[K, S]) Remove(key K) bool {
	pending, ready := c.remove(key)
	c.drop(pending, nil)
	c.drop(ready, nil)
	return pending != nil || ready != nil
}

// remove takes away what is under key.
func (c *Cache[K, S]) remove(key K) (pending, ready *Member[K, S]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pending = c.takePending(key)
	if ready = c.keys[key].ready; ready != nil {
		c.unlist(ready)
	}
	return pending, ready
}

// Follow inserts and removes as source says. It returns nil when source has
// ended; the services stay. It returns the error of source if that fails, ctx's
// error when ctx ends, and [ErrClosed] when the cache is closed and source has
// another change.
func (c *Cache[K, S]) Follow(ctx context.Context, source discover.Source[K, S]) error {
	for {
		change, err := source.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case c.isClosed():
			if !change.Gone {
				c.onDrop(change.Key, change.Service, nil)
			}
			return ErrClosed
		case change.Gone:
			c.Remove(change.Key)
		default:
			c.Insert(change.Key, change.Service)
		}
	}
}

// Members returns the services that are ready, as far as is known, in no
// particular order. The slice is shared and not to be changed. It costs nothing
// while the members stay the same.
func (c *Cache[K, S]) Members() []*Member[K, S] {
	if listed := c.listed.Load(); listed != nil {
		return *listed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	listed := slices.Clone(c.ready)
	c.listed.Store(&listed)
	return listed
}

// Get returns the service under key that is ready, as far as is known.
func (c *Cache[K, S]) Get(key K) (m *Member[K, S], ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m = c.keys[key].ready
	return m, m != nil
}

// Pending reports whether a service under key is waited for.
func (c *Cache[K, S]) Pending(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[key].pending != nil
}

// Len returns how many services are ready and how many are pending.
func (c *Cache[K, S]) Len() (ready, pending int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ready), c.pending
}

// Check asks m, which Members or Get returned, whether it is ready, without
// waiting. If it is not it leaves the list, and false is returned; false also if
// m was dropped in the meantime. Call Check before calling a Member. It
// calls Ready without values of a caller, as turret.ReadyNow does.
func (c *Cache[K, S]) Check(m *Member[K, S]) bool {
	if m.dropped.Load() {
		return false
	}
	err := now(m.Service)
	switch {
	case err == nil:
		return true
	case turret.IsFinal(err):
		c.fail(m, err)
	default:
		c.demote(m)
	}
	return false
}

// Ready waits until there is a service that is ready. When ctx ends before, the
// error says why there was none: it matches ctx's error and turret.ErrNotReady,
// and the reason for which the last service failed. It is final, [ErrClosed],
// once the cache was closed, and only then: new services may come.
func (c *Cache[K, S]) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		closed, found, some := c.closed, len(c.ready) > 0, c.some
		c.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case found:
			return nil
		case ctx.Err() != nil:
			return turret.NotReady(c.whyNone(ctx.Err()))
		}
		select {
		case <-some:
		case <-ctx.Done():
		}
	}
}

// whyNone returns err, with what is known about the services.
func (c *Cache[K, S]) whyNone(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil {
		return fmt.Errorf("%w: no service is ready, %d pending, the last one that failed: %w", err, c.pending, c.last)
	}
	return fmt.Errorf("%w: no service is ready, %d pending", err, c.pending)
}

// Close drops all services, ends the asking and waits until that has ended.
// Closing again does nothing.
func (c *Cache[K, S]) Close() {
	c.mu.Lock()
	var all []*Member[K, S]
	for key := range c.keys {
		if m := c.takePending(key); m != nil {
			all = append(all, m)
		}
	}
	all = append(all, c.ready...)
	for _, m := range slices.Backward(c.ready) {
		c.unlist(m)
	}
	if !c.closed {
		c.closed = true
		close(c.some)
	}
	c.mu.Unlock()
	c.cancel()
	c.asking.Wait()
	for _, m := range all {
		c.drop(m, nil)
	}
}

func (c *Cache[K, S]) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
