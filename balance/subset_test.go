package balance_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/experimental/balancer/hostname"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// used returns the addresses of the endpoints that a policy uses, and what it says
// of its choice.
func (f *fleet) used() (addresses []string, node turret.Node) {
	node = turret.Describe(f.policy.(turret.Describer), 1000)
	for _, child := range node.Children {
		if child.Kind == "endpoint" {
			addresses = append(addresses, child.Name)
		}
	}
	slices.Sort(addresses)
	return addresses, node
}

func ofSize(size int, client string) balance.Config {
	return balance.Config{Subset: balance.Subset{Size: size, Client: client}}
}

// Only the endpoints of the subset are connected and used.
func TestSubsetConnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, ofSize(20, "7"), fakeconn.Endpoints(200))
		if n := f.conn.Made(); n != 20 {
			t.Errorf("%d connections, want 20", n)
		}
		used, node := f.used()
		if got := slices.Sorted(maps.Keys(f.serve(2000, well))); !slices.Equal(got, used) || len(got) != 20 {
			t.Errorf("calls went to %v, want the 20 endpoints %v", got, used)
		}
		if figure(node, "subset").Text != "ring, client 7, slots by slot" ||
			figure(node, "endpoints_named").Value != 200 || figure(node, "endpoints_left_out").Value != 180 {
			t.Errorf("described as %+v", node.Figures)
		}
	})
}

// Clients that know the same endpoints, in any order, spread evenly over them.
func TestSubsetsAreEven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const clients, endpoints, size = 64, 64, 5
		clientsOf := map[string]int{}
		for client := range clients {
			named := fakeconn.Endpoints(endpoints)
			if client%2 == 1 {
				slices.Reverse(named)
			}
			named = append(named, named[client]) // duplicates count once
			f := newFleet(t, ofSize(size, fmt.Sprint("client-", client)), named)
			used, _ := f.used()
			if len(used) != size {
				t.Fatalf("client %d uses %d endpoints, want %d", client, len(used), size)
			}
			for _, address := range used {
				clientsOf[address]++
			}
		}
		for address, n := range clientsOf {
			if n != size {
				t.Errorf("%s has %d clients, want %d", address, n, size)
			}
		}
		if len(clientsOf) != endpoints {
			t.Errorf("%d endpoints have clients, want %d", len(clientsOf), endpoints)
		}
	})
}

// An endpoint that is there before and after a change keeps its past.
func TestSubsetKeepsState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := fakeconn.Endpoints(40)
		config := longBans
		config.Subset = balance.Subset{Size: 4, Client: "0"}
		f := newFleet(t, config, all[:32])
		f.serve(500, sick(down)) // the first endpoint is where client 0 is on the ring
		f.resolve(all)
		f.config.Subset.Size = 5
		f.resolve(all)
		counts := f.serve(1000, well)
		if counts[first] != 0 || len(counts) != 4 {
			t.Errorf("calls %v after the change, want none at the banned endpoint and some at 4 others", counts)
		}
		f.config.Subset = balance.Subset{}
		f.resolve(all)
		if n := len(f.serve(5000, well)); n != 39 {
			t.Errorf("%d endpoints are used without a subset, want 39", n)
		}
	})
}

