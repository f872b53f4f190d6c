package interceptors

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/turret-go/turret/internal/onfinish"
)

// adoptStream makes the interceptor of layer the streamer of outer, which opens
// its stream and waits for the end as with a stream of gRPC. The layers inside are
// those of further streams, which the interceptor opens.
// It returns when the interceptor's stream and all streams inside are over. A panic of
// the interceptor goes on here, on the goroutine of the stack outside.
func adoptStream(ctx context.Context, rpc *RPC, outer *streamClient, layer *adopted) error {
	a := &adoptedStream{layer: layer, rpc: rpc, outer: outer}
	a.changed.L = &a.mu
	_, err := outer.call(ctx, rpc.with(func(x *extra) { x.streamer = a.open }))
	if p := a.close(); p != nil {
		panic(p)
	}
	return a.out(err)
}

// An adoptedStream is what an adopted interceptor makes of a stream, or of an
// attempt of one: to the stream outside it is that of gRPC, whose end it
// reports; to the interceptor it is the streamer, which opens the streams
// inside.
//
// It cannot know whether an interceptor whose stream inside has ended will open
// another one. While a method of the stream runs the interceptor may, so that what
// the method returns decides. While none runs it may not.
type adoptedStream struct {
	grpc.ClientStream // the interceptor's
	passages

	layer    *adopted
	rpc      *RPC
	outer    *streamClient
	attempt  *attempt        // of outer
	ctx      context.Context //nolint:containedctx // of the attempt
	onFinish []func(error)   // of those outside
	stop     func() bool     // watching ctx
	ended    sync.Once

	mu      sync.Mutex
	changed sync.Cond
	inside  []*streamClient
	cancel  []context.CancelFunc // of each
	// alive counts those of inside that have not ended.
	alive     int   // of those inside
	err       error // with which the last one inside ended
	receiving bool  // RecvMsg of the interceptor's stream runs
	answer    error // of the RecvMsg that ask made, if it did
	running   int   // the interceptor itself, or methods of its stream
	unsettled bool  // a stream of gRPC may still write to variables of the caller
	closing   bool  // no more streams may be opened
	ending    bool  // the end is being reported
	reported  bool  // and has been
	returned  bool  // adoptStream no longer waits
	panicked  any   // what ended it, if that was a panic
}

// open runs the interceptor. It is the streamer of the stream outside.
// The interceptor counts as running until it has returned, so that a stream inside that
// fails at once does not end the stream before the interceptor has opened another.
// leave is deferred first, and so runs last.
func (a *adoptedStream) open(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	opts, a.onFinish = onfinish.Take(opts)
	a.ctx = ctx
	a.attempt = a.outer.lastAttempt()
	a.enter() // before its end is watched
	defer a.leave()
	a.stop = context.AfterFunc(ctx, a.ctxDone)
	err := a.run(func() (err error) {
		a.ClientStream, err = a.layer.streamClient(ctx, desc, cc, method, a.openInside, opts...)
		return err
	})
	if err == nil && a.ClientStream == nil {
		err = errNoAdopted
	}
	if err != nil {
		a.end(err)
		return nil, err
	}
	return a, nil
}

var (
	errNoAdopted   = status.Error(codes.Internal, "turret: an adopted interceptor returned no stream")
	errAdoptedOver = status.Error(codes.Canceled, "turret: the stream of the adopted interceptor is over")
)

// openInside is the streamer that the interceptor gets.
// It may be called at any time until the stream is closing, also by methods of the
// interceptor's stream, as a retrying interceptor does in RecvMsg. Each stream inside
// has a goroutine for its layers, as one of a stack has.
func (a *adoptedStream) openInside(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	rpc := a.rpc.inside(nil)
	rpc.Method = method
	rpc.Attempt += a.begin()
	c := newStreamClient(rpc, desc, cc, a.outer.streamer, opts)
	ended := func(err error) { a.insideEnded(c, err) }
	c.onFinish = append([]func(error){ended}, c.onFinish...) // first: others may panic
	ctx, cancel := context.WithCancel(ctx)
	if !a.add(c, cancel) {
		cancel()
		return nil, errAdoptedOver
	}
	go c.run(ctx, a.layer.Service)
	return c.open()
}

