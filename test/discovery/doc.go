// Package discovery runs the policy turret.P2C and balance.NewClientConn behind the
// resolvers that fleets use: etcd's with a real etcd, gRPC's for DNS with a DNS
// server, and kuberesolver with the API of Kubernetes played by the test. It is a
// module of its own, so that the module of users does not depend on them.
//
// Everything is on loopback, in real time. A test waits for what must happen, for
// minutes if need be, and asserts no duration.
package discovery
