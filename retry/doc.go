// Package retry sends a request again when its call failed.
//
//	s := turret.Stack(
//		retry.Layer[string, int](retry.Config{Retryable: isTransient}),
//		timeout.Layer[string, int](time.Second), // each attempt
//	)(inner)
//
// [Config] is ready to use: three attempts, jittered exponential delays, a
// budget. A [Policy] decides everything itself, and may change the request,
// retry a success and choose the result; [LayerOf] runs it.
//
// # What may be retried
//
// An attempt whose error matches turret.ErrNotReady was not sent, so sending it
// is no repetition: it is retried whatever Config.Retryable says. Anything else
// may have been carried out, although its answer was lost. Retry it only if
// carrying it out twice does no harm: a read, or a write that names its effect
// (set x to 5, create the order with this id), not one that adds to it. The
// default retries every error, because this package does not know your errors.
// Say which of them are transient. Once the caller's context has ended there is
// no retry.
//
// A call with an attempt that was sent does not match turret.ErrNotReady any
// more, even if its last attempt was refused: a layer further out must not take
// it for unsent.
//
// # Why a budget, and not only a number of attempts
//
// Three attempts for each call are three times the load at the moment when the
// other side fails because of its load, and if three services in a row do so,
// 27 times. It stays down for the retries alone. A [Budget] bounds the retries
// of all calls together: by default a fifth of the calls and one a second. It
// changes nothing while failures are few, and when everything fails the load
// grows by a fifth and not by 200 %. Retry at one place of a chain of services,
// as near to the failure as can be, and share one budget among the layers that
// send to the same place.
//
// # How long a call may take
//
// A delay that would outlive the caller's deadline, or is longer than
// Config.MaxDelay, is not slept: the error of the last attempt is returned at
// once. If the context ends during a delay, the error is an
// [*InterruptedError], which keeps the last attempt's error in reach.
//
// # Order
//
// A timeout inside a retry bounds each attempt, and those that ran out of time
// are retried; one outside bounds the call with all its attempts and delays. A
// concurrency limit inside has each attempt wait in line; in one outside the
// call keeps its place between its attempts. A layer that records or traces
// sees attempts inside and calls outside.
//
// # Differences from Tower
//
// Tower's Retry has no ready policy, and its parts have faults that are fixed
// here, so the figures differ:
//
//   - Tower's TpsBudget truncates its ratio (0.34 acts as 0.5, and 0.6 as 1:
//     tower issue 857), and its window restarts wherever a call happens to
//     fall. [Budget] keeps its promise exactly, on a grid that does not move;
//     its reserve is one retry a second by default instead of ten.
//   - Tower's jitter is added to the delay, is cut to whole seconds where the
//     delay has any, and vanishes at the longest delay. [Backoff] takes its
//     jitter from the whole range of the delay.
//   - Tower returns an error of readiness without asking the policy. Here a
//     call waits for readiness in Call, so the policy sees that error like any
//     other.
//   - Tower sleeps beyond the caller's deadline.
//   - A result is kept during the delay, so that it is there if the context
//     ends.
package retry
