package interceptors

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/turret-go/turret/internal/tried"
)

// A repetition is what the leaf of a client stack keeps of a unary RPC that may
// be tried more than once, one attempt after the other: so that every attempt
// starts with what the caller gave, and that the pushback of a server is seen.
// All clients whose RPCs may be repeated pay for its size.
type repetition struct {
	attempts int32 // begun so far
	forked   bool  // this is of a hedge that has not begun, see fork
	first    try   // in place: most RPCs have no other
	of       *tries
	own      tries // what of points to, unless this is of a hedge

	// For Hedge: the type of the reply, if it is a message, and the refusal of
	// the first attempt, to be told if another one takes its place.
	message protoreflect.MessageType
	refused *Event

	*variables
}

// A try is one attempt. It is not used again for the next one: an interceptor
// behind the stack that abandons calls may leave one running.
type try struct {
	trailer metadata.MD
	few     [2]grpc.CallOption // generated code has one, and trailer is another
}

// variables are those of the caller, and of layers outside, that attempts write
// to.
type variables struct {
	targets  []target  // where header, trailer and peer are wanted, with what was there before
	replyWas any       // a copy of what the reply pointed to; nil if that was empty
	diverted []*target // what a hedge writes to, and in place of what
}

// none is for RPCs without variables, as nearly all are.
var none = new(variables)

// tries is what all attempts of an RPC share, those that run side by side too.
type tries struct {
	begun  atomic.Int32  // so far
	record *tried.Record // the endpoints that they were sent to; nil if nobody asks
}

// carried returns ctx with t's record. It is called before attempts run side by
// side, and by each attempt, which then finds the record there.
func (t *tries) carried(ctx context.Context) context.Context {
	switch {
	case t.record == nil && !tried.Expected():
		return ctx
	case t.record == nil:
		ctx, t.record = tried.NewContext(ctx, tried.Unary)
		return ctx
	case tried.FromContext(ctx) == t.record:
		return ctx
	default:
		return t.record.In(ctx)
	}
}

// A target is a variable that a call option writes to, and a value for it.
type target struct {
	md        *metadata.MD
	mdValue   metadata.MD
	peer      *peer.Peer
	peerValue peer.Peer
}

// init makes r ready for its first attempt. added are the options of layers
// outside.
func (r *repetition) init(callers, added []grpc.CallOption, reply any, of *tries) {
	r.of = of
	targets, was := appendTargets(appendTargets(nil, callers), added), snapshot(reply)
	switch {
	case r.variables != nil:
		r.targets, r.replyWas = targets, was
	case targets == nil && was == nil:
		r.variables = none
	default:
		r.variables = &variables{targets: targets, replyWas: was}
	}
}

// begin begins an attempt, and returns its options and where its trailer will
// be.
func (r *repetition) begin(rpc *RPC, callers []grpc.CallOption, reply any) ([]grpc.CallOption, *metadata.MD) {
	if r.attempts > 0 {
		r.restore(reply) // for a layer that calls again without asking
	}
	return r.next(callers, rpc.added())
}

// next is begin for one who may want what an attempt before it left: an adopted
// interceptor that calls its invoker again.
func (r *repetition) next(callers, added []grpc.CallOption) (opts []grpc.CallOption, trailer *metadata.MD) {
	t := &r.first
	if r.attempts > 0 {
		t = new(try)
	}
	r.attempts++
	opts = append(append(t.few[:0], callers...), added...)
	opts = append(opts, grpc.Trailer(&t.trailer))
	return slices.Clip(opts), &t.trailer
}

// in returns ctx as the attempt that has begun is to see it.
func (r *repetition) in(ctx context.Context) context.Context {
	ctx = r.of.carried(ctx)
	if before := int(r.of.begun.Add(1)) - 1; before > 0 {
		return withPreviousAttempts(ctx, strconv.Itoa(before))
	}
	return ctx
}

// restore puts back what an attempt has left in the variables and in the reply.
func (r *repetition) restore(reply any) {
	setTargets(r.targets)
	restoreReply(reply, r.replyWas)
}

// snapshot returns a shallow copy of the message that reply points to, so that
// what an attempt leaves in it can be undone: not every codec resets what it
// unmarshals into. A message that is empty, as nearly all are, needs none, and
// neither does one of protobuf, whose codec resets it.
func snapshot(reply any) any {
	if _, ok := reply.(proto.Message); ok {
		return nil
	}
	v := reflect.ValueOf(reply)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().IsZero() {
		return nil
	}
	return v.Elem().Interface()
}

func restoreReply(reply, was any) {
	v := reflect.ValueOf(reply)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return
	}
	message, ok := reply.(proto.Message)
	switch {
	case ok:
		proto.Reset(message)
	case was == nil:
		v.Elem().SetZero()
	default:
		v.Elem().Set(reflect.ValueOf(was))
	}
}

// appendTargets appends the variables that opts write to, each with the value
// that it has now.
func appendTargets(targets []target, opts []grpc.CallOption) []target {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			targets = append(targets, target{md: o.HeaderAddr, mdValue: *o.HeaderAddr})
		case grpc.TrailerCallOption:
			targets = append(targets, target{md: o.TrailerAddr, mdValue: *o.TrailerAddr})
		case grpc.PeerCallOption:
			targets = append(targets, target{peer: o.PeerAddr, peerValue: *o.PeerAddr})
		}
	}
	return targets
}

// setTargets gives the variables their values.
func setTargets(targets []target) {
	for i := range targets {
		targets[i].set()
	}
}

func (t *target) set() {
	if t.peer != nil {
		*t.peer = t.peerValue
	} else {
		*t.md = t.mdValue
	}
}
