package interceptors

import (
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/throttle"
)

// Throttle returns a [Layer] for clients that turns RPCs away before they are
// sent when the server refuses most of what it gets: an RPC that [Classify] calls
// Overload is one that the server refused. It is Admit(throttle.New(c)), and panics
// with the error of c.Validate if there is one.
//
// Put it outside [Retry]: an RPC that was turned away is not sent, and Retry would
// ask again. It refuses with RESOURCE_EXHAUSTED and reason THROTTLED.
func Throttle(c throttle.Config, o ...GateOption) Layer {
	misuse.Check("interceptors: Throttle", c.Validate())
	return Admit(throttle.New(c), o...)
}
