// Package metrics exports what Turret counts, and how long RPCs take, through the
// OpenTelemetry API. It knows nothing of gRPC; interceptors.Metrics is the layer
// that records RPCs.
//
// # Counts
//
// [Meter.Watch] exports the figures that a stack, a gate or anything else that is
// a [turret.Describer] has. They are read when metrics are collected, so no call
// pays for them. These are the instruments:
//
//	turret.gate.in_flight, .waiting, .max     gauge, {call}
//	turret.gate.entered, .cancelled           counter, {call}
//	turret.gate.wait                          counter, s: time in line; by .entered it is the mean
//	turret.refusals                           counter, {call}; turret.reason
//	turret.breaker.state                      gauge, 1 for the state that it is in; turret.state
//	turret.breaker.transitions                counter; turret.to
//	turret.retries                            counter, {retry}; turret.reason: a code or a refusal
//	turret.retry.budget.left                  gauge, {retry}
//	turret.retry.budget.refused               counter, {retry}
//	turret.hedges                             counter, {hedge}; turret.reason: sent, won, lost, paused, over_budget
//	turret.timeouts                           counter, {call}
//	turret.panics                             counter, {panic}
//	turret.drain.phase                        gauge, 1 for the phase that it is in; turret.state
//	turret.faults                             counter, {call}; turret.reason: DELAYED or FAULT_INJECTED
//
// All have turret.stack, the name given to Watch, and turret.layer, the name of the
// layer (interceptors.Named) or else its kind. Those of gates have turret.gate.kind.
// Any other gauge or counter becomes turret.KIND.FIGURE, such as turret.filter.rejected,
// if it is there when Watch is called. What is inside a shadow of a policy, where
// nothing is enforced, becomes turret.shadow.FIGURE. Figures with equal attributes
// are added up. A gate or budget that stands in several places of what Watch was
// given is exported once, for the first of them. One that is shared by several
// Watches is exported by each, apart by turret.stack: sums over all stacks count it
// several times.
//
// The events of interceptors.Observe call a layer without a name by the word of its
// refusals ("limit", "shed"), and metrics by its kind ("concurrency_limit",
// "load_shed"). The name of interceptors.Named is the same in both.
//
// Endpoints, and what is inside them, are left out: they come and go, and there
// may be thousands. The balancing policy turret.P2C has instruments of its own.
//
// # Durations
//
// These are recorded as RPCs end:
//
//	rpc.client.call.duration        histogram, s
//	rpc.server.call.duration        histogram, s
//	turret.client.attempt.duration  histogram, s: inside a retry or a hedge
//	turret.rpc.active               up-down counter, {call}; rpc.method, turret.side
//
// The first two, and their attributes, are those of OpenTelemetry's semantic
// conventions: rpc.system.name, rpc.method ("package.Service/Method"),
// rpc.response.status_code, error.type, and on clients server.address and
// server.port, which name what was dialed and never a peer. The attempts have the
// same attributes. The default buckets are finer than those that the conventions
// suggest, which begin at 5 ms: see [Config].
//
// The number of series is bounded: methods beyond [Config].MaxMethods are _OTHER.
package metrics
