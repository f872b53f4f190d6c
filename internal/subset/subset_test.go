package subset

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// upTo returns the slots 0 to n-1.
func upTo(n int) []uint32 {
	slots := make([]uint32, n)
	for i := range slots {
		slots[i] = uint32(i)
	}
	return slots
}

func names(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("10.%d.%d.%d:443", i>>16, i>>8&255, i&255)
	}
	return keys
}

// spread returns how far the numbers of clients of the servers are from even: the
// standard deviation and the greatest, as multiples of the mean.
func spread(clients, servers int, of func(client int) []int) (deviation, most float64) {
	count := make([]float64, servers)
	sum := 0.0
	for c := range clients {
		for _, i := range of(c) {
			count[i]++
			sum++
		}
	}
	mean := sum / float64(servers)
	for _, n := range count {
		deviation += (n - mean) * (n - mean) / float64(servers)
	}
	return math.Sqrt(deviation) / mean, slices.Max(count) / mean
}

// TestRingSpreadsEvenly has fleets whose slots are all in use.
func TestRingSpreadsEvenly(t *testing.T) {
	for _, tt := range []struct {
		clients, servers, size int
		deviation, most        float64
	}{
		{2000, 2000, 20, 0.0001, 1.0001},
		{1024, 4096, 20, 0.0001, 1.0001},
		{9973, 9001, 20, 0.03, 1.1},
		{10_000, 1000, 20, 0.03, 1.1},
		{100, 100, 12, 0.0001, 1.0001},
	} {
		ring := NewRing(upTo(tt.servers))
		deviation, most := spread(tt.clients, tt.servers, func(c int) []int { return ring.Of(uint32(c), tt.size) })
		if deviation > tt.deviation || most > tt.most {
			t.Errorf("%d clients, %d servers, %d each: deviation %.4f, most %.3f, want at most %v and %v",
				tt.clients, tt.servers, tt.size, deviation, most, tt.deviation, tt.most)
		}
	}
}

// TestRingWithEmptySlots has one slot in a hundred empty, and one in ten.
func TestRingWithEmptySlots(t *testing.T) {
	for _, tt := range []struct {
		each            uint32
		deviation, most float64
	}{{100, 0.03, 1.1}, {10, 0.13, 1.3}} {
		slots := slices.DeleteFunc(upTo(4000), func(s uint32) bool { return s%tt.each == tt.each/2 })
		ring := NewRing(slots)
		deviation, most := spread(4000, len(slots), func(c int) []int { return ring.Of(uint32(c), 20) })
		if deviation > tt.deviation || most > tt.most {
			t.Errorf("1 of %d slots empty: deviation %.4f, most %.3f, want at most %v and %v", tt.each, deviation, most, tt.deviation, tt.most)
		}
	}
}

// opened returns how many connections the clients open when the servers of before
// are replaced by those of after, for each client. Servers are known by their slot.
func opened(clients, size int, before, after []uint32) float64 {
	old, now, n := NewRing(before), NewRing(after), 0
	for c := range clients {
		had := map[uint32]bool{}
		for _, i := range old.Of(uint32(c), size) {
			had[before[i]] = true
		}
		for _, i := range now.Of(uint32(c), size) {
			if !had[after[i]] {
				n++
			}
		}
	}
	return float64(n) / float64(clients)
}

// TestRingChangesFewConnections compares with the least that is possible: a new
// server needs its share of connections, and those to a server that has left have
// to go elsewhere.
func TestRingChangesFewConnections(t *testing.T) {
	const clients, servers, size = 4000, 4000, 20
	ideal := float64(size) / servers
	all := upTo(servers + 1)
	if got := opened(clients, size, all[:servers], all); got > 1.1*ideal {
		t.Errorf("one server more: %.5f connections a client, want at most %.5f", got, 1.1*ideal)
	}
	without := slices.Delete(slices.Clone(all[:servers]), servers/2, servers/2+1)
	if got := opened(clients, size, all[:servers], without); got > 1.1*ideal {
		t.Errorf("one server less: %.5f connections a client, want at most %.5f", got, 1.1*ideal)
	}
}

func TestRendezvousSpreadsAsChanceDoes(t *testing.T) {
	const clients, servers = 500, 500
	keys := names(servers)
	for _, size := range []int{20, 100} {
		deviation, _ := spread(clients, servers, func(c int) []int { return Rendezvous(keys, mix(uint64(c)), size) })
		chance := math.Sqrt(1/float64(size) - 1/float64(servers))
		if deviation < 0.9*chance || deviation > 1.1*chance {
			t.Errorf("%d each: deviation %.3f, that of chance is %.3f", size, deviation, chance)
		}
	}
}

// TestRendezvousChangesFewConnections has a server less: only clients that used it
// use another one, and only that one more.
func TestRendezvousChangesFewConnections(t *testing.T) {
	keys := names(200)
	for client := range uint64(100) {
		before := Rendezvous(keys, mix(client), 20)
		after := Rendezvous(keys[:199], mix(client), 20)
		kept := 0
		for _, i := range before {
			if slices.Contains(after, i) {
				kept++
			}
		}
		if want := 20; slices.Contains(before, 199) && kept != want-1 || !slices.Contains(before, 199) && kept != want {
			t.Errorf("client %d keeps %d of 20 servers", client, kept)
		}
	}
}

// FuzzRing has any slots, with gaps and twice the same, and checks that a client
// gets as many different servers as it asks for, those that come next.
func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, uint32(3), 2)
	f.Add([]byte{}, uint32(0), 1)
	f.Add([]byte{7, 7, 7, 0, 255}, uint32(1<<31), 9)
	f.Fuzz(func(t *testing.T, seed []byte, client uint32, size int) {
		if len(seed) > 200 {
			return
		}
		slots := make([]uint32, len(seed))
		for i, b := range seed {
			slots[i] = uint32(b) << (b % 24)
		}
		chosen := NewRing(slots).Of(client, size)
		if want := min(max(size, 0), len(slots)); len(chosen) != want {
			t.Fatalf("%d servers, want %d", len(chosen), want)
		}
		in := map[int]bool{}
		farthest := uint32(0)
		for _, i := range chosen {
			if in[i] {
				t.Fatalf("server %d twice", i)
			}
			in[i] = true
			farthest = max(farthest, vanDerCorput(slots[i])-vanDerCorput(client))
		}
		for i, slot := range slots {
			if !in[i] && len(chosen) > 0 && vanDerCorput(slot)-vanDerCorput(client) < farthest {
				t.Fatalf("server %d is nearer than one that was chosen", i)
			}
		}
	})
}

// FuzzRendezvous checks that a client gets as many different servers as it asks for,
// whatever their order.
func FuzzRendezvous(f *testing.F) {
	f.Add(uint8(5), uint64(1), 2)
	f.Add(uint8(0), uint64(0), -1)
	f.Fuzz(func(t *testing.T, servers uint8, client uint64, size int) {
		keys := names(int(servers))
		chosen := Rendezvous(keys, client, size)
		if want := min(max(size, 0), len(keys)); len(chosen) != want {
			t.Fatalf("%d servers, want %d", len(chosen), want)
		}
		in := map[string]bool{}
		for _, i := range chosen {
			in[keys[i]] = true
		}
		slices.Reverse(keys)
		for _, i := range Rendezvous(keys, client, size) {
			if !in[keys[i]] {
				t.Fatalf("%s only in another order", keys[i])
			}
		}
	})
}
