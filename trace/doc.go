// Package trace makes OpenTelemetry spans of RPCs: it starts them, carries
// their context from one process to the next, and writes down how they went. It
// works on plain values (names, codes, durations), so it needs neither gRPC nor
// a layer; interceptors.Trace is the [Layer] made of it.
//
// Spans follow the semantic conventions of OpenTelemetry for RPCs, in the
// version of [SchemaURL]:
//
//	name                      package.Service/Method
//	kind                      client or server
//	rpc.system.name           grpc
//	rpc.method                package.Service/Method
//	server.address, .port     on the client: what was dialed
//	rpc.response.status_code  OK, NOT_FOUND ...
//	error.type                the same, if the span's status is an error
//
// A client's span has the status Error for every code but OK; a server's only
// for those that are the server's fault: UNKNOWN, DEADLINE_EXCEEDED,
// UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS. The conventions have no
// words for what layers do; these are Turret's own:
//
//	turret.attempt  which attempt of an RPC a span stands for, 0 for the first
//	turret.layer    the layer that an event comes from, or the name of the span's own
//	turret.reason   why: LIMIT_FULL, UNAVAILABLE ...
//	turret.delay    how long a retry waits, in seconds
//
// [Layer]: https://pkg.go.dev/github.com/turret-go/turret#Layer
package trace
