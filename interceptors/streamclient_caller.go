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
	if a.ended && !c.committed {
		return true, nil
	}
	c.commit()
	return false, c.sendEnded()
}

// sendAndKeep sends m on a, and keeps it if that succeeds. If it cannot be kept
// the stream is committed, unless a ended before m was even encoded: then it
// reports that m is late, and is to be sent on what follows. It requires c.mu.
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
	a.learning = true
	defer func() {
		a.learning = false
		c.changed.Broadcast()
	}()
	_, _ = a.header()
}

// awaitReceive waits for a RecvMsg that runs on a, as long as that may still show
// that a has ended. It requires c.mu.
func (c *streamClient) awaitReceive(a *attempt) {
	for a.receiving && !a.ended && !c.committed {
		c.wait()
	}
}

// CloseSend closes the sending side, now or after the replay into the next
// attempt. It never fails and never waits.
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
				c.awaitReceive(a) // it may have noticed the end, and be about to call OnFinish
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

// Trailer returns the trailer that the server sent.
func (c *streamClient) Trailer() metadata.MD {
	if a := c.commitNow(); a != nil && !c.endedUnseen(a) {
		return a.stream.Trailer()
	}
	return nil
}

// endedUnseen reports whether a ended with its context before RecvMsg showed what
// the server said: its trailer does not belong to that end.
func (c *streamClient) endedUnseen(a *attempt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.decided && a.endedByContext()
}

// Context returns the context of the stream.
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
