// Package balance measures turret.P2C beside the balancing policies of gRPC and
// others. It is apart from the other benchmarks, as those are of programs that do
// not import package balance: where it is imported, an RPC with Retry carries a
// record of the endpoints that it has tried.
package balance
