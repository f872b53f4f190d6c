// Command fleet simulates fleets of up to 10,000 clients and 10,000 servers: the core
// of the balancing policy, without gRPC's connections. It prints the tables of
// doc/fleet.md:
//
//	GOWORK=off go run ./fleet -only subsets   # how evenly subsets spread
//	GOWORK=off go run ./fleet -only loads     # what the policy makes of them
package main

import (
	"flag"
	"os"
	"testing"

	"github.com/turret-go/turret/test/experiments/sim"
)

func main() {
	only := flag.String("only", "", "subsets or loads; both if empty")
	most := flag.Int("most", 10_000, "the clients and servers of the largest fleet")
	flag.Parse()
	sim.Host(func(t *testing.T) {
		if *only != "loads" {
			subsets(os.Stdout, *most)
		}
		if *only != "subsets" {
			loads(t, os.Stdout, *most)
		}
	})
}
