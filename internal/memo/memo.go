// Package memo remembers what was made for a key, so that it is made once.
package memo

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Max is how many values a [Map] holds. Keys may come from a peer: those that
// come when a Map is full do not fill the memory.
const Max = 128

// A Map holds values by their key. It is for few keys that are asked for often:
// asking takes no lock and allocates nothing, a new key copies the map. The
// zero Map is empty. It may be used concurrently, and must not be copied.
type Map[K comparable, V any] struct {
	mu    sync.Mutex
	known atomic.Pointer[map[K]V]
}

// Get returns the value of k; if there is none yet, the one that make returns
// for it, which is kept unless the map is full. make may be called more than
// once for the same key, and is called with no lock held.
func (m *Map[K, V]) Get(k K, make func(K) V) V {
	if known := m.known.Load(); known != nil {
		if v, ok := (*known)[k]; ok {
			return v
		}
	}
	v := make(k)
	m.add(k, v)
	return v
}

func (m *Map[K, V]) add(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[K]V{}
	if known := m.known.Load(); known != nil {
		if len(*known) >= Max {
			return
		}
		next = maps.Clone(*known)
	}
	next[k] = v
	m.known.Store(&next)
}
