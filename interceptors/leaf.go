package interceptors

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A leaf is the end of a stack: it runs the RPC itself. There is one for each
// kind of interceptor: [unaryClient], [streamClient], [unaryServer] and
// [streamServer]. Layers reach an RPC's leaf through [RPC.end] and need not know
// which one it is.
type leaf interface {
	// call runs the RPC, or one attempt of it, with the context and the RPC that
	// the innermost layer passed on.
	call(ctx context.Context, rpc *RPC) (any, error)
	// adopt runs rpc through the interceptor of its kind, if a has one, around
	// the layers inside; else straight through these.
	adopt(ctx context.Context, rpc *RPC, a *adopted) (any, error)
	// newReply returns an empty reply message; nil where there is none.
	newReply() any
	// target returns what the client dialed; empty on a server.
	target() string
	// callOptions returns what the caller of a client gave, without OnFinish.
	callOptions() []grpc.CallOption

	// repeat prepares the leaf to be called more than once, one attempt after
	// the other. limit bounds the bytes that a stream keeps for its replay.
	repeat(rpc *RPC, limit int)
	// repeated reports whether repeat or hedge has prepared the leaf.
	repeated() bool
	// restore puts the variables of the caller back to what they were before
	// the attempt that has ended, because another will follow it.
	restore()
	// isCommitted reports whether something of the RPC has reached the caller, so
	// that no further attempt is possible.
	isCommitted() bool

	// hedge prepares the leaf for attempts side by side, and returns what it
	// keeps for them; nil if it cannot have any.
	hedge(rpc *RPC) *repetition
	// fork returns a copy of rpc for an attempt beside those of this leaf, or
	// false if there can be none. It may be called while attempts run, after
	// hedge.
	fork(rpc *RPC, attempt int) (*RPC, bool)
}

// once has the methods of a leaf that can be called only once: that of a server.
type once struct{}

func (once) newReply() any                  { return nil }
func (once) target() string                 { return "" }
func (once) callOptions() []grpc.CallOption { return nil }
func (once) repeat(*RPC, int)               {}
func (once) repeated() bool                 { return false }
func (once) restore()                       {}
func (once) isCommitted() bool              { return true }
func (once) hedge(*RPC) *repetition         { return nil }
func (once) fork(*RPC, int) (*RPC, bool)    { return nil, false }

// noLeaf is the leaf of an RPC that came through no stack: of a test, or a copy
// from [FromContext].
type noLeaf struct{ once }

func (noLeaf) call(context.Context, *RPC) (any, error) { return nil, errNoLeaf }

func (noLeaf) adopt(ctx context.Context, rpc *RPC, a *adopted) (any, error) {
	return a.Service.Call(ctx, rpc)
}

var errNoLeaf = status.Error(codes.Internal, "turret: the RPC was not made by a stack")

// An entry is where RPCs enter layers: those of a stack, or those inside an
// adopted interceptor.
// It belongs to a stack, or to one adopted layer, and is shared by all RPCs.
type entry struct {
	Service

	repeats atomic.Bool // a unary RPC had several attempts: others get the space for that
}

// leafService is the innermost service of every stack: it hands the RPC to the
// leaf that the RPC carries. It is always ready.
// It has no state: one value serves all stacks.
type leafService struct{}

func (leafService) Ready(context.Context) error { return nil }

func (leafService) Call(ctx context.Context, rpc *RPC) (any, error) { return rpc.end().call(ctx, rpc) }
