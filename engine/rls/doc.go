// Package rls takes the tokens of shared limits from a server of Envoy's rate
// limit protocol: [Engine] is a [shared.Engine] over the gRPC service
// envoy.service.ratelimit.v3.RateLimitService.
//
//	conn, err := grpc.NewClient("ratelimit:8081", append(rls.DialOptions(), creds)...)
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
// window. That server counts the leases that it refuses too: what was left of the
// window when it refused one is not used. It lets in all calls of a key that it has
// no limit for, and answers UNKNOWN while its Redis is away, which makes the engine
// away.
package rls
