package interceptors

import (
	"context"
	"reflect"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret/internal/onfinish"
)

// invokeUnary sends an RPC through the layers of e, to invoker.
// It is the body of a stack's unary client interceptor, and of the invoker that an
// adopted interceptor gets. The RPC and its leaf are one allocation. It is not taken
// from a pool: a layer may keep the RPC, and must find it unchanged.
func invokeUnary(ctx context.Context, e *entry, rpc RPC, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	c := newUnaryClient(e)
	c.RPC = rpc
	c.leaf, c.reply, c.conn, c.invoker = c, reply, cc, invoker
	var onFinish []func(error)
	if c.opts, onFinish = onfinish.Take(opts); onFinish != nil {
		return c.runAndReport(ctx, onFinish)
	}
	return c.run(ctx)
}

// newUnaryClient returns an empty unaryClient. Where RPCs are prepared for more than
// one attempt it has the space for that in the same allocation.
// Whether that is so is learned from the RPCs before it: see entry.repeats. The
// first one that needs the space allocates it by itself.
func newUnaryClient(e *entry) *unaryClient {
	if !e.repeats.Load() {
		return &unaryClient{entry: e}
	}
	c := &struct {
		client unaryClient
		space  repetition
	}{}
	c.client.entry, c.client.space = e, &c.space
	return &c.client
}

// unaryClient is a unary RPC of a client, and the leaf of its stack.
type unaryClient struct {
	// RPC is what the layers see; its leaf is the unaryClient itself.
	RPC

	entry      *entry
	reply      any // the caller's
	conn       *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption // the caller's, without OnFinish
	repetition *repetition       // nil unless a layer asked for it
	space      *repetition       // to be used as the repetition
}

// run runs the layers, and puts the reply where the caller wants it.
// The error becomes a status here, at the edge, and nowhere before: layers and the
// caller's errors.Is see causes.
func (c *unaryClient) run(ctx context.Context) error {
	got, err := c.entry.Call(ctx, &c.RPC)
	if err == nil {
		err = c.deliver(got)
	}
	return edge(err)
}

// runAndReport is run with the caller's OnFinish options. They are called also if
// the stack panics or exits: gRPC would have called them when the RPC was over.
func (c *unaryClient) runAndReport(ctx context.Context, onFinish []func(error)) (err error) {
	err = errPanic // unless run returns
	defer func() {
		onfinish.Tell(onFinish, err)
	}()
	err = c.run(ctx)
	return err
}

// deliver puts the reply that the stack returned where the caller wants it.
// Layers nearly always return the caller's own reply message, which gRPC has filled.
// A layer that answers by itself (a cache) returns another one, whose contents are
// copied.
func (c *unaryClient) deliver(got any) error {
	if sameMessage(got, c.reply) || setMessage(c.reply, got) {
		return nil
	}
	return status.Errorf(codes.Internal, "turret: %s: a layer returned a reply of type %s, want %s", c.Method, typeName(got), typeName(c.reply))
}

// call sends the RPC by gRPC's invoker, which is behind the innermost layer. It is
// called once, unless repeat or hedge has prepared c for several attempts.
func (c *unaryClient) call(ctx context.Context, rpc *RPC) (any, error) {
	if c.repetition != nil {
		return c.attempt(ctx, rpc)
	}
	// Without options of layers the caller's slice is passed on as it is: gRPC reads
	// it only.
	opts := c.opts
	if len(rpc.added()) > 0 {
		opts = rpc.options(opts, 0)
	}
	if err := c.invoker(ctx, rpc.Method, rpc.Request, c.reply, c.conn, opts...); err != nil {
		return nil, err
	}
	return c.reply, nil
}

// attempt is call for an RPC that may be called again.
// The trailer of each attempt is asked for, because a server says there when to
// come back.
func (c *unaryClient) attempt(ctx context.Context, rpc *RPC) (any, error) {
	opts, trailer := c.repetition.begin(rpc, c.opts, c.reply)
	ctx = c.repetition.in(ctx)
	if err := c.invoker(ctx, rpc.Method, rpc.Request, c.reply, c.conn, opts...); err != nil {
		return nil, withPushback(err, *trailer)
	}
	return c.reply, nil
}

func (c *unaryClient) newReply() any { return newMessage(c.reply) }

func (c *unaryClient) callOptions() []grpc.CallOption { return c.opts }

func (c *unaryClient) target() string { return targetOf(c.conn) }

// targetOf returns what cc dialed; empty for the nil of a test's fake.
func targetOf(cc *grpc.ClientConn) string {
	if cc == nil {
		return ""
	}
	return cc.Target()
}

// repeat prepares c for attempts one after the other. limit is for streams: a unary
// request is kept by the caller anyway. A second Retry inside the first one finds c
// prepared, and changes nothing.
func (c *unaryClient) repeat(rpc *RPC, _ int) {
	switch {
	case c.repetition != nil:
		return
	case c.space != nil:
		c.repetition = c.space
	default:
		// The next RPCs of the same stack will need it too.
		c.entry.repeats.Store(true)
		c.repetition = new(repetition)
	}
	c.repetition.init(c.opts, rpc.added(), c.reply, &c.repetition.own)
}

