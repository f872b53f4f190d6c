// Package shared limits a rate that several processes share: [Limit] is a
// [turret.Gate] whose tokens are kept by an [Engine], such as Redis or a rate
// limit service.
//
//	gate := shared.New(engine, shared.Config{Key: "orders", Rate: limit.PerSecond(1000)})
//
// # Leases
//
// Asking the engine for each call would add a round trip to each call. A Limit
// asks ahead of demand instead: it leases as many tokens as calls came to it in
// the last [Config.Horizon], less those that it still has. It asks when what is
// left lasts for an eighth of the Horizon, or for two round trips where these take
// longer. In the usual case a call takes a leased token and waits for nothing.
//
// Invariant: the tokens that a Limit holds, and those that it has asked for, are
// together at most as many as calls came to it in the Horizon before its last
// question. A process that dies loses no more. Tokens of calls that were not sent
// come back in addition.
//
// An answer with fewer tokens than were asked for says that the limit is
// reached. The Limit then stays silent for 0.5 to 1.5 times the Horizon and
// refuses calls meanwhile, so that the load of the engine does not grow with the
// demand. Leased tokens that are not used expire after [Config.Expire].
//
// Invariant: while the engine answers, all clients together let in at most
// Burst + t x N/Per calls in the time t since the engine started. In a window
// that starts later they may let in, besides, what was leased before it, which is
// never more than Expire old.
//
// # When the engine is away
//
// A call waits for an answer at most [Config.Wait]. An engine that fails, or
// does not answer within [Config.Timeout], is away; then no call waits, and
// [Config.Away] decides: a local limit at the rate that was granted lately
// ([AwayLocal]), no limit ([AwayOpen]) or no calls ([AwayClosed]). Every
// [Config.Probe] one question is asked on the side; the first answer ends the
// absence.
//
// A call whose Wait passes while the engine is not known to be away is decided
// in the same way. If it is let in, it is paid for out of the next lease, so
// that an engine that is only slow still bounds the rate.
//
// # Keys
//
// A Limit has one key. For a limit for each tenant, make one Limit for each key
// with limit.Keyed, which bounds their number.
package shared
