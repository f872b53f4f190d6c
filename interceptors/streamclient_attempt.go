package interceptors

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/internal/attempts"
)

// An attempt is one try of a streamClient on the wire. It has ended when
// grpc.OnFinish has reported it, or when RecvMsg or SendMsg has returned an error
// without that: then an interceptor below made the error up. Its fields are
// guarded by the mutex of the streamClient.
type attempt struct {
	of     *streamClient
	rpc    *RPC // as the leaf was called
	ctx    context.Context
	cancel context.CancelFunc // nil if the stream is not repeated
	opts   []grpc.CallOption

	stream    grpc.ClientStream // set before the attempt becomes current
	variables []variable        // if the stream is repeated: the caller's, with the values of this attempt

	ended        bool
	err          error // then: its status; before it is open: why not
	settled      bool  // OnFinish was called: gRPC writes to no variable of the attempt any more
	leavesWriter bool  // OnFinish does not mean that: see adoptedStream
	shown        bool  // RecvMsg has returned an error, or the one response there is
	decided      bool  // the leaf has returned err

	running   int  // methods of the caller that run on stream
	receiving bool // RecvMsg is one of them
	replaying bool // what the caller sent before is being sent again
	learning  bool // SendMsg is finding out whether the attempt has ended
	sendDead  bool // SendMsg has returned io.EOF
}

// call makes one attempt, from its opening to its end.
// It is called by the innermost layer, on the goroutine of run: once, or again by a
// Retry while nothing has reached the caller. The mutex is held throughout but for
// the waits and while methods of gRPC run, so that attempts cannot overlap. A call
// after the commit, as a layer may make that ignores Committed, sends nothing.
func (c *streamClient) call(ctx context.Context, rpc *RPC) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.committed:
		return nil, c.awaitEnd(c.current) // the status of the one attempt that counts
	case c.returned:
		return nil, errLate
	case c.calling:
		return nil, errAtOnce
	}
	c.calling = true
	defer func() { c.calling = false }()
	a := c.newAttempt(ctx, rpc)
	// A repeated attempt that did not win must not live on: its context ends here.
	if a.cancel != nil {
		defer a.cancel()
	}
	if err := c.openSomewhere(a); err != nil {
		c.openFailed = true
		return nil, err
	}
	c.replayInto(a)
	return nil, c.awaitEnd(a)
}

// adopt runs rpc through a's stream interceptor: see adoptedStream.
func (c *streamClient) adopt(ctx context.Context, rpc *RPC, a *adopted) (any, error) {
	if a.streamClient == nil {
		return a.Service.Call(ctx, rpc)
	}
	return nil, adoptStream(ctx, rpc, c, a)
}

// newReply returns nil: a stream's result is its messages.
func (c *streamClient) newReply() any { return nil }

func (c *streamClient) callOptions() []grpc.CallOption { return c.opts }

func (c *streamClient) target() string { return targetOf(c.conn) }

// repeated reports whether a layer has asked to repeat the stream.
func (c *streamClient) repeated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replay != nil
}

// isCommitted reports whether something of the stream has reached the caller.
func (c *streamClient) isCommitted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.committed
}

// Streams are not hedged: messages that two servers answer cannot be merged.
func (c *streamClient) hedge(*RPC) *repetition { return nil }

func (c *streamClient) fork(*RPC, int) (*RPC, bool) { return nil, false }

// newAttempt prepares an attempt. It requires c.mu.
func (c *streamClient) newAttempt(ctx context.Context, rpc *RPC) *attempt {
	a := &c.first
	if c.attempts > 0 {
		a = new(attempt)
		a.replaying = c.replay != nil // until replayInto has caught up
		ctx = withPreviousAttempts(c.tried.In(ctx), strconv.Itoa(c.attempts))
	} else if c.tried == nil {
		ctx, c.tried = attempts.NewContext(ctx, attempts.Stream)
	} else {
		ctx = c.tried.In(ctx) // that of the stream which this one is inside of
	}
	c.attempts++
	c.last = a
	a.of, a.rpc = c, rpc
	// Room for two more: OnFinish, and the codec of prepare.
	a.opts = append(rpc.options(c.opts, 2), grpc.OnFinish(a.onFinish))
	if c.replay != nil {
		ctx, a.cancel = context.WithCancel(ctx)
		c.replay.prepare(a)
	}
	a.ctx = ctx
	return a
}

