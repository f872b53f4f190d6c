// Package policyv1 is the generated code of the policy schema: what a client and
// a server do around the RPCs of each method. Package policy compiles it, and
// package policy/policyfile reads it from YAML and JSON. .proto files import
// turret/policy/v1/policy.proto for the options of methods and services.
package policyv1
