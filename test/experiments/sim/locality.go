package sim

import (
	_ "unsafe" // for go:linkname

	_ "google.golang.org/grpc/balancer/weightedtarget" // links the function below
	"google.golang.org/grpc/resolver"
)

// setPath says which children of priorities, and of policies like it, an endpoint
// belongs to. Under xDS a policy of gRPC does that, with an internal package; gRPC's
// own priority policy without a control plane needs the same attribute.
//
//go:linkname setPath google.golang.org/grpc/internal/hierarchy.SetInEndpoint
func setPath(e resolver.Endpoint, path []string) resolver.Endpoint
