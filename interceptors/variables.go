package interceptors

import (
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// A variable is one of the caller's that a call option writes to (grpc.Header,
// grpc.Trailer, grpc.Peer), together with a value for it.
//
// gRPC writes to a variable when an attempt ends. Where an RPC has several
// attempts, the value is what the variable held before the first one; or the
// attempt's options write to the value, and store copies it to the caller once
// it is known that this attempt counts.
type variable struct {
	// Either md or peer is set: it is the caller's variable, and the field beside it is
	// the value.
	trailer   bool // md is of grpc.Trailer, not of grpc.Header
	md        *metadata.MD
	mdValue   metadata.MD
	peer      *peer.Peer
	peerValue peer.Peer
}

// variableOf returns the variable that o writes to, if o is such an option.
func variableOf(o grpc.CallOption) (v variable, ok bool) {
	switch o := o.(type) {
	case grpc.HeaderCallOption:
		return variable{md: o.HeaderAddr}, true
	case grpc.TrailerCallOption:
		return variable{md: o.TrailerAddr, trailer: true}, true
	case grpc.PeerCallOption:
		return variable{peer: o.PeerAddr}, true
	default:
		return variable{}, false
	}
}

// load makes the value what the variable holds.
func (v *variable) load() {
	if v.peer != nil {
		v.peerValue = *v.peer
	} else {
		v.mdValue = *v.md
	}
}

// store makes the variable hold the value.
func (v *variable) store() {
	if v.peer != nil {
		*v.peer = v.peerValue
	} else {
		*v.md = v.mdValue
	}
}

// into returns the option of v, writing to the value of own instead of to the
// variable.
func (v *variable) into(own *variable) grpc.CallOption {
	switch {
	case v.peer != nil:
		return grpc.Peer(&own.peerValue)
	case v.trailer:
		return grpc.Trailer(&own.mdValue)
	default:
		return grpc.Header(&own.mdValue)
	}
}

// find returns the one of vs that stands for the same variable as v, or nil.
func (v *variable) find(vs []variable) *variable {
	for i := range vs {
		if vs[i].md == v.md && vs[i].peer == v.peer {
			return &vs[i]
		}
	}
	return nil
}

// appendVariables appends the variables that opts write to, each once and with
// the value that it holds now.
func appendVariables(vs []variable, opts []grpc.CallOption) []variable {
	for _, o := range opts {
		if v, ok := variableOf(o); ok && v.find(vs) == nil {
			v.load()
			vs = append(vs, v)
		}
	}
	return vs
}

// storeAll makes the variables hold their values.
func storeAll(vs []variable) {
	for i := range vs {
		vs[i].store()
	}
}

// redirect makes opts write to the values of vs instead of to the variables.
// It changes opts in place. An option whose variable vs lacks, of a layer inside a
// Retry for example, keeps its variable.
func redirect(opts []grpc.CallOption, vs []variable) {
	for i, o := range opts {
		v, ok := variableOf(o)
		if !ok {
			continue
		}
		if own := v.find(vs); own != nil {
			opts[i] = v.into(own)
		}
	}
}

// divert returns a copy of opts that writes to new variables' values, and the
// new variables. Their values begin with those of before, as far as it has them:
// an attempt may be writing to the caller's variables now.
// The new variables are pointers: options hold the addresses of their values, which a
// growing slice would move away.
func divert(opts []grpc.CallOption, before []variable) (_ []grpc.CallOption, own []*variable) {
	opts = slices.Clone(opts)
	for i, o := range opts {
		v, ok := variableOf(o)
		if !ok {
			continue
		}
		mine := new(v)
		if was := v.find(before); was != nil {
			mine.mdValue, mine.peerValue = was.mdValue, was.peerValue
		}
		own = append(own, mine)
		opts[i] = v.into(mine)
	}
	return opts, own
}
