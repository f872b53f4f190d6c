package balance_test

import (
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/turrettest"
)

// Over one endpoint a Balancer keeps every rule of a layer.
func TestBalancerIsALayer(t *testing.T) {
	turrettest.TestLayer(t, func(t *testing.T) turret.Layer[string, string] {
		return func(inner turret.Service[string, string]) turret.Service[string, string] {
			b := balance.New(discover.List(inner), balance.Config{}, nil)
			t.Cleanup(b.Close)
			synctest.Wait() // until it is known whether the endpoint is ready
			return b
		}
	}, turrettest.LayerTraits[string, string]{})
}
