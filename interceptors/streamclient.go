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

	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/onfinish"
)

// newStreamClient returns a stream. The caller of newStreamClient starts run in a
// goroutine and returns what open returns.
func newStreamClient(rpc RPC, desc *grpc.StreamDesc, cc *grpc.ClientConn, streamer grpc.Streamer, opts []grpc.CallOption) *streamClient {
	c := &streamClient{RPC: rpc, desc: desc, conn: cc, streamer: streamer}
	c.Kind, c.leaf = kindOf(desc.ClientStreams, desc.ServerStreams), c
	c.opts, c.onFinish = onfinish.Take(opts)
	c.changed.L = &c.mu
	return c
}

// A streamClient is a stream of a client: the leaf of its stack, and the
// grpc.ClientStream that the caller gets. Its methods are in four files: its life
// is in this one, what the caller calls in streamclient_caller.go, the leaf and
// its attempts in streamclient_attempt.go, and what is kept for a further attempt
// in streamclient_replay.go.
//
// The stack runs in a goroutine of its own (run), because its Call lasts as
// long as the stream. The leaf (call) opens an attempt and waits for its end; the
// caller's methods work on the current attempt. One mutex guards what they share,
// and one condition signals its changes. The mutex is never held while a method
// of gRPC runs. No wait needs a context: every wait ends because the stack
// returns, and that because every layer honours its context.
//
// There are three ends. An attempt has ended when its status is known.
// The stack has returned when its outermost Call has. The stream is half-closed
// when the caller has called CloseSend.
//
// Until something of the stream has reached the caller, a failed attempt may be
// replaced by another one. Invariant: commit and the end of an attempt are decided
// under the mutex, so that an attempt has either reached the caller or is
// replaced, never both. Once the stream is committed, sending and receiving take
// no mutex.
type streamClient struct {
	RPC

	// What NewStream was called with. They do not change.
	desc     *grpc.StreamDesc
	conn     *grpc.ClientConn
	streamer grpc.Streamer
	opts     []grpc.CallOption // the caller's, without OnFinish
	onFinish []func(error)

	// Committed, and the stack has not returned: current stays, and may be used
	// without mu.
	fastSend, fastRecv atomic.Bool
	receiving          atomic.Int32 // how many RecvMsg run without mu: 1 at most, for callers that keep gRPC's rules
	ending             atomic.Bool  // the leaf waits for receiving to be 0

	// mu guards everything below, and the fields of attempts and of the replay.
	mu sync.Mutex
	// changed is broadcast at every change that a wait may be for. Several goroutines
	// wait for different things: the leaf, open, and methods of the caller.
	changed     sync.Cond
	opening     *attempt // to be opened by the caller's goroutine, in open
	current     *attempt // what the caller's methods work on; nil before the first is open
	calling     bool     // the leaf runs: one attempt at a time
	committed   bool     // something has reached the caller: current is the last attempt
	opensNoMore bool     // open has returned, and with it the caller's goroutine
	halfClosed  bool     // CloseSend was called
	waiting     int      // methods of the caller that wait for a change

	// How the stack ended.
	returned bool  // the stack has returned
	err      error // then: its error, as a status
	failed   any   // then: its panic or goexit, until a method of the caller takes it

	// attempts counts those begun. last is the one that was begun last, which need not be
	// current: it may not be open yet.
	attempts   int
	last       *attempt
	first      attempt // in place: most streams have no other
	openFailed bool    // the last attempt did not open
	replay     *replay // nil unless a layer asked to repeat the stream
	// tried is made with the first attempt, and shared with the balancer's picker, so that
	// further attempts go to other endpoints.
	tried *attempts.Record
}

// open is the caller's part of NewStream: it opens the attempts that the leaf
// asks for, until one is open or the stack has returned. Attempts are opened on
// this goroutine because the memory of a new one has yet to grow, which would cost
// as much as all the rest (decision 0003).
func (c *streamClient) open() (grpc.ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.stopOpening()
	for {
		switch {
		case c.opening != nil:
			c.openAsked()
		case c.current != nil:
			return c.outside(), nil
		case c.returned:
			return nil, c.verdict()
		default:
			c.wait()
		}
	}
}

