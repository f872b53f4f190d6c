package interceptors

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// An RPC is what a layer sees of a remote procedure call of any kind, on either
// side. One Call of a [Service] is one RPC, from its opening to its end.
//
// An RPC is read-only to layers, may be read concurrently, and is valid until
// Call returns: copy what is to be kept. A layer that wants something changed
// passes a changed copy to its inner service: [RPC.WithRequest],
// [RPC.WithOptions], [RPC.WrapStream].
type RPC struct {
	Method  string // full method: "/package.Service/Method"
	Kind    Kind   // unary, or which sides stream
	Side    Side   // on which side the stack runs
	Attempt int    // 0 for the first attempt; Retry and Hedge count on
	Request any    // the request message of a unary RPC; nil for streams

	leaf leaf   // the handler, invoker or stream at the end of the stack
	more *extra // what few RPCs have; nil for most
}

// LogValue returns what there is to log of r, for slog: method, kind, side and
// attempt. The request is left out: what is in it is not for every log.
func (r RPC) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("method", r.Method),
		slog.String("kind", r.Kind.String()),
		slog.String("side", r.Side.String()),
		slog.Int("attempt", r.Attempt),
	)
}

// extra is copied, never changed in place, when one of its fields is set.
// An RPC without any of it costs one pointer.
type extra struct {
	options  []grpc.CallOption // behind the caller's own
	wrap     *wrapping         // around the messages of a stream
	observer *observer         // the observers of events, the innermost first
	traced   *traced           // the innermost recorded span of a Trace
	attempt  bool              // of several, made outside an adopted interceptor
	shared   bool              // by many RPCs: made by a derivation
	streamer grpc.Streamer     // opens the stream of a client in place of the connection's
	trailer  *metadata.MD      // where a layer wants the trailer of a stream of a client
}

// with returns a copy of r whose extra was changed by set.
// The copy and its extra are one allocation. What the fields point to is shared with
// the original: set must not change it in place.
func (r *RPC) with(set func(*extra)) *RPC {
	c := &struct {
		RPC
		extra extra
	}{RPC: *r}
	if r.more != nil {
		c.extra = *r.more
		c.extra.shared = false
	}
	set(&c.extra)
	c.more = &c.extra
	return &c.RPC
}

// WithRequest returns a copy of r that carries request as its request message.
// It matters on unary RPCs only: messages of a stream pass through
// [RPC.WrapStream].
func (r *RPC) WithRequest(request any) *RPC {
	c := *r
	c.Request = request
	return &c
}

// WithOptions returns a copy of r with more call options, which are put behind
// those that r has. On the server they do nothing.
func (r *RPC) WithOptions(options ...grpc.CallOption) *RPC {
	return r.with(func(x *extra) {
		x.options = append(slices.Clip(x.options), options...)
	})
}

// WrapStream returns a copy of r whose stream of messages is wrapped by f. f is
// called when the stream opens. Of several wrappings, the one of the outermost
// layer is nearest to the caller on the client, and nearest to the network on
// the server. On unary RPCs it does nothing.
//
// A wrapping made outside [Retry] sees each message of the caller once. One
// made inside it sees those of an attempt: messages that are sent again are new
// ones, decoded from what was sent. One that sends another message in place of
// the one it is given does so in each attempt. (If a codec cannot decode what it
// has encoded, the message is of a type that only that codec knows.)
func (r *RPC) WrapStream(f func(MessageStream) MessageStream) *RPC {
	return r.with(func(x *extra) { x.wrap = &wrapping{f, x.wrap} })
}

// NewReply returns a new empty reply message for a unary RPC, of the type that
// the caller asked for. It is nil on the server, where only the handler knows
// the type, and for streams.
func (r *RPC) NewReply() any {
	return r.end().newReply()
}

// Committed reports whether something of the RPC has already reached the
// caller, so that the RPC cannot be tried again: a message or a header of a
// stream. It is always false for a unary RPC inside its stack, and always true
// on the server and for a copy from [FromContext].
func (r *RPC) Committed() bool { return r.end().isCommitted() }

// CallOptions returns the options that the caller of a client gave the RPC, but
// those of [grpc.OnFinish], which a stack calls itself. Options that layers add
// with [RPC.WithOptions] are not among them. It is nil on the server. The slice
// is the caller's and must not be changed.
//
// A layer may have options of its own: types that embed [grpc.EmptyCallOption],
// which gRPC ignores.
func (r *RPC) CallOptions() []grpc.CallOption { return r.end().callOptions() }

// options returns the call options of r: a new slice of the caller's, those of
// layers, and room for extra more.
func (r *RPC) options(callers []grpc.CallOption, room int) []grpc.CallOption {
	added := r.added()
	opts := make([]grpc.CallOption, 0, len(callers)+len(added)+room)
	opts = append(opts, callers...)
	return append(opts, added...)
}

// added returns the call options of layers.
func (r *RPC) added() []grpc.CallOption {
	if r.more == nil {
		return nil
	}
	return r.more.options
}

// wrapping returns the wrappings that layers have put around the stream's messages; nil
// if there are none.
func (r *RPC) wrapping() *wrapping {
	if r.more == nil {
		return nil
	}
	return r.more.wrap
}

// inside returns r as it is inside an adopted interceptor, with another leaf,
// to which what the layers outside added has been given already.
func (r *RPC) inside(l leaf) RPC {
	c := *r
	c.leaf, c.more = l, nil
	attempt := r.isAttempt()
	if r.more != nil && r.more.observer != nil {
		c.more = &extra{observer: r.more.observer, traced: r.more.traced, attempt: attempt}
	} else if attempt {
		c.more = &extra{attempt: true}
	}
	return c
}

// isAttempt reports whether r is one of possibly several attempts of an RPC.
func (r *RPC) isAttempt() bool {
	return r.Attempt > 0 || r.more != nil && r.more.attempt || r.end().repeated()
}

// traced returns the innermost recorded span that r is inside of, or nil.
func (r *RPC) traced() *traced {
	if r.more == nil {
		return nil
	}
	return r.more.traced
}

// end returns the leaf of r.
func (r *RPC) end() leaf {
	if r.leaf == nil {
		return noLeaf{}
	}
	return r.leaf
}

// tell tells e, which must not be used afterwards, to the observers of r.
// The names of Named layers stand in the same list as the observers, in the order of
// the layers: each name changes what the observers outside of it see.
func (r *RPC) tell(ctx context.Context, e *Event) {
	if r.more == nil {
		return
	}
	e.RPC = r
	for o := r.more.observer; o != nil; o = o.outer {
		if o.named != nil {
			o.named.tells(e)
		} else {
			o.tell(ctx, e)
		}
	}
}

// splitMethod returns the service and the name of a full method as gRPC's router
// reads them: with or without a slash in front, and split at the last slash. Another
// reading would let an RPC past a guard of the service that handles it. Without a
// slash between the two it is no method, and ok is false.
func splitMethod(full string) (service, name string, ok bool) {
	full = strings.TrimPrefix(full, "/")
	i := strings.LastIndexByte(full, '/')
	if i < 0 {
		return full, "", false
	}
	return full[:i], full[i+1:], true
}
