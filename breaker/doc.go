// Package breaker is a circuit breaker: a [turret.Gate] that stops calling what
// keeps failing.
//
//	          a row of failures, or too large a share
//	Closed ------------------------------------------> Open
//	  ^                                                 | |
//	  |  the probe succeeds                     period  | | the probe fails:
//	  |                                         over    v ^ a longer period
//	  +---------------------------------------------- HalfOpen
//
// The idea is Michael Nygard's (Release It!, 2007); opening on a row of
// failures or on a share of a window, whichever comes first, is Finagle's and
// Linkerd's. Both are needed: a row finds an outage within a few calls, and a
// share finds what fails every other time.
//
// While it is open, [Breaker.TryEnter] refuses with [ErrOpen]. The period is
// random within bounds and doubles while probes fail. When it is over, one call
// passes as a probe. If the probe ends without saying anything about the other
// side (its caller cancelled it, or it was never sent), the next call is the
// probe: unlike a breaker that counts a cancelled probe as a failure or waits
// for ever for its verdict, this one cannot be kept open by impatient callers. Nor
// by a probe that does not end, such as a long stream: once it has taken as long
// as the longest open period, further calls are probes too.
//
// [turret.Gated] makes a layer of a Breaker, and interceptors.Breaker one for
// gRPC. Package balance keeps what decides in a Breaker for each endpoint.
package breaker
