package limit

import (
	"fmt"

	"github.com/turret-go/turret"
)

// KeyedStats is what a [Keyed] holds, and has done since it was made.
type KeyedStats struct {
	MaxKeys int    // how many keys may have a gate
	Keys    int    // keys that have one
	Idle    int    // of them, those that hold nothing
	Evicted uint64 // gates that made room for another key
	Shared  uint64 // calls of keys for which there was no room
}

// Stats returns a snapshot.
func (k *Keyed) Stats() KeyedStats {
	k.mu.Lock()
	defer k.mu.Unlock()
	return KeyedStats{
		MaxKeys: k.config.MaxKeys, Keys: len(k.gates), Idle: k.idle.n,
		Evicted: k.evicted, Shared: k.beyond,
	}
}

// String returns the [KeyedStats] in one line.
func (k *Keyed) String() string {
	s := k.Stats()
	return fmt.Sprintf("gate per key: %d of %d keys, %d idle, %d evicted, %d calls shared a gate", s.Keys, s.MaxKeys, s.Idle, s.Evicted, s.Shared)
}

// Describe says what [Keyed.Stats] does. Keys are not named: they may be secret.
func (k *Keyed) Describe(d *turret.Description) {
	s := k.Stats()
	d.Is("per_key", "gate per key")
	d.Setting("max_keys", "{key}", s.MaxKeys)
	d.Gauge("keys", "{key}", float64(s.Keys))
	d.Gauge("idle_keys", "{key}", float64(s.Idle))
	d.Count("evicted", "{key}", "", s.Evicted)
	d.Count("shared", "{call}", "", s.Shared)
}
