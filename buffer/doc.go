// Package buffer puts a bounded line in front of a service.
//
//	turret.Stack(
//		buffer.Layer[Req, Res](100),
//		turret.Gated[Req, Res](limit.NewConcurrency(10, limit.Queue{}), nil),
//	)
//
// holds 110 calls: 10 that run and 100 that wait, in the order in which they
// came. The 111th is refused.
//
// # When a line of its own is needed
//
// A limit can have a line itself (limit.Queue), which is the better place for
// one. A buffer is for what has none: several gates that are to be waited for
// together, a connection that is being made, a foreign service that refuses at once
// and whose Ready waits until it would not.
//
// # How a call gets in
//
// If no call waits and the inner service is ready, a call goes through. Else it
// joins the line. One caller at a time waits in Ready of the inner service; when
// that is ready, the first in line calls it, and the next one waits in Ready.
//
// Ready reserves nothing. Another caller may be quicker to the room that it
// reported: one that does not come through this buffer, or the next one in line. A call
// that is refused for it (its error matches turret.ErrNotReady) goes back to its
// place, in front of all later ones. If the line has filled up meanwhile, the
// last one in it is refused instead, so that never more than n wait.
//
// What cannot be waited for is not: when the inner service refuses a call and says
// in the same breath that it is ready (a load shedder does, and a stack in front
// of a balancer that has no endpoint), the refusal is the caller's.
//
// # Errors
//
// A call that finds the line full is refused with [ErrFull], reason BUFFER_FULL.
// After [Buffer.Close], and once the readiness of the inner service has failed for
// good, all calls in line and all later ones are refused with [ErrClosed],
// reason BUFFER_CLOSED; the error matches the reason of the failure too. A caller
// whose context ends leaves the line at once. All of these match
// turret.ErrNotReady: nothing was sent.
//
// # What differs from Tower
//
// Tower's Buffer has a worker, which every call passes through, and which takes
// all callers with it when it panics. Here a caller that waits does the worker's
// work for the time that it is first; there is no goroutine, and nothing to close
// for its sake.
//
// Tower's never refuses: a handle that finds it full is not ready, and a handle
// that is idle may hold a place. Here only a waiting call holds a place, and
// Ready returns whether one is free.
package buffer
