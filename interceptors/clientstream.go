package interceptors

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/internal/onfinish"
	"github.com/turret-go/turret/internal/tried"
)

// StreamClient returns the interceptor of streams for the client side.
func (s *Stack) StreamClient() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if s.empty {
			return streamer(ctx, desc, cc, method, opts...)
		}
		c := newClientStream(RPC{Method: method, Side: SideClient}, desc, cc, streamer, opts)
		go c.run(ctx, s.service)
		return c.open()
	}
}

// newClientStream returns a stream that run and open are still to be called on.
func newClientStream(rpc RPC, desc *grpc.StreamDesc, cc *grpc.ClientConn, streamer grpc.Streamer, opts []grpc.CallOption) *clientStream {
	c := &clientStream{RPC: rpc, desc: desc, conn: cc, streamer: streamer}
	c.Kind, c.leaf = kindOf(desc.ClientStreams, desc.ServerStreams), c
	c.opts, c.onFinish = onfinish.Take(opts)
	c.changed.L = &c.mu
	return c
}

// A clientStream is a stream of a client: the leaf of its stack, and what the
// caller gets as its grpc.ClientStream.
//
// The stack runs in a goroutine of its own (run), because its Call lasts as
// long as the stream. The leaf (call) has attempts opened and waits until they
// are over; the caller's methods work on the attempt of the moment. One mutex
// guards what they share, and one condition tells of its changes. No wait needs
// a context: every wait ends because the stack ends, and that because every
// layer honours its context. The mutex is never held while a method of gRPC
// runs.
//
// While nothing of the stream has reached the caller, an attempt that fails may
// be replaced by another. Committing (seal) and the end of an attempt are
// decided under the mutex, so that an attempt has either reached the caller or
// is replaced, never both. Once the stream is sealed, its methods need the
// mutex no longer.
type clientStream struct {
	RPC

	desc     *grpc.StreamDesc
	conn     *grpc.ClientConn
	streamer grpc.Streamer
	opts     []grpc.CallOption // the caller's, without OnFinish
	onFinish []func(error)

	// Sealed, and not over: current is final, and may be used without mu.
	fastSend, fastRecv atomic.Bool

	mu      sync.Mutex
	changed sync.Cond
	opening *attempt // to be opened by the caller's goroutine, in open
	current *attempt // what the caller's methods work on; nil before the first is open
	calling bool     // the leaf runs: one attempt at a time
	sealed  bool     // something has reached the caller: current is the last attempt
	left    bool     // the caller's goroutine has left open
	closed  bool     // CloseSend was called
	waiting int      // methods of the caller that wait for a change

	done   bool  // the stack has returned
	err    error // then: its error, as a status
	failed any   // then: its panic or goexit, until a method of the caller takes it

	attempts   int
	last       *attempt
	first      attempt // in place: most streams have no other
	openFailed bool    // the last attempt did not open
	replay     *replay // nil unless a layer asked to repeat the stream
	tried      *tried.Record
}

// open is the caller's part of NewStream: it opens the attempts that the leaf
// asks for, until one is open or the stack has returned. On this goroutine,
// because the stack of a new one has yet to grow: that would cost as much as all
// the rest (decision 0003).
func (c *clientStream) open() (grpc.ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.leaveOpen()
	for {
		switch {
		case c.opening != nil:
			c.openAsked()
		case c.current != nil:
			return c.outside(), nil
		case c.done:
			return nil, c.verdict()
		default:
			c.wait()
		}
	}
}

// openAsked opens the attempt that the leaf asked for. It requires c.mu.
func (c *clientStream) openAsked() {
	c.openAttempt(c.opening)
	c.opening = nil
	c.changed.Broadcast()
}

// leaveOpen notes that the caller's goroutine opens no attempts any more. If
// that is because the streamer or the stack panicked, the leaf, which may be
// waiting, gets an error. It requires c.mu.
func (c *clientStream) leaveOpen() {
	c.left = true
	if c.opening != nil {
		c.opening.err = errNotOpened
		c.opening = nil
		c.changed.Broadcast()
	}
}

// outside returns the stream as the caller is to see it.
func (c *clientStream) outside() grpc.ClientStream {
	if c.replay == nil || c.replay.outside == nil {
		return c
	}
	return &clientMessages{c, c.replay.outside.outward(c, nil)}
}

var (
	errNotOpened  = status.Error(codes.Internal, "turret: opening the stream did not return")
	errLate       = status.Error(codes.Internal, "turret: a layer called the stream after it had returned")
	errAtOnce     = status.Error(codes.Internal, "turret: a layer called the stream twice at once")
	errNoStream   = status.Error(codes.Internal, "turret: a layer ended the stream without opening it")
	errStillOpen  = status.Error(codes.Internal, "turret: a layer returned while the stream was open")
	errLayerExits = status.Error(codes.Internal, "internal error")
)

// goexit stands for a runtime.Goexit where the value of a panic would be.
type goexit struct{}

func (goexit) String() string { return "runtime.Goexit" }

// ending is how a stack ended.
type ending struct {
	err    error
	failed any    // a panic's value, or goexit
	stack  []byte // of the panic
}

// run is the goroutine of the stack. Whatever its end, the caller's OnFinish
// options are called, and then the methods that wait go on.
func (c *clientStream) run(ctx context.Context, s Service) {
	e := ending{err: errLayerExits, failed: goexit{}} // unless Call returns or panics
	defer func() { c.end(&e) }()
	defer func() { c.callOnFinish(&e) }()
	defer e.catch()
	_, err := s.Call(ctx, &c.RPC)
	e = ending{err: edge(c.checked(err))}
}

// catch is to be deferred: it makes a panic the ending.
func (e *ending) catch() {
	if p := recover(); p != nil {
		*e = ending{errPanic, p, debug.Stack()}
	}
}

func (c *clientStream) callOnFinish(e *ending) {
	defer e.catch()
	before := *e
	if e.failed == nil {
		*e = ending{err: errLayerExits, failed: goexit{}} // unless they return
	}
	onfinish.Tell(c.onFinish, before.err)
	*e = before
}

// checked returns err, the stack's, or what is wrong with its end.
func (c *clientStream) checked(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.current != nil && !c.current.over:
		return errStillOpen
	case c.current == nil && err == nil:
		return errNoStream
	default:
		return err
	}
}

// end makes the stack's end known. What a panic was about must not be lost: if
// no method of the caller is there to take it, it is logged.
func (c *clientStream) end(e *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.err, c.failed = true, e.err, e.failed
	c.fastSend.Store(false)
	c.fastRecv.Store(false)
	c.replay.drop()
	if e.failed != nil && c.waiting == 0 {
		slog.Error("panic or Goexit in the stack of a stream", "method", c.Method, "panic", fmt.Sprint(e.failed), "stack", string(e.stack))
	}
	c.changed.Broadcast()
}

// verdict returns the error of the stack, once done. A panic or Goexit of the
// stack goes on in the first method of the caller that comes here. It requires
// c.mu, and a deferred unlock.
func (c *clientStream) verdict() error {
	p := c.failed
	c.failed = nil
	switch p.(type) {
	case nil:
		return c.err
	case goexit:
		runtime.Goexit()
	default:
		panic(p)
	}
	return c.err
}

// wait waits for a change on behalf of a method of the caller, where a panic of
// the stack goes on. It requires c.mu, and a deferred unlock.
func (c *clientStream) wait() {
	c.waiting++
	c.changed.Wait()
	c.waiting--
	if c.done {
		_ = c.verdict()
	}
}

func (c *clientStream) newReply() any { return nil }

func (c *clientStream) committed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sealed
}
