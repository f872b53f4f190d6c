package discovery

import (
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/balance"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// serviceName is the name in DNS. The dot at its end keeps search lists of the machine
// out.
const serviceName = "orders.test."

// TestMain lets gRPC's DNS resolver ask again at once, not after 30 s.
func TestMain(m *testing.M) {
	dns.SetMinResolutionInterval(10 * time.Millisecond)
	os.Exit(m.Run())
}

// dialDNS returns a client of what the zone says about the service.
func dialDNS(t *testing.T, k kind, z *zone, port string, options ...grpc.DialOption) *client {
	t.Helper()
	return dial(t, k, "dns://"+z.address+"/"+serviceName+":"+port, resolver.Get("dns"), options...)
}

// The addresses of a name change. gRPC's resolver asks again when a connection is
// lost: here a server ends gracefully, as with a bound on the age of connections.
func TestDNSAddressesChange(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet, z := newFleet(t, 4), newZone(t)
		z.set(fleet[:3]...)
		c := dialDNS(t, k, z, port(fleet))
		c.await(fleet[:3]...)
		c.start()
		z.set(fleet[3], fleet[2], fleet[1]) // in another order too
		fleet[0].grpc.GracefulStop()
		c.await(fleet[1:]...)
		c.turnOver()
		c.noneFailed()
		c.keptConnections(fleet[1:]...)
	})
}

// A banned endpoint stays banned where DNS answers with a part of the addresses at a
// time, without it, or with none at all.
func TestDNSBansOutliveAnswers(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet, z := newFleet(t, 4), newZone(t)
		last, others := fleet[3], fleet[:3]
		z.set(fleet...)
		c := dialDNS(t, k, z, port(fleet))
		c.await(fleet...)
		c.start(grpc.WaitForReady(true))
		c.ban(last)
		bans := c.bans(last)
		for _, hosts := range [][]*server{others, fleet, {fleet[2], fleet[0]}, {fleet[2]}, fleet} {
			z.set(hosts...)
			c.found.resolveNow()
			c.await(hosts...)
		}
		c.another(func() { z.set(); c.found.resolveNow() })
		eventually(t, "there is no endpoint", func() bool { return len(c.states()) == 0 })
		z.set(fleet...) // the resolver asks again by itself
		c.await(fleet...)
		c.stillBanned(last, bans)
		c.turnOver()
		c.noneFailed()
	})
}

// A name that vanishes is an answer, and not a failure to resolve: there is no
// endpoint, and calls that fail fast fail, as with gRPC's own policies. It is there
// again, and so are they.
func TestDNSNameVanishes(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet, z := newFleet(t, 3), newZone(t)
		z.set(fleet...)
		c := dialDNS(t, k, z, port(fleet))
		c.await(fleet...)
		c.start(grpc.WaitForReady(true))
		c.another(func() { z.vanish(); c.found.resolveNow() })
		echo := echov1.NewEchoServiceClient(c.conn)
		eventually(t, "a call that fails fast fails", func() bool {
			_, err := echo.Unary(t.Context(), new(echov1.UnaryRequest))
			return status.Code(err) == codes.Unavailable
		})
		z.set(fleet...)
		c.await(fleet...)
		c.turnOver()
		c.noneFailed() // of the calls that wait for an endpoint
	})
}

// The DNS server fails: the endpoints stay, and calls go on.
func TestDNSServerFails(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet, z := newFleet(t, 4), newZone(t)
		z.set(fleet[:3]...)
		c := dialDNS(t, k, z, port(fleet))
		c.await(fleet[:3]...)
		c.start()
		z.fail()
		c.found.resolveNow()
		eventually(t, "the resolver has failed", func() bool {
			_, errors := c.found.count()
			return errors > 0
		})
		c.turnOver()
		c.await(fleet[:3]...)
		z.set(fleet...) // the resolver asks again by itself
		c.await(fleet...)
		c.turnOver()
		c.noneFailed()
		c.keptConnections(fleet...)
	})
}

// A name with so many addresses that the answer comes over TCP. Then half of them
// leave.
func TestDNSManyAddresses(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet, z := newFleet(t, 100), newZone(t)
		z.set(fleet...)
		c := dialDNS(t, k, z, port(fleet))
		c.await(fleet...)
		c.start()
		if z.overTCP() == 0 {
			t.Error("the answer fitted into a datagram")
		}
		half := fleet[25:75]
		z.set(half...)
		c.found.resolveNow()
		c.await(half...)
		c.turnOver()
		c.noneFailed()
		c.keptConnections(half...)
	})
}

// configOf returns the value for zone.configure that has a service config.
func configOf(config string) string { return `[{"serviceConfig":` + config + `}]` }

// A service config in DNS comes before that of WithP2C, unless the channel does not
// ask for one.
func TestDNSServiceConfig(t *testing.T) {
	leavesNothing(t)
	fleet, z := newFleet(t, 3), newZone(t)
	z.set(fleet...)
	z.configure(configOf(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	replaced := dialDNS(t, policy, z, port(fleet))
	replaced.start(grpc.WaitForReady(true))
	replaced.turnOver()
	if got := replaced.describe().Kind; got != "" {
		t.Errorf("with round_robin in DNS the channel has a %s", got)
	}
	replaced.noneFailed()
	replaced.close()
	without := dialDNS(t, policy, z, port(fleet), grpc.WithDisableServiceConfig())
	without.await(fleet...)
	without.start()
	without.turnOver()
	without.noneFailed()
}

// The policy is configured in DNS. A change of its configuration keeps bans and
// connections, and a configuration that is wrong, or gone, changes nothing.
func TestDNSConfiguresThePolicy(t *testing.T) {
	leavesNothing(t)
	fleet, z := newFleet(t, 4), newZone(t)
	z.set(fleet...)
	config := forLong
	z.configure(configOf(balance.ServiceConfig(config)))
	c := dialDNS(t, policy, z, port(fleet), grpc.WithDefaultServiceConfig(`{}`)) // in the place of WithP2C's
	c.await(fleet...)
	c.start()
	c.ban(fleet[3])
	before := c.callsTo(fleet[3])
	config.Choices = 3
	for _, text := range []string{
		configOf(balance.ServiceConfig(config)),
		"",
		configOf(`{"loadBalancingConfig":[{"turret.P2C":{"choices":1}}]}`),
	} {
		z.configure(text)
		c.another(c.found.resolveNow)
		eventually(t, "there are 3 choices", func() bool { return c.setting("choices") == "3" })
		c.turnOver()
		c.await(fleet...)
		if n := c.callsTo(fleet[3]) - before; n != 0 {
			t.Errorf("%d calls to a banned endpoint with the configuration %s", n, text)
		}
	}
	c.noneFailed()
	c.keptConnections(fleet...)
}

// A client that starts with a wrong configuration in DNS fails its calls with what is
// wrong, those that wait for an endpoint too.
func TestDNSStartsWithAWrongConfiguration(t *testing.T) {
	leavesNothing(t)
	fleet, z := newFleet(t, 2), newZone(t)
	z.set(fleet...)
	z.configure(configOf(`{"loadBalancingConfig":[{"turret.P2C":{"choices":1}}]}`))
	c := dialDNS(t, policy, z, port(fleet))
	_, err := echov1.NewEchoServiceClient(c.conn).Unary(t.Context(), new(echov1.UnaryRequest))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "Choices is 1") {
		t.Errorf("the call ended with %v", err)
	}
	z.configure(configOf(balance.ServiceConfig(forLong)))
	c.await(fleet...) // the resolver asks again by itself
	c.start()
	c.turnOver()
	c.noneFailed()
}
