package breaker

import (
	"fmt"

	"github.com/turret-go/turret/internal/circuit"
)

// A State is the state of a breaker.
type State uint8

// The states.
const (
	Closed   = State(circuit.Closed)   // calls pass, and are counted
	Open     = State(circuit.Open)     // calls are refused until the open period is over
	HalfOpen = State(circuit.HalfOpen) // one call at a time passes, as a probe
)

// String returns the name of s.
func (s State) String() string {
	switch s {
	case Closed:
		return "Closed"
	case Open:
		return "Open"
	case HalfOpen:
		return "HalfOpen"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown state is State(9).
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
