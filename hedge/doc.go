// Package hedge sends a request a second time when its answer takes unusually
// long, and takes the answer that comes first.
//
//	s := hedge.Layer[string, int](hedge.Config{})(inner)
//
// It is the cure for a slow answer that has nothing to do with the request: the
// server collected garbage, a queue was long, a packet was lost. Dean and
// Barroso (The Tail at Scale, 2013) cut the 99.9th percentile of a read over
// 100 servers from 1,800 to 74 ms with 2 % more requests. Hedge only what may be
// carried out twice: reads, and writes that name their effect. A service with
// several endpoints behind it gains most, if the hedge goes to another one.
//
// # What a call does
//
// A call is sent to the inner service on the goroutine of its caller. If it has
// not returned after the delay, the same request is sent on another goroutine:
// a hedge. Then
//
//   - the first success wins. The context of the others is cancelled, with the
//     cause [ErrSuperseded], and the call returns when they have returned;
//   - an attempt that fails waits for those that still run. A hedge never turns
//     the success of another attempt into an error. If all fail, the caller gets
//     the error of the first attempt that was sent, as without a hedge;
//   - a call that fails before a hedge was sent is not hedged: trying again what
//     failed is the business of package retry;
//   - a hedge that was refused before it was sent (turret.ErrNotReady) does not
//     count. It may be sent later, when the call has taken twice as long;
//   - a panic or runtime.Goexit in an attempt goes on in the goroutine of the
//     caller, once the other attempts have been cancelled and have returned. If
//     two attempts panic, the second panic is logged to slog's default logger,
//     and so is the stack of one that changed the goroutine.
//
// While no hedge is due, a call costs a context, a timer and no goroutine.
//
// # When a hedge is due
//
// Config.Delay is a fixed delay. Without it the delay is a quantile of the
// latencies of recent calls, by default the 95th percentile, so that about one
// call in twenty is hedged. It is taken over a window that slides, in which every
// answer counts at once: see Config.Window.
//
// What is measured is the first attempt of each call. An answer counts with its
// latency. An attempt that ended without one, because it failed, lost against a
// hedge or was cancelled, would have taken longer than it lasted, so it counts
// with that, but only if it lasted longer than the quantile; otherwise it says
// nothing. So failures that are slow make hedges rarer, and those that are fast
// do not make them more frequent.
//
// # What keeps hedges from doing harm
//
// A hedge is load, and it is sent when things are slow. Three things bound it:
// Config.MaxHedges for one call; the [retry.Budget], by default 5 % of the calls,
// for all together; and a pause of all hedges while the quantile is more than
// twice what it was a minute before, for then it is not a call that is slow but
// everything. A call that was denied a hedge asks again when it has taken twice
// as long.
//
// # Order
//
// Retry outside of a hedge repeats calls that failed with all their attempts;
// inside it, each attempt has retries of its own. Outside, with a budget that
// both share (see Config.Counted), is the usual order: timeout > retry > hedge >
// timeout of each attempt. A limit inside a hedge counts each attempt; a hedge
// that waits in its line leaves it as soon as there is an answer.
//
// # Differences from Tower
//
//   - Tower's Hedge returns whatever completes first, errors and errors of
//     readiness too. Here the first success wins.
//   - It has no budget and no pause, and one hedge a call.
//   - It decides by the window that ended last, and not at all after a window
//     without calls. Here every answer counts from the moment it arrived, and a
//     client that calls seldom, or rested, keeps the answers that it has.
//   - Of what did not succeed it learns nothing, and of hedges as much as of
//     first attempts, so that its quantile is too low when it matters.
//   - Its rank is skewed by a 32-bit fraction (the 99th percentile of 100
//     answers is the longest of them) and its latencies are whole milliseconds.
//     Here the rank is exact, and the latency at most 1/32 too long.
//   - Its policy's clone_request and can_retry are the function that [LayerOf]
//     takes.
package hedge
