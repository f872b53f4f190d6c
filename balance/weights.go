package balance

import (
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
)

// WithWeight returns e with a weight: an endpoint of weight 2 gets twice as many
// calls as one of weight 1. 0 counts as 1. Only the ratios of weights matter. It is
// for resolvers that name endpoints; the weights of xDS arrive in the same way. For a
// [ClientConn] see ClientConfig.Weight, for a [Balancer] see [Weighted].
func WithWeight(e resolver.Endpoint, w uint32) resolver.Endpoint {
	return weight.Set(e, weight.EndpointInfo{Weight: w})
}

// WithAddressWeight is [WithWeight] for resolvers that name addresses and no
// endpoints.
func WithAddressWeight(a resolver.Address, w uint32) resolver.Address {
	e := WithWeight(resolver.Endpoint{Attributes: a.BalancerAttributes}, w) //nolint:staticcheck // deprecated for addresses of an endpoint: this is none
	a.BalancerAttributes = e.Attributes                                     //nolint:staticcheck // gRPC makes it the attributes of the endpoint
	return a
}

// Weighted is a service of a [Balancer] that has a weight, such as a struct that
// embeds a turret.Service and has this method. A service without it has the weight 1.
type Weighted interface {
	// Weight returns the weight, which counts as that of [WithWeight] does. It is
	// called once, when the service is inserted.
	Weight() uint32
}

// weightOf returns the weight of a service.
func weightOf(service any) float64 {
	if w, ok := service.(Weighted); ok {
		return max(1, float64(w.Weight()))
	}
	return 1
}

// aliasOf returns the table that draws with these weights, nil if they are equal.
func aliasOf(weights []float64) *alias {
	for _, w := range weights {
		if w != weights[0] {
			return newAlias(weights)
		}
	}
	return nil
}
