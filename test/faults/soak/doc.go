// Package soak sends RPCs of all four kinds through full stacks on both sides for
// a given time, as many as the machine can do. Servers fail, are slow and panic;
// callers cancel and set short deadlines. The package counts what happens.
//
//	make soak                  # from the root: ten minutes
//	make soak FOR=8h
//	cd test/faults && GOWORK=off go test -race -v ./soak -for 30s
//
// The load is cut into rounds. After each, when no RPC is running,
// every attempt of every RPC must be accounted for, one by one: what the client
// sent is what the servers saw, what was refused before the wire, and what its
// caller gave up before it got there; what the servers saw is what they answered,
// refused and failed; no attempt is seen twice, none has another end at the
// server than at the client; the counters of the limits say the same; nothing is
// held. At the end metrics and events of both sides must say the same too. Goroutines must be back to what they were after the first round, and
// memory must not have grown.
package soak
