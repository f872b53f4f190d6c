package interceptors

import (
	"context"
	"reflect"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret/internal/tried"
)

// A repetition is what the leaf of a client stack keeps of a unary RPC that may
// be tried more than once, one attempt after the other: so that every attempt
// starts with what the caller gave, and that the pushback of a server is seen.
type repetition struct {
	attempts int      // begun so far
	first    try      // in place: most RPCs have no other
	targets  []target // where the caller wants header, trailer and peer
	reply    any      // the caller's
	replyWas any      // a copy of what it pointed to; nil if that was empty
	of       *tries   // those of the RPC: own, or for a hedge those of what it hedges
	own      tries

	// What Hedge needs, see there and fork.
	forked   bool      // this is of a hedge that has not begun
	diverted []*target // what a hedge writes to, and in place of what
	refused  error     // the refusal of the first attempt
}

// tries is what all attempts of an RPC share, those that run side by side too.
type tries struct {
	begun  atomic.Int32 // so far
	record tried.Record // the endpoints that they were sent to
	placed bool         // record is in a context
}

// carried returns ctx with t's record. It is called before attempts run side by
// side, and by each attempt, which then finds the record there.
func (t *tries) carried(ctx context.Context) context.Context {
	switch {
	case !t.placed:
		t.placed = true
		return t.record.Init(ctx, tried.Unary)
	case tried.FromContext(ctx) == &t.record:
		return ctx
	default:
		return t.record.In(ctx)
	}
}

// A try is one attempt. It is not used again for the next one: an interceptor
// behind the stack that abandons calls may leave one running.
type try struct {
	opts    []grpc.CallOption
	trailer metadata.MD
	few     [4]grpc.CallOption // for opts
}

// A target is a variable that a call option writes to, and a value for it.
type target struct {
	md        *metadata.MD
	mdValue   metadata.MD
	peer      *peer.Peer
	peerValue peer.Peer
}

func (r *repetition) init(opts []grpc.CallOption, reply any, of *tries) {
	r.of = of
	r.targets = appendTargets(nil, opts)
	r.reply, r.replyWas = reply, snapshot(reply)
}

// begin returns the next attempt, with its call options.
func (r *repetition) begin(rpc *RPC, callers []grpc.CallOption) *try {
	if r.attempts > 0 {
		r.restore() // for a layer that calls again without asking
	}
	var added []grpc.CallOption
	if rpc.more != nil {
		added = rpc.more.options
	}
	return r.next(callers, added)
}

// next is begin for one who may want what an attempt before it left: an adopted
// interceptor that calls its invoker again.
func (r *repetition) next(callers, added []grpc.CallOption) *try {
	t := &r.first
	if r.attempts > 0 {
		t = new(try)
	}
	r.attempts++
	t.opts = append(append(t.few[:0], callers...), added...)
	t.opts = append(t.opts, grpc.Trailer(&t.trailer))
	t.opts = t.opts[:len(t.opts):len(t.opts)]
	return t
}

// in returns ctx as the attempt that has begun is to see it.
func (r *repetition) in(ctx context.Context) context.Context {
	ctx = r.of.carried(ctx)
	if before := int(r.of.begun.Add(1)) - 1; before > 0 {
		return withPreviousAttempts(ctx, strconv.Itoa(before))
	}
	return ctx
}

// restore puts back what an attempt has left in the caller's variables and in
// the reply.
func (r *repetition) restore() {
	setTargets(r.targets)
	restoreReply(r.reply, r.replyWas)
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

// takeOnFinish returns opts without its OnFinish options, and these. gRPC would
// call them once for each attempt, with its status, and not at all for an RPC
// that was refused; a stack calls them once, with what the caller gets.
func takeOnFinish(opts []grpc.CallOption) (rest []grpc.CallOption, onFinish []func(error)) {
	for i, o := range opts {
		f, ok := o.(grpc.OnFinishCallOption)
		switch {
		case ok && onFinish == nil:
			rest = append(make([]grpc.CallOption, 0, len(opts)), opts[:i]...)
			onFinish = append(onFinish, f.OnFinish)
		case ok:
			onFinish = append(onFinish, f.OnFinish)
		case onFinish != nil:
			rest = append(rest, o)
		}
	}
	if onFinish == nil {
		return opts[:len(opts):len(opts)], nil // who appends must copy
	}
	return rest, onFinish
}
