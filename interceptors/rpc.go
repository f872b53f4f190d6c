package interceptors

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Kind is the kind of an RPC: which sides send a stream of messages.
type Kind uint8

// The kinds of RPC.
const (
	KindUnary        Kind = iota // one request, one reply
	KindClientStream             // many requests, one reply
	KindServerStream             // one request, many replies
	KindBidiStream               // many of both, independent of each other
)

// String returns the name of k in gRPC's words.
func (k Kind) String() string {
	switch k {
	case KindUnary:
		return "unary"
	case KindClientStream:
		return "client_stream"
	case KindServerStream:
		return "server_stream"
	case KindBidiStream:
		return "bidi_stream"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown kind is Kind(9).
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func kindOf(clientStreams, serverStreams bool) Kind {
	switch {
	case clientStreams && serverStreams:
		return KindBidiStream
	case clientStreams:
		return KindClientStream
	case serverStreams:
		return KindServerStream
	default:
		return KindUnary
	}
}

// Side says on which end of the connection a stack runs.
type Side uint8

// The sides.
const (
	SideClient Side = iota
	SideServer
)

// String returns "client" or "server".
func (s Side) String() string {
	switch s {
	case SideClient:
		return "client"
	case SideServer:
		return "server"
	default:
		return fmt.Sprintf("Side(%d)", uint8(s))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown side is Side(9).
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

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

// A leaf is the end of a stack: it runs the RPC itself. There is one
// implementation for each kind of interceptor.
type leaf interface {
	call(ctx context.Context, rpc *RPC) (any, error)
	// newReply returns an empty reply message; nil where there is none.
	newReply() any
	// repeat prepares the leaf to be called more than once. limit bounds the
	// bytes that a stream keeps for its replay.
	repeat(rpc *RPC, limit int)
	// restore puts the variables of the caller back to what they were before
	// the attempt that is over, because another will follow it.
	restore()
	// committed reports whether something of the RPC has reached the caller, so
	// that another attempt is out of the question.
	committed() bool
}

// extra is copied, never changed in place, when one of its fields is set.
type extra struct {
	options  []grpc.CallOption // behind the caller's own
	wrap     *wrapping         // around the messages of a stream
	observer *observer         // who is told of events, the innermost first
	traced   *traced           // the innermost recorded span of a Trace
	attempt  bool              // of several, made outside an adopted interceptor
	streamer grpc.Streamer     // opens the stream of a client in place of the connection's
}

// with returns a copy of r whose extra was changed by set.
func (r *RPC) with(set func(*extra)) *RPC {
	c := &struct {
		RPC
		extra extra
	}{RPC: *r}
	if r.more != nil {
		c.extra = *r.more
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

// A MessageStream is the two directions of a stream, seen from the side that
// the stack runs on. As in gRPC, one goroutine may send while another receives.
type MessageStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
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

// wrapping is a list of wrappings, the innermost layer's first.
type wrapping struct {
	f     func(MessageStream) MessageStream
	outer *wrapping
}

// outward wraps s with all of w up to, and without, the wrapping end, so that
// the outermost is the outside of the result.
func (w *wrapping) outward(s MessageStream, end *wrapping) MessageStream {
	for ; w != end; w = w.outer {
		s = w.f(s)
	}
	return s
}

// inward wraps s with all of w, so that the innermost is the outside of the
// result.
func (w *wrapping) inward(s MessageStream) MessageStream {
	if w == nil {
		return s
	}
	return w.f(w.outer.inward(s))
}

// NewReply returns a new empty reply message for a unary RPC, of the type that
// the caller asked for. It is nil on the server, where only the handler knows
// the type, and for streams.
func (r *RPC) NewReply() any {
	if r.leaf == nil { // a copy of FromContext
		return nil
	}
	return r.leaf.newReply()
}

// Committed reports whether something of the RPC has already reached the
// caller, so that the RPC cannot be tried again: a message or a header of a
// stream. It is always false for a unary RPC inside its stack, and always true
// on the server and for a copy from [FromContext].
func (r *RPC) Committed() bool { return r.leaf == nil || r.leaf.committed() }

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

func (r *RPC) wrapping() *wrapping {
	if r.more == nil {
		return nil
	}
	return r.more.wrap
}

type rpcKey struct{}

// InContext returns a [Layer] that puts the RPC into the context, for
// [FromContext] in handlers, loggers and whatever else runs inside it. It
// costs one allocation an RPC.
func InContext() Layer {
	return func(inner Service) Service { return &inContextService{inner} }
}

type inContextService struct{ Service }

func (s *inContextService) Call(ctx context.Context, rpc *RPC) (any, error) {
	return s.Service.Call(context.WithValue(ctx, rpcKey{}, rpc), rpc)
}

func (s *inContextService) String() string { return "in context" }

// FromContext returns a copy of the RPC that ctx belongs to, if an [InContext]
// layer put it there. Changes to the copy have no effect, and the copy cannot
// be passed to a service.
func FromContext(ctx context.Context) (RPC, bool) {
	rpc, ok := ctx.Value(rpcKey{}).(*RPC)
	if !ok {
		return RPC{}, false
	}
	c := *rpc
	c.leaf, c.more = nil, nil
	return c, true
}

// sameMessage reports whether a and b are the same message: by identity, or as
// values that nobody can put anything into. It does not use ==, which panics on
// types that cannot be compared, but for pointers, which nearly all are.
func sameMessage(a, b any) bool {
	if samePointer(a, b) {
		return true
	}
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if !va.IsValid() || !vb.IsValid() {
		return va.IsValid() == vb.IsValid()
	}
	if va.Type() != vb.Type() {
		return false
	}
	switch va.Kind() {
	case reflect.Pointer:
		return false
	case reflect.Map, reflect.Chan, reflect.Func:
		return va.UnsafePointer() == vb.UnsafePointer()
	case reflect.Slice:
		return va.UnsafePointer() == vb.UnsafePointer() && va.Len() == vb.Len()
	default:
		return true
	}
}

// samePointer reports whether a and b are the same pointer.
func samePointer(a, b any) bool {
	t := reflect.TypeOf(a)
	return t != nil && t.Kind() == reflect.Pointer && a == b
}

// setMessage makes dst equal to src, and reports whether it could: they are
// messages of the same type. Fields of dst that src does not have are cleared.
func setMessage(dst, src any) bool {
	vd, vs := reflect.ValueOf(dst), reflect.ValueOf(src)
	if !vd.IsValid() || !vs.IsValid() || vd.Type() != vs.Type() || vd.Kind() != reflect.Pointer || vd.IsNil() || vs.IsNil() {
		return false
	}
	d, ok := dst.(proto.Message)
	if !ok {
		vd.Elem().Set(vs.Elem())
		return true
	}
	s := src.(proto.Message)
	if d.ProtoReflect().Descriptor() != s.ProtoReflect().Descriptor() {
		return false // of dynamicpb, where one Go type stands for all messages
	}
	proto.Reset(d)
	proto.Merge(d, s)
	return true
}

// typeName returns the type of m for people: with "nil" if m is a nil pointer.
func typeName(m any) string {
	if v := reflect.ValueOf(m); v.Kind() == reflect.Pointer && v.IsNil() {
		return "nil " + v.Type().String()
	}
	return fmt.Sprintf("%T", m)
}

// newMessage returns an empty message of the type of m; nil if that is not of a
// kind that can be decoded into.
func newMessage(m any) any { return newOf(messageType(m)) }

// messageType returns the type of m, for newOf: for those who do not want to
// keep m, which may change.
func messageType(m any) any {
	if p, ok := m.(proto.Message); ok {
		return p.ProtoReflect().Type()
	}
	return reflect.TypeOf(m)
}

// newOf returns an empty message of a type.
func newOf(messageType any) any {
	switch t := messageType.(type) {
	case protoreflect.MessageType:
		return t.New().Interface()
	case reflect.Type:
		if t.Kind() == reflect.Pointer {
			return reflect.New(t.Elem()).Interface()
		}
	}
	return nil
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
