// Package interop runs the test cases that all implementations of gRPC share
// (https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md)
// through full stacks on both sides: to one server and to two, among which
// turret.P2C chooses; in memory, over TCP and over TLS; to servers that are
// healthy, and to ones that fail two of three attempts. It has a module of its
// own, because gRPC's package with the cases requires credentials of clouds.
//
//	cd test/interop && GOWORK=off go test -race .
package interop