// add notes a stream inside, unless it is too late for one.
// The record of endpoints is shared with the stream inside only where no other one is
// open: it describes one attempt at a time.
func (a *adoptedStream) add(c *streamClient, cancel context.CancelFunc) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closing {
		return false
	}
	if a.alive == 0 {
		c.tried = a.outer.tried // one after the other, as attempts are
	}
	a.inside, a.cancel = append(a.inside, c), append(a.cancel, cancel)
	a.alive++
	a.changed.Broadcast()
	return true
}

// insideEnded is the OnFinish of a stream inside.
// If nothing runs that could open another stream, this end is that of the whole.
// Otherwise the running method decides by what it returns.
func (a *adoptedStream) insideEnded(c *streamClient, err error) {
	a.back(err)
	unsettled := c.leavesWriter()
	a.mu.Lock()
	a.alive--
	a.err = err
	a.unsettled = a.unsettled || unsettled
	last := a.alive == 0 && a.running == 0
	a.changed.Broadcast()
	a.mu.Unlock()
	if last {
		a.end(err)
	}
}

// ctxDone runs when the attempt's context has ended. It leaves the report to
// streams inside that are open.
func (a *adoptedStream) ctxDone() {
	if err, idle := a.idle(); idle {
		a.end(err)
	}
}

// idle reports whether no method runs and no stream inside is open, and if so
// the error of a stream that the interceptor does not continue.
// A stream inside that ended well says nothing about the interceptor's: where the
// context has ended since, the context's error counts.
func (a *adoptedStream) idle() (err error, idle bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running > 0 || a.alive > 0 {
		return nil, false
	}
	if a.err == nil && a.ctx.Err() != nil {
		return edge(a.ctx.Err()), true
	}
	return a.err, true
}

// end cancels what is open inside, waits for its end, and reports err to the
// stream outside. Only the first end counts.
func (a *adoptedStream) end(err error) {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	// stop comes first, so that ctxDone does not wait for this once. The mutex is not
	// held while OnFinish functions run: they take that of the stream outside.
	a.ended.Do(func() {
		a.stop()
		a.mu.Lock()
		a.ending, a.closing = true, true
		a.changed.Broadcast()
		for _, cancel := range a.cancel {
			cancel()
		}
		for a.alive > 0 {
			a.changed.Wait()
		}
		unsettled := a.unsettled
		a.mu.Unlock()
		a.leaveWriter(unsettled)
		defer a.setReported()
		for _, f := range a.onFinish {
			defer f(err) // even if one of them panics
		}
	})
}

// setReported notes that the stream outside has the end.
func (a *adoptedStream) setReported() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reported = true
	a.changed.Broadcast()
}

// leaveWriter notes in the attempt outside whether its end leaves a stream of gRPC
// behind, which writes to the attempt's variables later.
// The attempt's variables are then not copied to the caller's: reading them would
// race with gRPC.
func (a *adoptedStream) leaveWriter(leaves bool) {
	a.outer.mu.Lock()
	defer a.outer.mu.Unlock()
	a.attempt.leavesWriter = leaves
}

// close waits until nothing runs inside any more, and returns the panic that
// ended the stream, if one did.
// a.inside needs no lock in the loop: closing forbids further ones.
func (a *adoptedStream) close() (panicked any) {
	if a.stop != nil { // else it was not opened
		a.stop()
	}
	a.mu.Lock()
	a.returned, a.closing = true, true
	panicked = a.panicked
	a.mu.Unlock()
	for i, c := range a.inside { // there will be no more of them
		a.cancel[i]()
		c.awaitReturn()
	}
	return panicked
}

// run runs f, the interceptor or a method of its stream. A panic or
// runtime.Goexit ends the stream; a panic then goes on where the stack outside
// runs, as that of any layer.
func (a *adoptedStream) run(f func() error) (err error) {
	a.enter()
	returned := false
	defer a.leave()
	defer func() {
		if !returned {
			err = errPanic
			a.caught(recover())
		}
	}()
	err = f()
	returned = true
	return err
}

// enter counts the interceptor, or a method of its stream, as running.
func (a *adoptedStream) enter() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running++
}

