// Package rls takes the tokens of shared limits from a server of Envoy's rate
// limit protocol: [Engine] is a [shared.Engine] over the gRPC service
// envoy.service.ratelimit.v3.RateLimitService.
//
//	conn, err := grpc.NewClient("ratelimit:8081", creds)
//	engine := rls.New(conn, rls.Config{Domain: "shop"})
//	gate := shared.New(engine, shared.Config{Key: "orders", Rate: limit.PerSecond(1000)})
//
// The server decides with limits of its own configuration: the protocol does not
// carry the Rate of a limit, which must say the same as that configuration. For
// the limit above, a server of github.com/envoyproxy/ratelimit has
//
//	domain: shop
//	descriptors:
//	  - key: turret
//	    value: orders
//	    rate_limit: {unit: second, requests_per_unit: 1000}
//
// The protocol grants a lease wholly or not at all, and most servers count in
// fixed windows, so that up to twice the rate can be let in around the end of a
// window. A server may let in all calls of a key that it has no limit for.
package rls
