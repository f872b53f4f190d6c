// Package timeout bounds how long a call may take.
//
//	s := turret.Stack(
//		retry.Layer[string, int](retry.Config{}),
//		timeout.Layer[string, int](time.Second), // each attempt
//	)(inner)
//
// # What it does
//
// When the bound has passed, the layer cancels the context of the inner call
// and waits for it to return. It does not abandon the call: when the caller
// has its error, nothing of the call runs any more. An inner service that does
// not heed its context is therefore not cut short, and one that succeeds after
// all, a little late, has succeeded.
//
// A caller whose own deadline is no later keeps it. The layer then adds
// nothing, neither a timer nor a context, and errors stay the caller's.
//
// # Errors
//
// The error of a call that the bound ended is an [*Error]. It matches
// [ErrTimeout] and context.DeadlineExceeded, and keeps the error of the inner
// call in reach: a call that spent its time in the line of a limit still
// matches turret.ErrNotReady, and may be sent elsewhere. A caller that cancels
// gets what the inner call returned.
//
// # Order
//
// Outside a retry the layer bounds the whole call with all its attempts,
// inside it bounds each attempt:
//
//	timeout.Layer(3s) > retry > timeout.Layer(1s) > service
//
// Outside a limit the bound includes the time in the limit's line, inside it
// begins when the call is let through. Waiting for readiness is part of Call
// here, so unlike Tower's timeout, which starts its clock when the service is
// ready (tower issues 648 and 677), it bounds a rate limit's line as well.
// Ready is forwarded as it is, and bounded by the context of its caller.
package timeout
