package circuit

// A State is the state of a circuit.
type State uint8

// The states.
const (
	Closed   State = iota // calls pass, and are counted
	Open                  // calls are refused until the open period is over
	HalfOpen              // one call at a time passes, as a probe
)

// A Verdict is what the end of a call meant to a [Circuit].
type Verdict uint8

// The verdicts.
const (
	// Unchanged: the state is what it was.
	Unchanged Verdict = iota
	// Due: there is reason to open. The owner calls Trip, or decides against it.
	Due
	// Reopened: a probe failed, and the circuit is open again.
	Reopened
	// Recovered: a probe succeeded, and the circuit is closed.
	Recovered
)
