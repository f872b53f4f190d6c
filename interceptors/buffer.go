package interceptors

import "github.com/turret-go/turret/buffer"

// Buffer returns a [Layer] in front of which at most n RPCs wait for the layers
// inside it to be ready, in the order in which they came; see package buffer. Put
// it outside of what refuses at once and has no line of its own, such as a rate
// limit and a concurrency limit that are to be waited for together. It panics if
// n is less than 1.
//
//	interceptors.New(
//		interceptors.Buffer(100),
//		interceptors.RateLimit(limit.PerSecond(50), limit.Queue{}),
//		interceptors.ConcurrencyLimit(10, limit.Queue{}),
//	)
//
// A stream waits before it is opened, and has left the line when it is. An RPC
// that waits does so until its context ends: put a [Timeout] outside.
//
// It refuses with RESOURCE_EXHAUSTED and reason BUFFER_FULL, and, if what is
// inside has failed for good, with UNAVAILABLE and reason BUFFER_CLOSED.
func Buffer(n int) Layer { return buffer.Layer[*RPC, any](n) }
