// Package subset chooses which servers of a fleet a client connects to, so that all
// servers have about as many clients, and few connections change when a server
// comes or goes.
package subset

import (
	"cmp"
	"math/bits"
	"slices"
)

// A Ring has the servers of a fleet on a circle. A server with the slot s is at the
// s-th place of the van der Corput sequence, the client with the index c at the
// c-th, and a client uses the servers that come next on the circle (Ward, Dwyer and
// others, "Reinventing Backend Subsetting at Google", ACM Queue 20(5), 2022). The
// first n places of the sequence are spread evenly for every n, so servers have
// even shares if slots and indexes are used from 0 on without large gaps. Where a
// server comes or goes only the clients that have it in their arc change.
//
// Use [NewRing]. A Ring is immutable, and may be used concurrently.
type Ring struct{ servers []place }

type place struct {
	at    uint32
	index int
}

// NewRing returns the ring of the servers whose slots are given. Of servers with the
// same slot the one that is listed first comes first.
func NewRing(slots []uint32) *Ring {
	r := &Ring{make([]place, len(slots))}
	for i, slot := range slots {
		r.servers[i] = place{vanDerCorput(slot), i}
	}
	slices.SortFunc(r.servers, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index))
	})
	return r
}

// Of returns which servers the client with this index uses, by their index in the
// slots that NewRing was given: size of them, or all if there are not as many.
func (r *Ring) Of(client uint32, size int) []int {
	n := len(r.servers)
	first, _ := slices.BinarySearchFunc(r.servers, vanDerCorput(client), func(p place, at uint32) int {
		return cmp.Compare(p.at, at)
	})
	chosen := make([]int, min(max(size, 0), n))
	for k := range chosen {
		chosen[k] = r.servers[(first+k)%n].index
	}
	return chosen
}

// vanDerCorput returns the n-th place of the sequence on a circle of 2^32.
func vanDerCorput(n uint32) uint32 { return bits.Reverse32(n) }

// Rendezvous returns the indexes of size servers, or of all if there are not as
// many, for a client with a random id: those with the highest values of a hash of
// the server's key and the id (Thaler and Ravishankar, "Using name-based mappings to
// increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998). It needs no
// index, but spreads clients over servers only as evenly as chance does.
func Rendezvous(keys []string, client uint64, size int) []int {
	size = min(max(size, 0), len(keys))
	best := make([]candidate, 0, size+1) // the best first
	for i, key := range keys {
		c := candidate{mix(hash(key) ^ client), i}
		if len(best) == size && (size == 0 || !c.before(best[size-1])) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, c, func(a, b candidate) int {
			if a.before(b) {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, c)
		best = best[:min(len(best), size)]
	}
	chosen := make([]int, size)
	for k, c := range best {
		chosen[k] = c.index
	}
	return chosen
}

type candidate struct {
	value uint64
	index int
}

func (c candidate) before(other candidate) bool {
	return c.value > other.value || c.value == other.value && c.index < other.index
}

// hash is FNV-1a, whose result is mixed, for its high bits are weak.
func hash(key string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