// openAsked opens the attempt that the leaf asked for. It requires c.mu.
func (c *streamClient) openAsked() {
	c.openAttempt(c.opening)
	c.opening = nil
	c.changed.Broadcast()
}

// stopOpening notes that NewStream no longer opens attempts. If that is because
// the streamer or the stack panicked, the leaf, which may be waiting, gets an
// error. It requires c.mu.
func (c *streamClient) stopOpening() {
	c.opensNoMore = true
	if c.opening != nil {
		c.opening.err = errNotOpened
		c.opening = nil
		c.changed.Broadcast()
	}
}

// outside returns the stream as the caller is to see it.
// Wrappings of layers outside the one that repeats are put around the whole stream,
// because they must see each message of the caller once. Those inside are put around
// each attempt, in attempt.open.
func (c *streamClient) outside() grpc.ClientStream {
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

// run is the goroutine of the stack. However the stack ends, the caller's OnFinish
// options are called next, and then the methods that wait go on.
func (c *streamClient) run(ctx context.Context, s Service) {
	e := ending{err: errLayerExits, failed: goexit{}} // unless Call returns or panics
	defer func() { c.setReturned(&e) }()
	defer func() { c.callOnFinish(&e) }()
	defer e.catch()
	_, err := s.Call(ctx, &c.RPC)
	e = ending{err: edge(c.checked(err))}
}

// catch makes a panic the ending. It must be deferred.
func (e *ending) catch() {
	if p := recover(); p != nil {
		*e = ending{errPanic, p, debug.Stack()}
	}
}

// callOnFinish calls the caller's OnFinish options, which may panic or exit too.
// An OnFinish that panics takes the place of the ending, so that the panic goes on in
// the caller's goroutine, as that of a layer does.
func (c *streamClient) callOnFinish(e *ending) {
	defer e.catch()
	before := *e
	if e.failed == nil {
		*e = ending{err: errLayerExits, failed: goexit{}} // unless they return
	}
	onfinish.Tell(c.onFinish, before.err)
	*e = before
}

// checked returns err, the stack's, or what is wrong with its end.
// A layer that returns while the stream is open breaks the contract of Call: the
// caller gets INTERNAL.
func (c *streamClient) checked(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.current != nil && !c.current.ended:
		return errStillOpen
	case c.current == nil && err == nil:
		return errNoStream
	default:
		return err
	}
}

// setReturned publishes how the stack ended. A panic is logged if no method of the
// caller is waiting in which it could go on.
func (c *streamClient) setReturned(e *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.returned, c.err, c.failed = true, e.err, e.failed
	c.fastSend.Store(false)
	c.fastRecv.Store(false)
	c.replay.drop()
	if e.failed != nil && c.waiting == 0 {
		slog.Error("panic or Goexit in the stack of a stream", "method", c.Method, "panic", fmt.Sprint(e.failed), "stack", string(e.stack))
	}
	c.changed.Broadcast()
}

// verdict returns the error of the stack once that has returned. A panic or Goexit of the
// stack goes on in the first method of the caller that comes here. It requires
// c.mu, and a deferred unlock.
func (c *streamClient) verdict() error {
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
func (c *streamClient) wait() {
	c.waiting++
	c.changed.Wait()
	c.waiting--
	if c.returned {
		_ = c.verdict()
	}
}

// leavesWriter reports whether gRPC may still write to the variables of c's
// caller: an interceptor behind the stack made the end up, and gRPC's own stream
// goes on.
func (c *streamClient) leavesWriter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replay == nil && c.last != nil && !c.last.settled
}

// awaitReturn waits until the stack of c has returned.
// Unlike wait it takes no panic over: that is for a method of c's own caller.
func (c *streamClient) awaitReturn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.returned {
		c.changed.Wait()
	}
}

// lastAttempt returns the attempt that was begun last.
func (c *streamClient) lastAttempt() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
