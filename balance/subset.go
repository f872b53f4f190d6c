package balance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/experimental/balancer/hostname"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/subset"
)

// ClientIndexVariable is the environment variable that has the index of the client
// where [Subset] has none: "7", or a name such as "orders-7".
const ClientIndexVariable = "TURRET_CLIENT_INDEX"

// Subset bounds how many of the endpoints that the resolver names a client connects
// to, where thousands of clients have thousands of endpoints. The zero value means
// all of them.
//
// A client with an index uses the endpoints that come next to it on a ring
// (doc/fleet.md has the algorithm, figures, and how clients get an index). Each endpoint then has
// about as many clients as any other, as long as indexes and slots are used from 0
// on without large gaps. The slot of an endpoint is that of [WithSlot]; else the
// number at the end of the first label of its host name, which is the hostname of
// xDS or the host in the address ("orders-7.orders:443"); else, where an endpoint
// has neither or more than a tenth of the slots are taken twice, its rank by
// address.
//
// A client without an index chooses at random, and the same endpoints again as long
// as they are there (rendezvous hashing). It uses at least 100, since
// chance spreads clients less evenly.
//
// A subset is chosen without regard to weights, bans and localities. A parent
// policy that splits the endpoints by locality has a subset of each.
type Subset struct {
	// Size is how many endpoints a client connects to. 0 means all; not negative. 20
	// is a good size for clients with an index.
	Size int
	// Client is the index of this client: a number from 0 on, or a name that ends
	// with a hyphen and a number, such as that of a StatefulSet's pod. "" means what
	// the environment variable [ClientIndexVariable] says; if it says nothing of
	// that form, the client has no index.
	Client string
}

// unindexed is how many endpoints a client without an index uses at least.
const unindexed = 100

// validate returns a [turret.FieldError] if s cannot be used.
func (s Subset) validate() error {
	if s.Size < 0 {
		return invalid("Subset.Size", s.Size, "at least 0 (0 means all endpoints)")
	}
	if _, ok := clientIndex(s.Client); s.Client != "" && !ok {
		return invalid("Subset.Client", s.Client, "a number, or a name that ends with a hyphen and a number")
	}
	return nil
}

// client returns the index of this client, if it has one.
func (s Subset) client() (index uint32, ok bool) {
	if s.Client != "" {
		return clientIndex(s.Client)
	}
	return clientIndex(os.Getenv(ClientIndexVariable))
}

// clientIndex reads "7", "orders-7".
func clientIndex(text string) (index uint32, ok bool) {
	return decimal(text[strings.LastIndexByte(text, '-')+1:])
}

// decimal reads decimal digits.
func decimal(digits string) (n uint32, ok bool) {
	long, err := strconv.ParseUint(digits, 10, 31)
	return uint32(long), err == nil
}

type slotKey struct{}

// WithSlot returns e with a slot for [Subset]: the place of the endpoint in its
// fleet, from 0 on, which no other endpoint has at the time. A new endpoint should
// take the lowest slot that is free. For resolvers.
func WithSlot(e resolver.Endpoint, slot uint32) resolver.Endpoint {
	e.Attributes = e.Attributes.WithValue(slotKey{}, slot)
	return e
}

// slotOf returns the slot of e, if it or its host name has one.
func slotOf(e resolver.Endpoint) (slot uint32, ok bool) {
	if slot, ok := e.Attributes.Value(slotKey{}).(uint32); ok {
		return slot, true
	}
	if name := hostname.FromEndpoint(e); name != "" {
		return numberOfHost(name)
	}
	return numberOfHost(e.Addresses[0].Addr)
}

// numberOfHost returns the number at the end of the first label of a host, which may
// have a port.
func numberOfHost(address string) (n uint32, ok bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return 0, false
	}
	label, _, _ := strings.Cut(host, ".")
	return decimal(label[len(strings.TrimRight(label, "0123456789")):])
}

// A subsetter chooses the subset of one policy.
type subsetter struct {
	random uint64 // stands for the client where it has no index
	newest atomic.Pointer[chosenSubset]
}

// A chosenSubset says what was chosen last.
type chosenSubset struct {
	used, named int
	by          string
}

func newSubsetter() subsetter { return subsetter{random: rand.Uint64()} }

// choose returns the endpoints to use of those that the resolver names.
func (s *subsetter) choose(c *Config, named []resolver.Endpoint) []resolver.Endpoint {
	if c.Subset.Size == 0 {
		s.newest.Store(nil)
		return named
	}
	named = byAddress(named)
	var chosen []int
	by := "rendezvous"
	if client, ok := c.Subset.client(); ok {
		slots, of := slotsOf(named)
		chosen = subset.NewRing(slots).Of(client, c.Subset.Size)
		by = fmt.Sprintf("ring, client %d, slots by %s", client, of)
	} else {
		random := s.random
		if c.Seed != 0 {
			random = c.Seed
		}
		chosen = subset.Rendezvous(firstAddresses(named), random, max(c.Subset.Size, unindexed))
	}
	used := make([]resolver.Endpoint, 0, len(chosen))
	for _, i := range chosen {
		used = append(used, named[i])
	}
	s.newest.Store(&chosenSubset{len(used), len(named), by})
	return used
}

// byAddress returns the different ones of endpoints in the order of their first
// addresses: all clients that know the same endpoints know them in the same order.
func byAddress(endpoints []resolver.Endpoint) []resolver.Endpoint {
	known := resolver.NewEndpointMap[struct{}]()
	var different []resolver.Endpoint
	for _, e := range endpoints {
		if _, twice := known.Get(e); twice || len(e.Addresses) == 0 {
			continue
		}
		known.Set(e, struct{}{})
		different = append(different, e)
	}
	slices.SortStableFunc(different, func(a, b resolver.Endpoint) int {
		return strings.Compare(a.Addresses[0].Addr, b.Addresses[0].Addr)
	})
	return different
}

func firstAddresses(endpoints []resolver.Endpoint) []string {
	all := make([]string, len(endpoints))
	for i, e := range endpoints {
		all[i] = e.Addresses[0].Addr
	}
	return all
}

// slotsOf returns the slots of endpoints that are in the order of their addresses,
// and what they are made of: one of "slot" and "rank".
func slotsOf(endpoints []resolver.Endpoint) (slots []uint32, of string) {
	taken := map[uint32]struct{}{}
	for _, e := range endpoints {
		slot, ok := slotOf(e)
		if !ok {
			return ranks(len(endpoints)), "rank"
		}
		slots = append(slots, slot)
		taken[slot] = struct{}{}
	}
	if 10*(len(slots)-len(taken)) > len(slots) {
		return ranks(len(endpoints)), "rank"
	}
	return slots, "slot"
}

func ranks(n int) []uint32 {
	slots := make([]uint32, n)
	for i := range slots {
		slots[i] = uint32(i)
	}
	return slots
}

// describe says what was chosen last.
func (s *subsetter) describe(d *turret.Description) {
	if newest := s.newest.Load(); newest != nil {
		d.State("subset", newest.by)
		d.Gauge("endpoints_named", "{endpoint}", float64(newest.named))
		d.Gauge("endpoints_left_out", "{endpoint}", float64(newest.named-newest.used))
	}
}
