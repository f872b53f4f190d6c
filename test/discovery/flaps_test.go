package discovery

import (
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// listOf returns an update, in the form of new resolvers or, if old, of those that
// know addresses only.
func listOf(old bool, all ...*server) resolver.State {
	state := resolver.State{}
	if !old {
		state.Endpoints = []resolver.Endpoint{}
	}
	for _, s := range all {
		address := resolver.Address{Addr: s.address}
		if old {
			state.Addresses = append(state.Addresses, address)
		} else {
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{address}})
		}
	}
	return state
}

// A registry that is polled or blocks on queries sends its list whether or not it has
// changed: the same again, in another order, with duplicates, a part of it. The
// endpoints that are in all lists keep their connections, and no call fails.
func TestListsFlap(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 8)
		steady, rest, last := fleet[:3], fleet[3:], fleet[7]
		registry := manual.NewBuilderWithScheme("registry")
		registry.InitialState(listOf(false, fleet...))
		c := dial(t, k, "registry:///orders", registry)
		c.await(fleet...)
		c.start()
		c.ban(last)
		bans, random := c.bans(last), rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			list := slices.Clone(steady)
			for _, s := range rest {
				if i%3 != 0 || random.IntN(2) == 0 { // every third list is a part
					list = append(list, s)
				}
			}
			for range random.IntN(3) {
				list = append(list, list[random.IntN(len(list))])
			}
			random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			registry.UpdateState(listOf(i%2 == 0, list...))
		}
		registry.UpdateState(listOf(false, fleet...))
		c.await(fleet...)
		c.turnOver()
		c.stillBanned(last, bans)
		c.noneFailed()
		c.keptConnections(steady...)
	})
}

// A registry that says now and then that there is no endpoint at all, as one does that
// has just restarted. Calls that wait for an endpoint do not fail, and bans stay.
func TestListsAreEmptyNowAndThen(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		registry := manual.NewBuilderWithScheme("registry")
		registry.InitialState(listOf(false, fleet...))
		c := dial(t, k, "registry:///orders", registry)
		c.await(fleet...)
		c.start(grpc.WaitForReady(true))
		c.ban(fleet[3])
		bans := c.bans(fleet[3])
		for i := range 20 {
			for range 1 + i%3 {
				registry.UpdateState(listOf(i%2 == 0))
			}
			registry.UpdateState(listOf(i%2 == 0, fleet...))
			if i%4 == 0 {
				c.await(fleet...)
			}
		}
		c.await(fleet...)
		c.turnOver()
		c.stillBanned(fleet[3], bans)
		c.noneFailed()
	})
}
