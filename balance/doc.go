// Package balance chooses endpoints: the best one, not the next one.
//
// Importing it registers the gRPC policy turret.P2C ([Name]). A channel uses it
// by its service config, or by
//
//	grpc.NewClient(target, balance.WithP2C(balance.Config{}), ...)
//
// The same choice is there for endpoints with layers of their own: [New] makes a
// turret.Service of many, as Tower's Balance does, and [NewClientConn] a
// connection for generated stubs, with a stack for each endpoint.
//
// # How an endpoint is chosen
//
// Two different endpoints are drawn at random, and the call goes to the one
// with less load (the power of two choices: Mitzenmacher, 1996). Drawing is what
// keeps many clients from running to the same endpoint at once; comparing is
// what makes the longest line short.
//
//  1. The load is the mean latency of about the last second, times the calls in
//     flight and the one that is to be sent ([load.EWMA]). Latency differences of
//     less than a fifth are taken for chance.
//  2. An endpoint that fails three times in a row, or half of the time, is
//     banned for some two seconds. Then one call tries it out. While the tries
//     fail the ban doubles, up to a minute. Where calls to all endpoints fail,
//     it takes a longer row, or more than twice the share of all.
//  3. An endpoint with three calls in a row that take far longer than calls to
//     this fleet do is banned in the same way, but for a quarter of a second at
//     first: that is long enough for a pause, and doubling soon makes it long
//     enough for an endpoint that is sick.
//
// At most half of the endpoints are banned at a time. Most of these figures are
// fields of [Config]. Where a parent policy knows other endpoints, [FailOver] lets
// failures ban all, and hands the calls over to the parent's other children.
//
// Where endpoints have different weights ([WithWeight], and xDS), each is drawn in
// proportion to its weight, and what is in flight is compared in relation to it.
//
// # What is known of an endpoint
//
// It outlives pickers, lost connections, resolver updates and changes of the
// policy's configuration. It ends a minute after the resolver has stopped naming
// the endpoint, and when the channel becomes idle, by default after 30 minutes
// without calls: gRPC then closes the policy.
//
// Application errors and what callers cancel say nothing against an endpoint.
// Streams count as calls in flight; how long they live counts for nothing. Which
// methods are streams is known from the generated code that is linked in, and
// from the interceptors of this module.
//
// An attempt of an RPC that is retried or hedged by the interceptors of this
// module avoids the endpoints that the RPC has tried, and never tries out a
// banned one.
//
// # Without usable endpoints
//
// This is about the policy; see [Balancer] and [ClientConn] for theirs.
//
// The picker never queues: gRPC would wake every waiting call at every change. A
// call that finds no room at the endpoints that were looked at ends with
// RESOURCE_EXHAUSTED ([ErrFull], reason LIMIT_FULL), unless Config.OnFull says
// otherwise. One that finds them all banned is sent to one of them, or, if
// Config.OnBanned says so, ends with UNAVAILABLE ([ErrBanned], reason
// CIRCUIT_OPEN). gRPC's own retry and wait-for-ready do not apply to these ends.
//
// Where no endpoint is connected, gRPC decides as with its own policies: a call
// waits while one is connecting, and ends with UNAVAILABLE when they have failed,
// or when the resolver names none; one that waits for readiness goes on waiting.
// gRPC makes these statuses, so they carry no reason.
package balance

// Where things are: bans in bans.go; slow start (warmUp, warmth) and
// what else is known of one endpoint in endpoint.go; the choice in choose.go; which
// RPC is a stream in methods.go; a Balancer's readiness in group.go; failing fast in
// reachable.go; failing over to other endpoints in failover.go.
