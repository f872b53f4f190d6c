package interceptors

import (
	"context"
	"reflect"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret/internal/tried"
)

// A repetition is what the leaf of a client stack keeps of an RPC that may be
// tried more than once, one attempt after the other: so that every attempt
// starts with what the caller gave, and that the pushback of a server is seen.
type repetition struct {
	attempts int               // begun so far
	trailer  metadata.MD       // of the last attempt
	opts     []grpc.CallOption // of the last attempt
	targets  []target          // where the caller wants header, trailer and peer
	reply    reflect.Value     // the caller's reply as it was; unset if its codec resets it
	tried    *tried.Record     // the endpoints that attempts were sent to
}

// A target is a variable that a call option writes to, and its old value.
type target struct {
	md      *metadata.MD
	oldMD   metadata.MD
	peer    *peer.Peer
	oldPeer peer.Peer
}

// repetitions are used again: an RPC that is tried once, as nearly all are,
// then costs no allocation for having been able to be tried twice.
var repetitions = sync.Pool{New: func() any { return new(repetition) }}

func newRepetition(opts []grpc.CallOption, reply any) *repetition {
	r := repetitions.Get().(*repetition)
	r.targets = appendTargets(r.targets, opts)
	if _, ok := reply.(proto.Message); !ok {
		r.reply = snapshot(reply)
	}
	return r
}

// free makes r ready for another RPC. All attempts have returned.
func (r *repetition) free() {
	if r == nil {
		return
	}
	clear(r.opts)
	clear(r.targets)
	*r = repetition{opts: r.opts[:0], targets: r.targets[:0]}
	repetitions.Put(r)
}

// begin returns the context and the call options of the next attempt, after it
// has put back what the attempt before it left in the caller's variables.
func (r *repetition) begin(ctx context.Context, rpc *RPC, callers []grpc.CallOption, reply any) (context.Context, []grpc.CallOption) {
	if r.attempts > 0 {
		restoreTargets(r.targets)
		if r.reply.IsValid() {
			reflect.ValueOf(reply).Elem().Set(r.reply)
		}
		ctx = withPreviousAttempts(ctx, strconv.Itoa(r.attempts))
	}
	if r.tried == nil {
		ctx, r.tried = tried.NewContext(ctx, tried.Unary)
	} else {
		ctx = r.tried.In(ctx)
	}
	r.attempts++
	r.trailer = nil
	r.opts = append(r.opts[:0], callers...)
	if rpc.more != nil {
		r.opts = append(r.opts, rpc.more.options...)
	}
	r.opts = append(r.opts, grpc.Trailer(&r.trailer))
	return ctx, r.opts[:len(r.opts):len(r.opts)]
}

// failed hangs on err what the server said about coming back.
func (r *repetition) failed(err error) error { return withPushback(err, r.trailer) }

// snapshot returns a shallow copy of the message that reply points to.
func snapshot(reply any) reflect.Value {
	v := reflect.ValueOf(reply)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return reflect.Value{}
	}
	c := reflect.New(v.Type().Elem()).Elem()
	c.Set(v.Elem())
	return c
}

// appendTargets appends the variables that opts write to.
func appendTargets(targets []target, opts []grpc.CallOption) []target {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			targets = append(targets, target{md: o.HeaderAddr, oldMD: *o.HeaderAddr})
		case grpc.TrailerCallOption:
			targets = append(targets, target{md: o.TrailerAddr, oldMD: *o.TrailerAddr})
		case grpc.PeerCallOption:
			targets = append(targets, target{peer: o.PeerAddr, oldPeer: *o.PeerAddr})
		}
	}
	return targets
}

func restoreTargets(targets []target) {
	for _, t := range targets {
		if t.peer != nil {
			*t.peer = t.oldPeer
		} else {
			*t.md = t.oldMD
		}
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
		return opts, nil
	}
	return rest, onFinish
}
