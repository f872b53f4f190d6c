package sim

import (
	"fmt"
	"os"
	"testing"
)

// Host runs f in a test, which a synctest bubble needs, from a program that is
// none, and ends the program.
func Host(f func(t *testing.T)) {
	os.Args = append(os.Args[:1:1], "-test.timeout=1h")
	match := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(match, []testing.InternalTest{{Name: "experiment", F: f}}, nil, nil)
}

// Turret is our own policy with its zero configuration.
func Turret() *Policy {
	return &Policy{Name: "turret.P2C", Config: func(client int, seed uint64) string {
		return fmt.Sprintf(`{"loadBalancingConfig":[{"turret.P2C":{"seed":%d}}]}`, key(seed, client))
	}}
}

// Standard is a policy of grpc-go that needs no configuration.
func Standard(name string) *Policy {
	return &Policy{Name: name, Config: func(int, uint64) string {
		return fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, name)
	}}
}