func (c *unaryClient) repeated() bool { return c.repetition != nil }

// restore is called between two attempts, when none runs.
func (c *unaryClient) restore() {
	if c.repetition != nil {
		c.repetition.restore(c.reply)
	}
}

// isCommitted is false throughout: the reply reaches the caller when the stack has
// returned, after the last attempt.
func (c *unaryClient) isCommitted() bool { return false }

// hedge notes the type of the reply, for emptyReply. A message of protobuf keeps
// its type in itself, and so it cannot be asked while an attempt writes to it.
func (c *unaryClient) hedge(rpc *RPC) *repetition {
	c.repeat(rpc, 0)
	m, ok := c.reply.(proto.Message)
	if ok && c.repetition.message == nil && m.ProtoReflect().IsValid() {
		c.repetition.message = m.ProtoReflect().Type()
	}
	return c.repetition
}

// fork gives the attempt a leaf of its own, and so a reply and variables of its
// own.
// It returns false where no second reply can be made. Invariant: an attempt writes
// only to its own reply and variables, so that the loser of a hedge, which may still
// be writing when the winner returns, cannot be seen by the caller.
func (c *unaryClient) fork(rpc *RPC, attempt int) (*RPC, bool) {
	reply := c.emptyReply()
	if reply == nil {
		return nil, false
	}
	if was := c.repetition.replyWas; was != nil {
		restoreReply(reply, was)
	}
	f := &struct {
		client unaryClient
		space  repetition
	}{client: unaryClient{RPC: *rpc, entry: c.entry, reply: reply, conn: c.conn, invoker: c.invoker}}
	fork, r := &f.client, &f.space
	fork.leaf, fork.repetition = fork, r
	// Never none, which is shared: the variables of this attempt are its own.
	r.destinations = new(destinations)
	fork.Attempt += attempt
	before := c.repetition.variables
	fork.opts = r.divert(c.opts, before)
	if len(rpc.added()) > 0 {
		more := *rpc.more
		more.options = r.divert(more.options, before)
		fork.more = &more
	}
	r.init(fork.opts, fork.added(), reply, c.repetition.of)
	r.forked = true
	return &fork.RPC, true
}

// emptyReply returns a new reply, or nil if there can be none beside the caller's:
// nothing can be put into that either. It does not look into the caller's.
func (c *unaryClient) emptyReply() any {
	if c.repetition.message != nil {
		return c.repetition.message.New().Interface()
	}
	v := reflect.ValueOf(c.reply)
	if _, ok := c.reply.(proto.Message); ok || v.Kind() != reflect.Pointer || v.IsNil() {
		return nil
	}
	return newMessage(c.reply)
}

// adopt calls the interceptor with the options as the layers outside have made
// them. What the layers inside add reaches gRPC through the interceptor's invoker.
func (c *unaryClient) adopt(ctx context.Context, rpc *RPC, a *adopted) (any, error) {
	if a.unaryClient == nil {
		return a.Service.Call(ctx, rpc)
	}
	call := &adoptedCall{layer: a, rpc: rpc, outer: c}
	err := a.unaryClient(ctx, rpc.Method, rpc.Request, c.reply, c.conn, call.invoke, rpc.options(c.opts, 0)...)
	if err != nil {
		return nil, call.out(err)
	}
	return c.reply, nil
}

// An adoptedCall is a unary RPC of a client inside an adopted interceptor. Each
// time that the interceptor calls its invoker, an RPC with a leaf of its own
// goes through the layers inside.
type adoptedCall struct {
	// They decide whether the error may say that nothing was sent.
	passages

	layer *adopted
	rpc   *RPC
	outer *unaryClient
	alone sync.Mutex // held while an invoker runs that counts for outer's repetition
}

// invoke is the invoker that the interceptor gets.
// An interceptor may call it several times, one after the other or side by side,
// with another method, request, reply or connection. Each call is an attempt of its
// own to the layers inside.
func (c *adoptedCall) invoke(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
	rpc := c.rpc.inside(nil)
	rpc.Method, rpc.Request = method, req
	rpc.Attempt += c.begin()
	err := invokeUnary(ctx, &c.layer.entry, rpc, reply, cc, c.send, opts)
	c.back(err)
	return err
}

// send is the invoker behind the layers inside. To a Retry outside, it is that
// of an attempt, unless another one is running: the interceptor hedges.
// Attempts side by side cannot share the repetition of the RPC outside, which
// expects one at a time: those beside the first are sent as they are.
func (c *adoptedCall) send(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
	r := c.outer.repetition
	if r == nil || !c.alone.TryLock() {
		return c.outer.invoker(ctx, method, req, reply, cc, opts...)
	}
	defer c.alone.Unlock()
	opts, trailer := r.next(opts, nil)
	err := c.outer.invoker(r.in(ctx), method, req, reply, cc, opts...)
	return withPushback(err, *trailer)
}
