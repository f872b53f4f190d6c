package ready_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret/ready"
)

// A model is what a cache should hold: the simplest thing that can be right.
type model struct {
	ready, pending map[int]*door
	dropped        []string
}

func (m *model) drop(key int, err error) { m.dropped = append(m.dropped, fmt.Sprint(key, " ", err)) }

// settle lets the pending ones become ready, or fail.
func (m *model) settle() {
	for key, d := range m.pending {
		switch {
		case d.err != nil:
			m.drop(key, d.err)
		case d.open:
			if m.ready[key] != nil {
				m.drop(key, nil)
			}
			m.ready[key] = d
		default:
			continue
		}
		delete(m.pending, key)
	}
}

func (m *model) insert(key int, d *door) {
	if m.pending[key] != nil {
		m.drop(key, nil)
	}
	m.pending[key] = d
}

func (m *model) remove(key int) {
	for _, services := range []map[int]*door{m.pending, m.ready} {
		if services[key] != nil {
			m.drop(key, nil)
			delete(services, key)
		}
	}
}

// check returns what Check of the ready service under key is to return.
func (m *model) check(key int) bool {
	d := m.ready[key]
	switch {
	case d.err != nil:
		m.drop(key, d.err)
	case d.open:
		return true
	case m.pending[key] != nil:
		m.drop(key, nil)
	default:
		m.pending[key] = d
	}
	delete(m.ready, key)
	return false
}

// FuzzCache does what the bytes say to a cache and to a model of it: two bits of
// key, then what to do.
func FuzzCache(f *testing.F) {
	f.Add([]byte{0, 4, 8, 12, 16, 20, 1, 5, 9, 13, 17, 21})
	f.Add([]byte{0, 8, 0, 16, 12, 16, 8, 16, 20})
	f.Add([]byte{4, 0, 12, 16, 8, 4, 20, 16})
	f.Fuzz(func(t *testing.T, steps []byte) {
		steps = steps[:min(len(steps), 50)]
		synctest.Test(t, func(t *testing.T) {
			dropped := &drops{}
			c := ready.NewCache(dropped.add)
			defer c.Close()
			m := &model{ready: map[int]*door{}, pending: map[int]*door{}}
			for i, step := range steps {
				do(t, c, m, int(step%4), step/4%6)
				synctest.Wait()
				m.settle()
				compare(t, c, m, dropped, fmt.Sprintf("step %d of %v", i, steps[:i+1]))
			}
		})
	})
}

func do(t *testing.T, c *cache, m *model, key int, what byte) {
	switch what {
	case 0, 1:
		d := &door{open: what == 1}
		m.insert(key, d)
		c.Insert(key, d)
	case 2, 3, 4: // open, shut or break what is there
		for _, services := range []map[int]*door{m.ready, m.pending} {
			if d := services[key]; d != nil {
				d.set(what == 2, map[bool]error{true: errBroken}[what == 4])
			}
		}
		synctest.Wait()
		m.settle()
		if listed, ok := c.Get(key); ok {
			if got, want := c.Check(listed), m.check(key); got != want {
				t.Errorf("Check(%d) is %t, want %t", key, got, want)
			}
		}
	case 5:
		want := m.ready[key] != nil || m.pending[key] != nil
		m.remove(key)
		if got := c.Remove(key); got != want {
			t.Errorf("Remove(%d) is %t, want %t", key, got, want)
		}
	}
}

func compare(t *testing.T, c *cache, m *model, dropped *drops, when string) {
	t.Helper()
	got := map[int]*door{}
	for _, member := range c.Members() {
		got[member.Key] = member.Service
	}
	if len(got) != len(m.ready) || len(got) != len(c.Members()) {
		t.Fatalf("%s: ready %v, want %v", when, got, m.ready)
	}
	for key, d := range m.ready {
		if got[key] != d {
			t.Fatalf("%s: another service is ready under %d", when, key)
		}
	}
	for key := range 4 {
		d := m.pending[key]
		if c.Pending(key) != (d != nil) || d != nil && d.asking() != 1 {
			t.Fatalf("%s: pending under %d: %t, want %t, asked once", when, key, c.Pending(key), d != nil)
		}
	}
	if r, p := c.Len(); r != len(m.ready) || p != len(m.pending) {
		t.Fatalf("%s: %d ready, %d pending, want %d and %d", when, r, p, len(m.ready), len(m.pending))
	}
	slices.Sort(m.dropped)
	if got := dropped.take(); !slices.Equal(got, m.dropped) {
		t.Fatalf("%s: dropped %q, want %q", when, got, m.dropped)
	}
	m.dropped = nil
}
