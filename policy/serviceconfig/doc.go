// Package serviceconfig makes policies of gRPC service configs
// (https://github.com/grpc/grpc/blob/master/doc/service_config.md), so that what
// is there need not be written again.
//
//	document, notes, err := serviceconfig.Import("pubsub.json", data)
//	p, err := policy.New(document, policy.Config{})
//
// gRPC's own parser ignores what it does not know and a key that is given twice,
// and refuses a file as a whole for one retry policy. Import says where what is
// wrong is written, carries over the rest, and notes each thing that the policy
// does not do, or does otherwise.
//
// A connection that has a service config beside a policy carries out both, and
// their attempts multiply: dial with grpc.WithDisableServiceConfig and
// grpc.WithDisableRetry.
package serviceconfig
