package interceptors

import "github.com/turret-go/turret/shed"

// LoadShed returns a [Layer] that refuses an RPC while something inside it is
// not ready, instead of letting it wait in line there. It refuses with
// RESOURCE_EXHAUSTED and reason OVERLOADED. Put it outside the limits that it
// is to watch, and inside [For], not around it: a For is as ready as what
// follows it.
//
// It asks first and calls then. Another RPC may take the room in between, and
// then this one waits its turn; where no RPC may wait, give the limit no line.
func LoadShed() Layer { return shed.Layer[*RPC, any]() }
