// Package limit bounds how many calls are inside at once ([Concurrency]), and
// how many start in a time ([TokenBucket]).
//
// Both are a [turret.Gate]: turret.Gated makes a layer of one, one may guard
// several services at once, and a balancer may keep one for each endpoint. What
// happens to a call that finds no room, the [Queue] says: the zero Queue refuses
// it at once, Queue{Max: Unbounded} lets it wait as long as its context allows.
//
// A [Keyed] has a gate for each key, such as a tenant, in bounded memory. A limit
// that finds its bound by itself is in package adaptive.
//
// # Waiting
//
// A line is first in, first out. Room that comes free goes to its head at once,
// so no call overtakes another: neither a new call that finds the place free for an
// instant, nor TryEnter. A call that gives up leaves no trace: it keeps no place and no
// token, and what was given to it in that very instant goes to the next.
//
// Ready takes nothing. A wait in it stands in no line and costs no call
// its place, its token or its turn; it ends when there is room that no call in line
// needs. By the time that the caller acts on it, another call may have taken it.
//
// # Refusals
//
// A call that is turned away fails with a [*turret.Refusal] whose Err is
// [ErrFull], [ErrQueueFull], [ErrQueueTimeout] or [ErrRate]. A call whose context
// ends while it waits fails with an error that matches the context's error. All
// of them match turret.ErrNotReady: nothing was sent.
//
// # What differs from Tower
//
// Tower's ConcurrencyLimit takes its permit before it asks whether the inner
// service is ready, and holds it while that is not; an idle handle can hold
// permits that others wait for. Here nothing is taken until the call is made,
// and Ready reserves nothing.
//
// Tower's RateLimit counts in fixed windows that start at the first call, so
// that 2N-1 calls can start in one instant: one at the start of a window, N-1
// just before its end, N just after. A token bucket never lets more than Burst
// start at once. Tower never refuses; it waits, which is Queue{Max: Unbounded}.
//
// A limit belongs to the value, not to the layer: a Gate used twice is shared,
// as Tower's GlobalConcurrencyLimitLayer is.
package limit