// openSomewhere opens a: on the caller's goroutine while NewStream waits for a
// stream, else here. It requires c.mu.
// NewStream's goroutine opens attempts until one is current. Later ones, of a stream
// that the caller has already, are opened here.
func (c *streamClient) openSomewhere(a *attempt) error {
	switch {
	case c.current != nil:
		c.openAttempt(a)
	case c.opensNoMore:
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

// openAttempt opens a and makes it current. It requires c.mu, and releases it
// meanwhile.
// An attempt that fails to open is not shown to the caller. Without a replay the
// stream is committed at once, since no attempt can follow.
func (c *streamClient) openAttempt(a *attempt) {
	stream, err := a.open()
	if err != nil {
		a.err = err
		return
	}
	a.stream = stream
	c.current, c.openFailed = a, false
	if c.replay == nil || a.ended && a.err == nil {
		c.commit()
	}
	c.changed.Broadcast()
}

// open opens the stream of gRPC, or that of an adopted interceptor. It requires
// the mutex, and releases it meanwhile.
// The mutex is released because streamers block: for a connection, for room in an
// interceptor, or on flow control.
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

// onFinish is the grpc.OnFinish of the attempt. It may be called before the
// streamer has returned, and more than once.
// gRPC calls it from the goroutine that notices the end: of a method, of the
// transport's reader, or of a watcher of the context. Methods of the stream may still
// be running then. A success is final: the messages before it may have been read.
func (a *attempt) onFinish(err error) {
	c := a.of
	if c.lastAttempt() == a { // else the record is about a later one by now
		c.tried.End(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.settled = !a.leavesWriter
	a.end(err)
	if err == nil && c.current == a {
		c.commit() // a success that the caller may already be looking at
	}
}

// end ends the attempt with the status err, if it has not ended. It requires
// the mutex.
// io.EOF is a success: RecvMsg returns it for OK.
func (a *attempt) end(err error) {
	if a.ended {
		return
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	a.ended, a.err = true, err
	a.of.changed.Broadcast()
}

// awaitEnd waits until a has ended and returns its status. It also waits for the
// methods that run on a. Until the stream is committed, one that still returns a message
// commits it. After that, one of them may have noticed the end, and be about to
// report it: what gRPC wrote to the variables would be lost. It requires c.mu.
func (c *streamClient) awaitEnd(a *attempt) error {
	for !a.ended || a.running > 0 && (!c.committed || a.unreported()) || c.mayShow(a) {
		if a.ended && a.unreported() {
			a.cancel() // an interceptor below ended it; else SendMsg might run for ever
		}
		c.changed.Wait()
	}
	a.decided = true
	// gRPC may still write to the variables of an attempt that it has not reported, so
	// that they cannot be read; there is no trailer either.
	if !a.settled {
		return a.err
	}
	storeAll(a.variables)
	if more := a.rpc.more; more != nil && more.trailer != nil && a.stream != nil {
		a.unlocked(func() { *more.trailer = a.stream.Trailer() })
	}
	return withPushback(a.err, a.trailer())
}

// unreported reports whether gRPC has not reported the end of a, and a can be made to
// end: only attempts of repeated streams can be cancelled alone. It requires the mutex.
func (a *attempt) unreported() bool { return !a.settled && a.cancel != nil }

// mayShow reports whether a RecvMsg runs that will show how a ended: where the
// context ends in the moment in which the server's status arrives, gRPC reports the
// context's end to OnFinish and the server's status to RecvMsg. What the caller gets
// decides. It requires c.mu.
// ending tells recvFast, which takes no mutex, that the leaf waits for it.
func (c *streamClient) mayShow(a *attempt) bool {
	if !a.endedByContext() {
		return false
	}
	c.ending.Store(true)
	return a.receiving || c.receiving.Load() > 0
}

// endedByContext reports whether a ended with its context, and RecvMsg has shown
// nothing else. It requires the mutex.
func (a *attempt) endedByContext() bool {
	ended := a.ctx.Err()
	return a.ended && !a.shown && ended != nil && status.Code(a.err) == status.FromContextError(ended).Code()
}

// show makes err, with which RecvMsg showed the end, the end of a in place of that of the context, if the
// leaf has not returned yet. It requires the mutex.
func (a *attempt) show(err error) {
	if a.decided {
		return
	}
	if a.endedByContext() {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		a.err = err
	}
	a.shown = true
	a.of.changed.Broadcast()
}

// trailer returns the trailer of a where it may be needed, for the pushback in
// it. It requires the mutex, and that OnFinish has reported the end.
// gRPC allows Trailer only after the end. Without a replay no layer obeys a pushback.
func (a *attempt) trailer() (md metadata.MD) {
	if a.err == nil || a.stream == nil || a.of.replay == nil {
		return nil
	}
	a.unlocked(func() { md = a.stream.Trailer() })
	return md
}

// commit makes the current attempt the last one. It requires c.mu.
// From here on the caller's methods take the fast paths. Sending waits until the
// replay into the current attempt is over: messages must keep their order.
func (c *streamClient) commit() {
	if c.committed {
		return
	}
	c.committed = true
	c.fastRecv.Store(!c.returned)
	if !c.current.replaying {
		c.sendFast()
	}
	c.changed.Broadcast()
}

// sendFast lets SendMsg go on without the mutex: the stream is committed and
// nothing is left to be sent again. It requires c.mu.
func (c *streamClient) sendFast() {
	c.replay.drop()
	c.fastSend.Store(!c.returned && !c.current.sendDead)
}

// unlocked runs f as a method that runs on a. It requires the mutex, and releases
// it meanwhile.
// While running is above 0 the leaf does not decide on a further attempt: f may still
// bring something that reaches the caller. A panic of f leaves the count right.
func (a *attempt) unlocked(f func()) {
	a.running++
	a.of.mu.Unlock()
	defer func() {
		a.of.mu.Lock()
		a.running--
		a.of.changed.Broadcast()
	}()
	f()
}

// send sends m. It requires the mutex, and releases it meanwhile.
func (a *attempt) send(m any) (err error) {
	a.unlocked(func() { err = a.stream.SendMsg(m) })
	return err
}

// recv receives into m. It requires the mutex, and releases it meanwhile.
func (a *attempt) recv(m any) (err error) {
	a.receiving = true
	defer func() { a.receiving = false }()
	a.unlocked(func() { err = a.stream.RecvMsg(m) })
	return err
}

// header asks for the header, and ends a if the answer shows that a has ended:
// gRPC answers nil without an error then, after it has called OnFinish; but where
// another method (see awaitOthers) or the end of the context has ended the stream,
// another goroutine may only be about to call that. It requires the mutex, and
// releases it meanwhile.
func (a *attempt) header() (md metadata.MD, err error) {
	a.unlocked(func() { md, err = a.stream.Header() })
	switch ended := a.ctx.Err(); {
	case err != nil:
		a.end(err)
	case md == nil && ended != nil:
		a.end(status.FromContextError(ended).Err())
	}
	return md, err
}

// closeSend closes the sending side, unless the stream's context has ended: gRPC
// may not have noticed that yet, and the server would take what the caller has
// given up for a whole request, and answer it. It requires the mutex, and releases
// it meanwhile.
func (a *attempt) closeSend() {
	a.unlocked(func() {
		if a.ctx.Err() == nil || knowsContext(a.stream) || a.stream.Context().Err() == nil {
			_ = a.stream.CloseSend()
		}
	})
}

func (c *streamClient) knowsContext() bool { return true }
