package drain

import (
	"fmt"
	"strings"
)

// A Phase is how far a [Drainer] has come. It only grows.
type Phase int32

// The phases of a server, in their order.
const (
	Serving  Phase = iota // Drain has not been called
	LameDuck              // health is NOT_SERVING, everything is served
	Stopping              // handlers and clients have been notified
	Cutting               // streams are cancelled, new RPCs are refused
	Stopped               // Drain returns
)

// String returns the name of p.
func (p Phase) String() string {
	switch p {
	case Serving:
		return "Serving"
	case LameDuck:
		return "LameDuck"
	case Stopping:
		return "Stopping"
	case Cutting:
		return "Cutting"
	case Stopped:
		return "Stopped"
	default:
		return fmt.Sprintf("Phase(%d)", int32(p))
	}
}

// word returns the name of p as figures have it: "lame_duck".
func (p Phase) word() string {
	if p == LameDuck {
		return "lame_duck"
	}
	return strings.ToLower(p.String())
}

// MarshalText returns what String does. It never fails.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