func at(addresses ...string) (all []resolver.Endpoint) {
	for _, a := range addresses {
		all = append(all, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	return all
}

// Where the slots come from, and when ranks take their place. Slots 0 to 3 are at 0,
// 1/2, 1/4 and 3/4 of the ring.
func TestSubsetSlots(t *testing.T) {
	named := at("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1")
	with := func(set func(resolver.Endpoint, int) resolver.Endpoint) []resolver.Endpoint {
		all := slices.Clone(named)
		for i := range all {
			all[i] = set(all[i], i)
		}
		return all
	}
	for name, tt := range map[string]struct {
		endpoints []resolver.Endpoint
		client    string
		want      string
		by        string
	}{
		"rank":   {named, "1", "10.0.0.2:1", "rank"},
		"rank 2": {named, "2", "10.0.0.3:1", "rank"},
		"slot":   {with(func(e resolver.Endpoint, i int) resolver.Endpoint { return balance.WithSlot(e, uint32(3-i)) }), "1", "10.0.0.3:1", "slot"},
		"hostname": {with(func(e resolver.Endpoint, i int) resolver.Endpoint {
			return hostname.Set(e, fmt.Sprintf("b-%d.b.svc", 3-i))
		}), "1", "10.0.0.3:1", "slot"},
		"host":   {at("b-1.b:1", "b-0.b:1", "b-3.b:1", "b-2.b:1"), "1", "b-1.b:1", "slot"},
		"some":   {at("b-1.b:1", "b-0.b:1", "a.b:1", "b-2.b:1"), "0", "a.b:1", "rank"},
		"twice":  {at("b-1.b:1", "b-1.c:1", "b-0.b:1"), "1", "b-1.b:1", "rank"},
		"ipv6":   {at("[::1]:1", "[::2]:1"), "1", "[::2]:1", "rank"},
		"socket": {at("unix7", "unix8"), "7", "unix7", "slot"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t, ofSize(1, tt.client), tt.endpoints)
				used, node := f.used()
				if len(used) != 1 || used[0] != tt.want {
					t.Errorf("client %s uses %v, want %s", tt.client, used, tt.want)
				}
				if got, want := figure(node, "subset").Text, fmt.Sprintf("ring, client %s, slots by %s", tt.client, tt.by); got != want {
					t.Errorf("described as %q, want %q", got, want)
				}
			})
		})
	}
}

// A client without an index of its own uses 100 endpoints and more, the same ones as
// long as they are there.
func TestSubsetWithoutIndex(t *testing.T) {
	t.Setenv(balance.ClientIndexVariable, "")
	bubble(t, func(t *testing.T) {
		all := fakeconn.Endpoints(300)
		f := newFleet(t, ofSize(20, ""), all)
		before, node := f.used()
		if len(before) != 100 || figure(node, "subset").Text != "rendezvous" {
			t.Errorf("%d endpoints by %q, want 100 by rendezvous", len(before), figure(node, "subset").Text)
		}
		f.resolve(all[:299])
		time.Sleep(time.Second)
		synctest.Wait()
		after, _ := f.used()
		changed := 0
		for _, address := range after {
			if !slices.Contains(before, address) {
				changed++
			}
		}
		if changed > 1 || len(after) != 100 {
			t.Errorf("%d of %d endpoints are others when one has left, want at most 1 of 100", changed, len(after))
		}
		f.config.Subset.Size = 200
		f.resolve(all)
		if used, _ := f.used(); len(used) != 200 {
			t.Errorf("%d endpoints, want 200", len(used))
		}
	})
}

// The environment has the index of a client whose configuration has none.
func TestSubsetIndexOfTheEnvironment(t *testing.T) {
	for text, want := range map[string]string{
		"5": "ring, client 5, slots by slot", "orders-5": "ring, client 5, slots by slot",
		"orders": "rendezvous", "99999999999": "rendezvous",
	} {
		t.Setenv(balance.ClientIndexVariable, text)
		bubble(t, func(t *testing.T) {
			f := newFleet(t, ofSize(3, ""), fakeconn.Endpoints(10))
			if _, node := f.used(); figure(node, "subset").Text != want {
				t.Errorf("%s is %q: %q, want %q", balance.ClientIndexVariable, text, figure(node, "subset").Text, want)
			}
			f.config.Subset.Client = "1"
			f.resolve(fakeconn.Endpoints(10))
			if _, node := f.used(); figure(node, "subset").Text != "ring, client 1, slots by slot" {
				t.Error("the environment wins over the configuration")
			}
		})
	}
}

// BenchmarkSubsetUpdate is a resolver update of 10,000 endpoints of which a client
// uses 20.
func BenchmarkSubsetUpdate(b *testing.B) {
	all := fakeconn.Endpoints(10_000)
	_, policy, err := fakeconn.Start(balance.Name, `{"subset":{"size":20,"client":"7"}}`, all)
	if err != nil {
		b.Fatal(err)
	}
	defer policy.Close()
	parsed, err := balancer.Get(balance.Name).(balancer.ConfigParser).ParseConfig([]byte(`{"subset":{"size":20,"client":"7"}}`))
	if err != nil {
		b.Fatal(err)
	}
	state := balancer.ClientConnState{ResolverState: resolver.State{Endpoints: all}, BalancerConfig: parsed}
	b.ReportAllocs()
	for b.Loop() {
		_ = policy.UpdateClientConnState(state)
	}
}
