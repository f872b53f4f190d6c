package interceptors

import (
	"context"
	"io"

	"google.golang.org/grpc/metadata"
)

// This file has the methods that the caller of a stream calls. Each runs on the
// current attempt, which counts it, and holds no mutex meanwhile.

// RecvMsg receives a message. Its error is the end of the stream, with the
// stack's verdict.
// The fast path takes no mutex for a message in the middle of a server's stream. The
// end, and the one response of a method that has one, are shown to the stack first:
// the caller gets them when the outermost layer has returned.
func (c *streamClient) RecvMsg(m any) error {
	if !c.fastRecv.Load() {
		return c.recvSlow(m)
	}
	err := c.recvFast(m)
	if err == nil && c.desc.ServerStreams {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.show(err)
	return c.finalError(err)
}

// recvFast receives m from the attempt that counts. The leaf waits for it if the
// stream ends meanwhile, see awaitEnd.
// current does not change once fastRecv is true, so that it can be read without the
// mutex. receiving is counted before RecvMsg runs and after it has returned, and the
// leaf reads it after it has set ending: one of the two sees the other.
func (c *streamClient) recvFast(m any) error {
	c.receiving.Add(1)
	defer func() {
		if c.receiving.Add(-1) == 0 && c.ending.Load() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.changed.Broadcast()
		}
	}()
	return c.current.stream.RecvMsg(m)
}

// recvSlow is RecvMsg for a stream that is not committed, or that has ended.
// It waits while the current attempt has failed and another may follow. When the
// stack has returned without error, gRPC's stream decides what further calls
// return.
func (c *streamClient) recvSlow(m any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		a := c.current
		switch {
		case c.returned && c.err == nil:
			return a.recv(m) // the stack is content; what does gRPC say?
		case c.returned:
			return c.err
		case c.committed || !a.ended && !a.learning:
			if again, err := c.recvOn(a, m); !again {
				return err
			}
		default:
			c.wait()
		}
	}
}

// recvOn receives m from a. It returns true if a ended before anything of the
// stream had reached the caller: m is to be received from what follows. It
// requires c.mu.
func (c *streamClient) recvOn(a *attempt, m any) (again bool, err error) {
	// A message that an attempt in vain left in m is taken out again below, because
	// the next attempt's must not be merged into it.
	var was any
	if !c.committed {
		was = snapshot(m)
	}
	err = a.recv(m)
	if err != nil || !c.desc.ServerStreams {
		a.show(err)
	}
	if err == nil || err == io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		c.commit()
	}
	if c.committed {
		return false, c.received(err)
	}
	a.end(err)
	restoreReply(m, was) // a response may have come in front of the error
	return true, nil
}

// received returns what RecvMsg returns after that of the attempt returned err.
// The stream is committed. It requires c.mu.
func (c *streamClient) received(err error) error {
	if err == nil && c.desc.ServerStreams {
		return nil
	}
	return c.finalError(err)
}

// finalError waits until the stack has returned, and returns what the method
// returns that showed the end of the stream with err; nil is the one message of a
// single response. An error of the stack comes first, then err. It requires c.mu.
// This is where a method that has seen the end waits for the layers: their verdict,
// such as a Timeout's status, takes the place of gRPC's.
func (c *streamClient) finalError(err error) error {
	c.current.end(err)
	for !c.returned {
		c.wait()
	}
	if verdict := c.verdict(); verdict != nil {
		return verdict
	}
	return err
}

// SendMsg sends a message. io.EOF says that the stream has ended, as in gRPC;
// RecvMsg says how.
// An error other than io.EOF is a local one (the message cannot be encoded, or is too
// large). gRPC has ended the stream with it, and the stack's verdict follows.
func (c *streamClient) SendMsg(m any) error {
	if !c.fastSend.Load() {
		return c.sendSlow(m)
	}
	err := c.current.stream.SendMsg(m)
	if err == nil || err == io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finalError(err)
}

// sendSlow is SendMsg for a stream that is not committed, or that has ended.
// It waits while a replay runs, which must be over before a new message may follow,
// and while the attempt has failed and another may follow.
func (c *streamClient) sendSlow(m any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		a := c.current
		switch {
		case c.returned, c.committed && a.sendDead:
			return c.sendEnded()
		case !a.replaying && (c.committed || !a.ended):
			if again, err := c.sendOn(a, m); !again {
				return err
			}
		default:
			c.wait()
		}
	}
}

// sendEnded returns what SendMsg returns when the stream has ended. Where there
// is but one message to send it is nil, as in gRPC: RecvMsg will say how.
func (c *streamClient) sendEnded() error {
	if c.desc.ClientStreams {
		return io.EOF
	}
	return nil
}

// sendOn sends m on a. It returns true if a ended before anything of the stream
// had reached the caller: m is to be sent on what follows. It requires c.mu.
func (c *streamClient) sendOn(a *attempt, m any) (again bool, err error) {
	if c.committed {
		err = a.send(m)
	} else {
		again, err = c.sendAndKeep(a, m)
	}
	switch {
	case err == nil:
		return again, nil
	case err != io.EOF: //nolint:errorlint // gRPC returns it unwrapped
		c.commit()
		return false, c.finalError(err)
	}
	a.sendDead = true
	if !c.committed {
		c.learnEnd(a)
	}
	// While learnEnd waited another attempt may have begun, and been committed.
	if a.ended && (!c.committed || c.current != a) {
		return true, nil
	}
	c.commit()
	return false, c.sendEnded()
}

