package ready

import (
	"context"
	"fmt"

	"github.com/turret-go/turret/internal/background"
)

// await makes m the pending service of its key and begins to ask it. It requires
// c.mu, and that the cache is open.
func (c *Cache[K, S]) await(m *Member[K, S]) {
	e := c.keys[m.Key]
	e.pending = m
	c.keys[m.Key] = e
	c.pending++
	ctx, stop := context.WithCancel(c.ctx)
	m.stop = stop
	background.Go(&c.asking, "ready.Cache", func() error { return ask(ctx, m.Service) }, func(err error) {
		defer stop()
		if err == nil {
			c.promote(m)
		} else {
			c.fail(m, err)
		}
	})
}

// promote lists m, which was pending, as ready, in the place of the one before
// it.
func (c *Cache[K, S]) promote(m *Member[K, S]) {
	c.mu.Lock()
	if c.keys[m.Key].pending != m {
		c.mu.Unlock()
		return // dropped in the meantime
	}
	c.takePending(m.Key)
	replaced := c.keys[m.Key].ready
	if replaced != nil {
		c.unlist(replaced)
	}
	c.list(m)
	c.last = nil
	c.mu.Unlock()
	c.drop(replaced, nil)
}

// demote makes m pending, which was listed as ready, unless there is a newer one.
func (c *Cache[K, S]) demote(m *Member[K, S]) {
	c.mu.Lock()
	e := c.keys[m.Key]
	if e.ready != m {
		c.mu.Unlock()
		return // another goroutine has found out
	}
	c.unlist(m)
	if e.pending == nil {
		c.await(m)
		m = nil
	}
	c.mu.Unlock()
	c.drop(m, nil)
}

// fail drops m, which has failed with err.
func (c *Cache[K, S]) fail(m *Member[K, S], err error) {
	c.mu.Lock()
	switch m {
	case c.keys[m.Key].ready:
		c.unlist(m)
	case c.keys[m.Key].pending:
		c.takePending(m.Key)
	default:
		c.mu.Unlock()
		return
	}
	c.last = fmt.Errorf("%v: %w", m.Key, err)
	c.mu.Unlock()
	c.drop(m, err)
}

// list puts m among those that are ready. It requires c.mu.
func (c *Cache[K, S]) list(m *Member[K, S]) {
	e := c.keys[m.Key]
	e.ready = m
	c.keys[m.Key] = e
	m.place = len(c.ready)
	c.ready = append(c.ready, m)
	c.listed.Store(nil)
	if len(c.ready) == 1 {
		close(c.some)
	}
}

// unlist takes m out of those that are ready. It requires c.mu.
func (c *Cache[K, S]) unlist(m *Member[K, S]) {
	last := len(c.ready) - 1
	c.ready[m.place] = c.ready[last]
	c.ready[m.place].place = m.place
	c.ready[last] = nil
	c.ready = c.ready[:last]
	m.place = nowhere
	c.listed.Store(nil)
	if last == 0 {
		c.some = make(chan struct{})
	}
	e := c.keys[m.Key]
	e.ready = nil
	c.put(m.Key, e)
}

// takePending takes away what is pending under key, if anything is, and ends the
// asking. It requires c.mu.
func (c *Cache[K, S]) takePending(key K) *Member[K, S] {
	e := c.keys[key]
	m := e.pending
	if m == nil {
		return nil
	}
	m.stop()
	c.pending--
	e.pending = nil
	c.put(key, e)
	return m
}

// put stores e under key, or nothing if it is empty. It requires c.mu.
func (c *Cache[K, S]) put(key K, e entry[K, S]) {
	if e == (entry[K, S]{}) {
		delete(c.keys, key)
		return
	}
	c.keys[key] = e
}

// drop marks m as dropped and tells its owner. m may be nil. It is called with
// no lock held.
func (c *Cache[K, S]) drop(m *Member[K, S], err error) {
	if m == nil {
		return
	}
	m.dropped.Store(true)
	c.onDrop(m.Key, m.Service, err)
}
