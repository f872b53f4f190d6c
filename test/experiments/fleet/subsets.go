package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/turret-go/turret/internal/subset"
)

// A method gives each client its subset.
type method struct {
	name string
	size int
	// prepare returns the subsets of the clients for the servers with these slots.
	prepare func(slots []uint32) func(client int) []int
}

func ring(size int) method {
	return method{"ring", size, func(slots []uint32) func(int) []int {
		r := subset.NewRing(slots)
		return func(client int) []int { return r.Of(uint32(client), size) }
	}}
}

func rendezvous(size int) method {
	return method{"rendezvous", size, func(slots []uint32) func(int) []int {
		keys := make([]string, len(slots))
		for i, slot := range slots {
			keys[i] = fmt.Sprintf("10.%d.%d.%d:443", slot>>16, slot>>8&255, slot&255)
		}
		return func(client int) []int {
			return subset.Rendezvous(keys, rand.New(rand.NewPCG(uint64(client), 1)).Uint64(), size)
		}
	}}
}

// upTo returns the slots 0 to n-1.
func upTo(n int) []uint32 {
	slots := make([]uint32, n)
	for i := range slots {
		slots[i] = uint32(i)
	}
	return slots
}

// A spread says how many clients servers have.
type spread struct {
	deviation, most float64 // as multiples of the mean
	fewest, highest int
}

func spreadOf(clients, servers int, m method) spread {
	of, count := m.prepare(upTo(servers)), make([]int, servers)
	for c := range clients {
		for _, i := range of(c) {
			count[i]++
		}
	}
	mean := float64(clients) * float64(min(m.size, servers)) / float64(servers)
	variance := 0.0
	for _, n := range count {
		variance += (float64(n) - mean) * (float64(n) - mean) / float64(servers)
	}
	fewest, highest := slices.Min(count), slices.Max(count)
	return spread{math.Sqrt(variance) / mean, float64(highest) / mean, fewest, highest}
}

// opened returns how many connections a client opens, on average over the clients
// of a sample, when the servers of before are replaced by those of after.
func opened(sample []int, m method, before, after []uint32) float64 {
	old, now, n := m.prepare(before), m.prepare(after), 0
	for _, c := range sample {
		had := map[uint32]bool{}
		for _, i := range old(c) {
			had[before[i]] = true
		}
		for _, i := range now(c) {
			if !had[after[i]] {
				n++
			}
		}
	}
	return float64(n) / float64(len(sample))
}

// subsets prints how evenly subsets of fleets of up to most spread, and how few of
// their connections change.
func subsets(out io.Writer, most int) {
	fmt.Fprintln(out, "| clients x servers | subset | deviation | most | clients of a server |\n|---|---|--:|--:|---|")
	for _, fleet := range [][2]int{{most, most}, {most * 9973 / 10000, most * 9001 / 10000}, {most, most / 10}, {most / 10, most}, {100, 100}} {
		for _, m := range []method{ring(20), rendezvous(20), rendezvous(100)} {
			if m.size >= fleet[1] {
				continue
			}
			s := spreadOf(fleet[0], fleet[1], m)
			fmt.Fprintf(out, "| %d x %d | %s, %d | %.1f %% | %.2f | %d to %d |\n", fleet[0], fleet[1], m.name, m.size, 100*s.deviation, s.most, s.fewest, s.highest)
		}
	}
	all := upTo(most + most/10)
	servers := all[:most]
	tenth := slices.Clone(servers)
	for i := range tenth { // every tenth is replaced: another address in the same slot is another server
		if i%10 == 3 {
			tenth[i] = all[most+i/10]
		}
	}
	middle := slices.Delete(slices.Clone(servers), most/2, most/2+1)
	sample := make([]int, most)
	for i := range sample {
		sample[i] = i
	}
	fmt.Fprintln(out, "\n| connections opened by a client | one server more | one less | a tenth replaced, in other slots |\n|---|--:|--:|--:|")
	for _, m := range []method{ring(20), rendezvous(20)} {
		clients := sample
		if m.name == "rendezvous" {
			clients = sample[:min(len(sample), 1000)] // its choices are independent
		}
		fmt.Fprintf(out, "| %s, %d | %.4f | %.4f | %.1f |\n", m.name, m.size,
			opened(clients, m, servers, all[:most+1]), opened(clients, m, servers, middle), opened(clients, m, servers, tenth))
	}
	fmt.Fprintf(out, "| the least possible | %.4f | %.4f | %.1f |\n", 20/float64(most+1), 20/float64(most), 2.0)
}
