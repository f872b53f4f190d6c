// Package orca tells clients how busy a server is, in the form that gRPC's
// balancing policy weighted_round_robin reads, and proxies too: load reports of
// ORCA (Open Request Cost Aggregation), with each answer and out of band.
//
//	gate := adaptive.New(adaptive.Config{})
//	reporter := orca.New(gate)
//	server := grpc.NewServer(append(reporter.ServerOptions(), stack.ServerOptions()...)...)
//	err := reporter.Register(server) // for clients that want reports out of band
//
// A report has the utilization of the gates, and the rates of calls and of
// failures. It says how full a server is long before a health check could say that
// it is not there: a full server is healthy, see drain.Health.
//
// It is a module of its own, since gRPC's package orca needs modules that Turret
// does not.
package orca
