package interceptors

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/internal/tried"
)

// An attempt is one try of a clientStream on the wire. It is over when
// grpc.OnFinish has reported its end, or when RecvMsg or SendMsg has returned
// an error without that: then an interceptor below made the error up. Its
// fields are guarded by the mutex of the clientStream.
type attempt struct {
	of     *clientStream
	rpc    *RPC // as the leaf was called
	ctx    context.Context
	cancel context.CancelFunc // nil if the stream is not repeated
	opts   []grpc.CallOption

	stream  grpc.ClientStream // set before the attempt becomes current
	targets []target          // if the stream is repeated: the caller's variables, with what gRPC gives this attempt

	over     bool
	err      error // then: its status; before it is open: why not
	reported bool  // by OnFinish: gRPC writes to no variable of the attempt any more
	loose    bool  // OnFinish does not mean that: see adoptedStream

	running   int  // methods of the caller that run on stream
	receiving bool // RecvMsg is one of them
	replaying bool // messages that the caller sent are being sent again
	learning  bool // SendMsg is finding out why it failed
	sendDead  bool // SendMsg has returned io.EOF
}

// call is the leaf of the stack: one attempt, from its opening to its end.
func (c *clientStream) call(ctx context.Context, rpc *RPC) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.sealed:
		return nil, c.awaitOver(c.current) // the status of the one attempt that counts
	case c.done:
		return nil, errLate
	case c.calling:
		return nil, errAtOnce
	}
	c.calling = true
	defer func() { c.calling = false }()
	a := c.newAttempt(ctx, rpc)
	if a.cancel != nil {
		defer a.cancel()
	}
	if err := c.openSomewhere(a); err != nil {
		c.openFailed = true
		return nil, err
	}
	c.replayInto(a)
	return nil, c.awaitOver(a)
}

// newAttempt prepares an attempt. It requires c.mu.
func (c *clientStream) newAttempt(ctx context.Context, rpc *RPC) *attempt {
	a := &c.first
	if c.attempts > 0 {
		a = new(attempt)
		a.replaying = c.replay != nil // until replayInto has caught up
		ctx = withPreviousAttempts(c.tried.In(ctx), strconv.Itoa(c.attempts))
	} else if c.tried == nil {
		ctx, c.tried = tried.NewContext(ctx, tried.Stream)
	} else {
		ctx = c.tried.In(ctx) // that of the stream which this one is inside of
	}
	c.attempts++
	c.last = a
	a.of, a.rpc = c, rpc
	a.opts = append(rpc.options(c.opts, 2), grpc.OnFinish(a.finished))
	if c.replay != nil {
		ctx, a.cancel = context.WithCancel(ctx)
		c.replay.prepare(a)
	}
	a.ctx = ctx
	return a
}

// openSomewhere opens a: on the caller's goroutine if that is still waiting for
// a stream, else here. It requires c.mu.
func (c *clientStream) openSomewhere(a *attempt) error {
	switch {
	case c.current != nil:
		c.openAttempt(a)
	case c.left:
		return errNotOpened
	default:
		c.opening = a
		c.changed.Broadcast()
		for c.opening != nil {
			c.changed.Wait()
		}
	}
	if a.stream == nil {
		return a.err
	}
	return nil
}

// openAttempt opens a, without c.mu, which it requires, and makes it current.
func (c *clientStream) openAttempt(a *attempt) {
	stream, err := a.open()
	if err != nil {
		a.err = err
		return
	}
	a.stream = stream
	c.current, c.openFailed = a, false
	if c.replay == nil || a.over && a.err == nil {
		c.seal()
	}
	c.changed.Broadcast()
}

func (a *attempt) open() (grpc.ClientStream, error) {
	c := a.of
	c.mu.Unlock()
	defer c.mu.Lock()
	streamer := c.streamer
	if a.rpc.more != nil && a.rpc.more.streamer != nil {
		streamer = a.rpc.more.streamer
	}
	stream, err := streamer(a.ctx, c.desc, c.conn, a.rpc.Method, a.opts...)
	if err != nil {
		return nil, err
	}
	if w := a.rpc.wrapping(); w != nil {
		stream = &clientMessages{stream, w.outward(stream, c.replay.wrappedOutside())}
	}
	return stream, nil
}

// finished is the grpc.OnFinish of the attempt. It may be called before the
// streamer has returned, and more than once.
func (a *attempt) finished(err error) {
	c := a.of
	if c.isLast(a) { // else the record tells of another by now
		c.tried.End(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.reported = !a.loose
	a.finish(err)
	if err == nil && c.current == a {
		c.seal() // a success that the caller may already be looking at
	}
}

func (c *clientStream) isLast(a *attempt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last == a
}

// finish ends the attempt with the status err, if it has not ended. It requires
// the mutex.
func (a *attempt) finish(err error) {
	if a.over {
		return
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	a.over, a.err = true, err
	a.of.changed.Broadcast()
}

// awaitOver waits until a is over and returns its status. Unless a is sealed,
// it also waits for the methods that run on it: one that returns a message yet
// commits the stream. It requires c.mu.
func (c *clientStream) awaitOver(a *attempt) error {
	for !a.over || a.running > 0 && !c.sealed {
		if a.over && !a.reported {
			a.cancel() // an interceptor below ended it; else SendMsg might run for ever
		}
		c.changed.Wait()
	}
	if !a.reported {
		return a.err
	}
	setTargets(a.targets)
	return withPushback(a.err, a.trailer())
}

// trailer returns the trailer of a, if it is needed: it may say when to come
// back. It requires the mutex, and that OnFinish has reported the end.
func (a *attempt) trailer() (md metadata.MD) {
	if a.err == nil || a.stream == nil || a.of.replay == nil {
		return nil
	}
	a.unlocked(func() { md = a.stream.Trailer() })
	return md
}

// seal commits the stream to its current attempt. It requires c.mu.
func (c *clientStream) seal() {
	if c.sealed {
		return
	}
	c.sealed = true
	c.fastRecv.Store(!c.done)
	if !c.current.replaying {
		c.sendFast()
	}
	c.changed.Broadcast()
}

// sendFast lets SendMsg go on without the mutex: the stream is sealed and
// nothing is to be sent again any more. It requires c.mu.
func (c *clientStream) sendFast() {
	c.replay.drop()
	c.fastSend.Store(!c.done && !c.current.sendDead)
}
