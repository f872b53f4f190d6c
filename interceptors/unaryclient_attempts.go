package interceptors

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/attempts"
)

// A repetition is what a unaryClient keeps of an RPC that may have several
// attempts: so that each attempt starts with what the caller gave, and that the
// pushback of a server is seen. Every RPC inside a Retry or Hedge pays for its
// size.
type repetition struct {
	attempts int32 // begun so far
	forked   bool  // this is of a hedge that has not begun, see unaryClient.fork
	first    try   // in place: most RPCs have no other
	of       *tries
	own      tries // what of points to, unless this is of a hedge

	// For Hedge: the type of the reply, if that is a message of protobuf, and
	// the refusal of the first attempt, an event of its own only if another
	// attempt takes its place.
	message protoreflect.MessageType
	refused *Event

	*destinations
}

// A try is one attempt. The next one does not use it again: an interceptor
// behind the stack that abandons calls may leave one running.
type try struct {
	trailer metadata.MD
	few     [2]grpc.CallOption // generated code has one, and trailer is another
}

// destinations is what attempts of an RPC write to: variables and reply of the
// caller, and variables of layers outside.
type destinations struct {
	variables []variable  // with what they held before the RPC
	replyWas  any         // a copy of what the reply pointed to; nil if that was empty
	diverted  []*variable // of a hedge: what it writes to, and in place of what
}

// none is for RPCs that write to no variable and an empty reply, as nearly all do.
var none = new(destinations)

// tries is what all attempts of an RPC share, those side by side too.
type tries struct {
	begun  atomic.Int32     // so far
	record *attempts.Record // the endpoints that they were sent to; nil if no balancer asks
}

// carried returns ctx with t's record. It is called before attempts run side by
// side, and by each attempt, which then finds the record there.
// The writes to t.record need no lock: the first call comes before attempts run side
// by side. Without a balancer of this module in the program no record is made.
func (t *tries) carried(ctx context.Context) context.Context {
	switch {
	case t.record == nil && !attempts.Expected():
		return ctx
	case t.record == nil:
		ctx, t.record = attempts.NewContext(ctx, attempts.Unary)
		return ctx
	case attempts.FromContext(ctx) == t.record:
		return ctx
	default:
		return t.record.In(ctx)
	}
}

// init makes r ready for its first attempt. added are the options of layers
// outside.
// The variables are read now, before gRPC can write to them.
func (r *repetition) init(callers, added []grpc.CallOption, reply any, of *tries) {
	r.of = of
	variables, was := appendVariables(appendVariables(nil, callers), added), snapshot(reply)
	switch {
	case r.destinations != nil:
		r.variables, r.replyWas = variables, was
	case variables == nil && was == nil:
		// Nothing to put back: all such RPCs share one empty value.
		r.destinations = none
	default:
		r.destinations = &destinations{variables: variables, replyWas: was}
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

// next is begin for an adopted interceptor that calls its invoker again: it may
// want what the attempt before has left, so that nothing is restored.
// The slice is clipped, so that an interceptor that appends to it does not write
// into what a later attempt uses.
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
// begun counts the attempts of all copies, so that each attempt of a hedge has a
// number of its own in the header.
func (r *repetition) in(ctx context.Context) context.Context {
	ctx = r.of.carried(ctx)
	if before := int(r.of.begun.Add(1)) - 1; before > 0 {
		return withPreviousAttempts(ctx, strconv.Itoa(before))
	}
	return ctx
}

// restore puts back what an attempt has left in the variables and in the reply.
// It requires that no attempt runs: gRPC writes to both until the attempt is over.
func (r *repetition) restore(reply any) {
	storeAll(r.variables)
	restoreReply(reply, r.replyWas)
}

// divert returns opts with variables of r's own, of a hedge, in the place of
// those that they write to, which begin with the values of before.
func (r *repetition) divert(opts []grpc.CallOption, before []variable) []grpc.CallOption {
	opts, own := divert(opts, before)
	r.diverted = append(r.diverted, own...)
	return opts
}

// publish stores what the attempts of a hedge have left in variables of its own
// in those that they stand for. No attempt may be running. (The reply is the
// attempt's result, and on its way to the caller.)
func (r *repetition) publish() {
	for _, v := range r.diverted {
		v.store()
	}
}

// previousAttempts is the request header in which a client says how many
// attempts of the same RPC came before this one (gRFC A6).
const previousAttempts = "grpc-previous-rpc-attempts"

// withPreviousAttempts sets the header previousAttempts to n.
func withPreviousAttempts(ctx context.Context, n string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md.Set(previousAttempts, n)
	return metadata.NewOutgoingContext(ctx, md)
}

// ended takes note of an attempt that failed. If it was refused, and the RPC does
// not end with that, it is reported here; for the first attempt that is known when all
// have ended.
func (r *repetition) ended(ctx context.Context, rpc *RPC, err error, first bool) {
	e, refused := refusedEvent(err)
	switch {
	case !refused:
	case first:
		r.refused = &e
	case errors.Is(err, turret.ErrNotReady):
		rpc.tell(ctx, &e)
	}
}
