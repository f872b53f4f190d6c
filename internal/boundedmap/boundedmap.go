// Package boundedmap keeps what was made for a key, so that it is made once, for
// a bounded number of keys.
package boundedmap

import (
	"cmp"
	"maps"
	"sync"
	"sync/atomic"
)

// DefaultMax is how many values a [Map] holds that says nothing else.
const DefaultMax = 128

// A Map holds values by their key. It is for few keys that are asked for often:
// asking takes no lock and allocates nothing, a new key copies the map. The
// zero Map is empty. It may be used concurrently, and must not be copied.
type Map[K comparable, V any] struct {
	// Max is how many values the Map holds, DefaultMax if it is 0. Keys may come
	// from a peer: those that come when the Map is full do not fill the memory.
	Max int

	mu    sync.Mutex
	known atomic.Pointer[map[K]V]
}

// Len returns how many values the Map holds.
func (m *Map[K, V]) Len() int {
	if known := m.known.Load(); known != nil {
		return len(*known)
	}
	return 0
}

// Load returns the value of k, if there is one.
func (m *Map[K, V]) Load(k K) (v V, ok bool) {
	if known := m.known.Load(); known != nil {
		v, ok = (*known)[k]
	}
	return v, ok
}

// Get returns the value of k; if there is none yet, the one that make returns
// for it, which is kept unless the map is full. make may be called more than
// once for the same key, and is called with no lock held; what it returned first
// is kept, and returned to all callers.
func (m *Map[K, V]) Get(k K, make func(K) V) V {
	if v, ok := m.Load(k); ok {
		return v
	}
	v := make(k)
	if m.Len() < m.most() {
		return m.add(k, v)
	}
	// A full map stays full: keys that a peer makes up cost no lock.
	if first, ok := m.Load(k); ok {
		return first
	}
	return v
}

func (m *Map[K, V]) most() int { return cmp.Or(m.Max, DefaultMax) }

// add keeps v as the value of k, unless there is one or the map is full, and
// returns what is to be used.
func (m *Map[K, V]) add(k K, v V) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[K]V{}
	if known := m.known.Load(); known != nil {
		if first, ok := (*known)[k]; ok {
			return first
		}
		if len(*known) >= m.most() {
			return v
		}
		next = maps.Clone(*known)
	}
	next[k] = v
	m.known.Store(&next)
	return v
}