// sendAndKeep sends m on a, and keeps it if that succeeds. If it cannot be kept
// the stream is committed, unless a ended before m was even encoded: then it
// reports that m is late, and is to be sent on what follows. It requires c.mu.
// The bytes come from the codec, which runs inside SendMsg: see replay.Marshal.
func (c *streamClient) sendAndKeep(a *attempt, m any) (late bool, err error) {
	c.replay.take(m)
	defer c.replay.release()
	err = a.send(m)
	encoded := c.replay.sending.encoded
	switch {
	case err != nil, c.committed:
		return false, err
	case a.ended && !encoded:
		return true, nil
	case !encoded, !c.replay.keep():
		c.commit()
	}
	return false, nil
}

// learnEnd finds out, after SendMsg returned io.EOF, whether a has ended. A RecvMsg
// that runs will show it; else the header does, unless the server sent one. A
// RecvMsg made for the purpose would lose a message. It requires c.mu.
func (c *streamClient) learnEnd(a *attempt) {
	c.awaitReceive(a)
	if a.ended || c.committed {
		return
	}
	// learning keeps RecvMsg, SendMsg and Header of the caller waiting meanwhile.
	a.learning = true
	defer func() {
		a.learning = false
		c.changed.Broadcast()
	}()
	if md, _ := a.header(); md == nil {
		c.awaitOthers(a)
	}
}

// awaitReceive waits for a RecvMsg that runs on a, as long as that may still show
// that a has ended. It requires c.mu.
func (c *streamClient) awaitReceive(a *attempt) {
	for a.receiving && !a.ended && !c.committed {
		c.wait()
	}
}

// awaitOthers waits, after gRPC's Header has returned nothing, for the methods that
// still run on a: one of them noticed the end, and may be about to call OnFinish. It
// requires c.mu.
func (c *streamClient) awaitOthers(a *attempt) {
	for a.running > 0 && !a.ended && !c.committed {
		c.wait()
	}
}

// CloseSend closes the sending side, now or after the replay into the next
// attempt. It never fails and never waits.
// gRPC's CloseSend is called with the mutex released, by closeSend, which is deferred
// here and so runs before the unlock.
func (c *streamClient) CloseSend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.current
	if !c.halfClosed && !a.replaying && (c.committed || !a.ended) {
		defer a.closeSend()
	}
	c.halfClosed = true
	return nil
}

// Header returns the header that the server sent; nil if the stream ended
// without one.
// A header that is shown commits the stream, as a message does. gRPC's Header waits
// for the server, so that it runs without the mutex.
func (c *streamClient) Header() (metadata.MD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		a := c.current
		switch {
		case c.returned && c.failed != nil:
			return nil, c.err // it failed while no method was waiting
		case c.returned && !c.committed && c.openFailed:
			return nil, nil
		case c.returned, c.committed:
			md, err := a.header()
			return md, c.headerEnded(md, err)
		case !a.ended && !a.learning:
			md, _ := a.header()
			if md == nil {
				c.awaitOthers(a)
			}
			if md != nil || !a.ended {
				c.commit()
				return md, nil
			}
		default:
			c.wait()
		}
	}
}

// headerEnded returns the error of Header: where it showed the end of the stream,
// that of the stack, once that has returned. It requires c.mu.
func (c *streamClient) headerEnded(md metadata.MD, err error) error {
	if err == nil && (md != nil || !c.current.ended) {
		return nil
	}
	verdict := c.finalError(err)
	if err == nil {
		return nil // as gRPC: RecvMsg says how the stream ended
	}
	return verdict
}

// Trailer returns the trailer that the server sent: as in gRPC an empty one if it
// sent none, and nil if no attempt was opened.
// Callers may ask only after the end, as in gRPC. Asking earlier commits the
// stream.
func (c *streamClient) Trailer() metadata.MD {
	switch a := c.commitNow(); {
	case a == nil:
		return nil
	case c.endedUnseen(a):
		return metadata.MD{}
	default:
		return a.stream.Trailer()
	}
}

// endedUnseen reports whether a ended with its context before RecvMsg showed what
// the server said: its trailer does not belong to that end.
func (c *streamClient) endedUnseen(a *attempt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.decided && a.endedByContext()
}

// Context returns the context of the stream.
// It belongs to one attempt, so that asking for it commits the stream.
func (c *streamClient) Context() context.Context {
	if a := c.commitNow(); a != nil {
		return a.stream.Context()
	}
	return c.first.ctx
}

// commitNow commits the stream to an attempt that has not ended, and returns it.
// Once the stack has returned it returns the last attempt, or nil if that did not
// open.
func (c *streamClient) commitNow() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.committed && !c.returned && c.current.ended {
		c.wait()
	}
	if c.returned && !c.committed && c.openFailed {
		return nil
	}
	if !c.returned {
		c.commit()
	}
	return c.current
}
