// Package policytest runs policies that were imported from gRPC service configs
// against generated code of another project: that of Google Cloud Pub/Sub. It is a
// module of its own, so that the module of users does not depend on it.
package policytest
