// Package turret is the core of Turret, Tower's model of services and layers
// in Go's terms.
//
// A [Service] answers requests. A [Layer] wraps a Service in another one: a
// timeout, a retry, a limit. A [Stack] of layers is itself a Layer, and the
// first one listed is outermost: it sees the request first and the result
// last.
//
//	Stack(a, b, c)(service)
//
//	request  ->  a  ->  b  ->  c  ->  service
//	result   <-  a  <-  b  <-  c  <-  service
//
// # Call blocks
//
// There is no separate reservation step. A service at capacity makes Call wait
// in line until there is room or ctx is done, so no layer can forget to
// forward backpressure. Ready is for code that chooses between services
// (a balancer, a load shedder, a health check): it returns whether there was room a
// moment ago, and takes nothing.
//
// # Gates
//
// Whatever refuses or queues calls without knowing what they ask (a
// concurrency limit, a rate limit, a circuit breaker) is a [Gate]. It is not
// generic, so the same limit may guard services of different types; [Gated]
// makes a Layer of it and gives back what was taken on every way out of a
// call.
//
// # Outcomes and refusals
//
// How a call went is said in one word, an [Outcome], by one function that
// limits, breakers, budgets and balancers share. A call that was turned away
// before it was sent anywhere fails with a [*Refusal], and
// errors.Is(err, ErrNotReady) is true of exactly those errors after which the
// request may safely be sent elsewhere.
//
// The packages below this one hold the mechanisms (timeout, retry, limit, shed
// and others), and package interceptors runs a stack on gRPC. This package
// imports the standard library only.
package turret
