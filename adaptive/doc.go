// Package adaptive limits how many calls are inside at once to what the service
// behind it can use, and finds that number by itself.
//
// A [Limit] is a [turret.Gate], and its zero [Config] needs no tuning:
//
//	gate := adaptive.New(adaptive.Config{})
//	service := turret.Gated[Req, Res](gate, nil)(inner)
//
// # The limit
//
// The limit is 1.3 times the number of calls that keep the service busy, which by
// Little's law is its throughput times the latency that a call has when it waits
// for nothing. BBR bounds what a connection has in flight in the same way
// (Cardwell et al., ACM Queue 14(5), 2016).
//
// That unloaded latency is measured while few calls have to wait. Under load it
// is tested: now and then, and before any large cut, the limit is halved for the
// few latencies that a measurement takes. If latency falls with the limit, the
// calls inside were waiting for each other, and the limit was too high. If it
// stays, something else became slower, such as a database behind the service, and
// the unloaded latency is corrected instead. A limit that compares latency with
// a remembered one cannot tell the two apart and closes when it should open.
//
// Failures that are slower than the unloaded latency hold their places without
// giving an answer. They count as latency of the successes, unless the successes
// are as fast as ever: calls that hang while others do not are no queue.
//
// # The line
//
// A call that finds no room waits in a line. The line is first in first out,
// and absorbs bursts, until it has not been empty for ten unloaded latencies and a
// call has waited for two of them, or was refused. Then it is hot: the newest call
// goes first, and none waits longer than one unloaded latency, or than five calls
// take to leave if that is more, so that callers that get in still have their time.
// It is cool again when no call had to be refused for ten unloaded latencies.
//
// A call that has waited for half of the time that it had until its deadline is not
// let in any more.
//
// Within the line the most critical level goes first (see package criticality),
// and within a level the key that was given least lately, if there are keys.
//
// # Time that the process stood still
//
// When nothing starts or ends for so long that a dozen calls should have ended,
// the process was stopped: by a collector, or because its container had used up
// its processor time. The backlog of that time is no overload. The clocks of the line move
// forward by the pause, and neither latencies nor waiting count until the
// backlog is gone.
package adaptive
