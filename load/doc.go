// Package load says how loaded an endpoint is, for a balancer that chooses
// between endpoints.
//
// A [Tracker] takes the start and the end of each call to its endpoint, and turns
// them into one number. It does not read a clock, does not lock, and
// allocates nothing: two endpoints are asked for each call.
//
//   - [EWMA] is the mean latency of about the last second times what is in flight:
//     the default of package balance.
//   - [PeakEWMA] remembers peaks for long, as Finagle and Tower do.
//   - [Pending] is what is in flight.
//   - [Constant] is a number.
//
// A [Meter] tells a Tracker of the calls of any service.
//
// What all of them have in common is more important than how they differ. A
// failure is never taken for speed, or the endpoint that fails fastest would
// get the most calls. A call that its caller cancelled took at least so long,
// and no more is known. An endpoint that owes an answer is as slow as it has
// been silent, so that one which stopped answering is avoided long before the
// first call to it times out. The life of a stream is no latency.
//
// turrettest.TestTracker checks a Tracker of your own.
package load