// leave undoes enter, and reports an end of the context that happened meanwhile.
func (a *adoptedStream) leave() {
	a.mu.Lock()
	a.running--
	a.mu.Unlock()
	if a.ctx.Err() != nil {
		a.ctxDone() // which waits for methods
	}
}

// caught ends the stream with the panic p, nil for a runtime.Goexit. If the stream
// had ended before, no goroutine outside waits for it, and the panic goes on here.
// It runs deferred, on the goroutine that panicked.
func (a *adoptedStream) caught(p any) {
	a.mu.Lock()
	late := a.ending || a.returned
	if !late {
		a.panicked = p
	}
	a.mu.Unlock()
	if late && p != nil {
		panic(p)
	}
	a.end(errPanic)
}

// RecvMsg shows the end of the stream: by its error, or by the one response of a
// method that has one.
func (a *adoptedStream) RecvMsg(m any) error {
	if err := a.claim(); err != nil {
		return err
	}
	defer a.release()
	return a.run(func() error {
		err := a.ClientStream.RecvMsg(m)
		if err != nil || !a.outer.desc.ServerStreams {
			a.end(err)
		}
		return err
	})
}

// claim waits until no RecvMsg runs, and reserves the next one. If ask has already
// received the end it returns that instead: some interceptors panic or log twice
// when RecvMsg is called after the end.
// Two RecvMsg at once would break gRPC's rules; ask is the one that the caller does
// not know of.
func (a *adoptedStream) claim() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.receiving {
		a.changed.Wait()
	}
	a.receiving = a.answer == nil
	return a.answer
}

// release ends what claim or continued reserved.
func (a *adoptedStream) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.receiving = false
	a.changed.Broadcast()
}

// SendMsg shows the end of the stream by an error other than io.EOF, after which
// RecvMsg is to be asked. A stream with one request says nil even then.
func (a *adoptedStream) SendMsg(m any) error {
	return a.run(func() error {
		err := a.ClientStream.SendMsg(m)
		switch {
		case err == nil:
			a.continued()
		case err != io.EOF: //nolint:errorlint // gRPC returns it unwrapped
			a.end(err)
		}
		return err
	})
}

// Header shows the end of the stream by an error. It may return nothing after
// the end; RecvMsg is to be asked then too.
func (a *adoptedStream) Header() (md metadata.MD, err error) {
	err = a.run(func() error {
		md, err = a.ClientStream.Header()
		for md == nil && err == nil && a.continued() {
			md, err = a.ClientStream.Header()
		}
		if err != nil {
			a.end(err)
		}
		return err
	})
	return md, err
}

// continued is for methods that leave it to RecvMsg to show the end. While a Retry
// outside may still make another attempt, it has to know of the end now. If no
// stream inside is open, continued waits for a RecvMsg that runs, and reports
// whether that has opened another one. If not, the stream has ended.
func (a *adoptedStream) continued() bool {
	if a.outer.fastRecv.Load() || a.outer.isCommitted() {
		return false
	}
	a.mu.Lock()
	ended, before := a.alive == 0 && a.err != nil, len(a.inside)
	for ended && a.receiving && len(a.inside) == before && !a.ending {
		a.changed.Wait()
	}
	again := len(a.inside) > before && !a.ending
	ask := ended && !again && !a.ending
	if ask {
		a.closing, a.receiving = true, true
	}
	for a.ending && !a.reported { // the caller of continued looks whether it was
		a.changed.Wait()
	}
	a.mu.Unlock()
	if ask {
		a.ask()
	}
	return again
}

// ask calls RecvMsg to learn how the stream ended, in place of the caller: an
// interceptor may do its work there, such as writing a line of a log.
func (a *adoptedStream) ask() {
	defer a.release()
	err := a.ClientStream.RecvMsg(new(emptypb.Empty))
	a.mu.Lock()
	if err == nil { // a message, made up
		err = a.err
	}
	a.answer = err
	a.mu.Unlock()
	a.end(err)
}

// CloseSend shows no end.
// The interceptor's stream may still do work in it, so that it counts as running.
func (a *adoptedStream) CloseSend() error {
	return a.run(func() error { return a.ClientStream.CloseSend() })
}

// knowsContext is true: a stream inside checks its context before CloseSend.
func (a *adoptedStream) knowsContext() bool { return true }
