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
func Turret() *Policy { return turret("turret.P2C", "") }

// Variants are our own policy without one part of it each, to see what the part
// is good for.
func Variants() []*Policy {
	return []*Policy{
		turret("turret.P2C/peak_ewma", `"load":"peak_ewma",`),
		turret("turret.P2C/no-outliers", `"outliers":{"consecutive":-1},`),
		turret("turret.P2C/no-bans", `"maxBanned":-1,`),
	}
}

func turret(name, fields string) *Policy {
	return &Policy{Name: name, Config: func(client int, seed uint64) string {
		return fmt.Sprintf(`{"loadBalancingConfig":[{"turret.P2C":{%s"seed":%d}}]}`, fields, key(seed, client))
	}}
}

// Standard is a policy of grpc-go that needs no configuration.
func Standard(name string) *Policy {
	return &Policy{Name: name, Config: func(int, uint64) string {
		return fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, name)
	}}
}
