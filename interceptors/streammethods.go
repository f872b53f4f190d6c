package interceptors

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// This file has the methods that the caller of a stream calls. Each works on
// the current attempt, counted as running on it, without the mutex.

// RecvMsg receives a message. Its error is the end of the stream, with the
// stack's verdict.
func (c *clientStream) RecvMsg(m any) error {
	if !c.fastRecv.Load() {
		return c.recvSlow(m)
	}
	err := c.current.stream.RecvMsg(m)
	if err == nil && c.desc.ServerStreams {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended(err)
}

func (c *clientStream) recvSlow(m any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		a := c.current
		switch {
		case c.done && c.err == nil:
			return a.recv(m) // the stack is content; what does gRPC say?
		case c.done:
			return c.err
		case c.sealed || !a.over && !a.learning:
			if again, err := c.recvOn(a, m); !again {
				return err
			}
		default:
			c.wait()
		}
	}
}

// recvOn receives m from a. It returns true if a has ended before anything of
// the stream has reached the caller: m is to be received from what follows. It
// requires c.mu.
func (c *clientStream) recvOn(a *attempt, m any) (again bool, err error) {
	var was any
	if !c.sealed {
		was = snapshot(m)
	}
	err = a.recv(m)
	if err == nil || err == io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		c.seal()
	}
	if c.sealed {
		return false, c.received(err)
	}
	a.finish(err)
	restoreReply(m, was) // a response may have come in front of the error
	return true, nil
}

// received returns what RecvMsg returns after its stream returned err, on a
// sealed attempt. It requires c.mu.
func (c *clientStream) received(err error) error {
	if err == nil && c.desc.ServerStreams {
		return nil
	}
	return c.ended(err)
}

// ended returns what a method returns whose stream has ended with err; nil is
// the one message of a single response. The stack comes first: its error is
// what the caller sees; if it is content, what gRPC says. It requires c.mu.
func (c *clientStream) ended(err error) error {
	c.current.finish(err)
	for !c.done {
		c.wait()
	}
	if verdict := c.verdict(); verdict != nil {
		return verdict
	}
	return err
}

// SendMsg sends a message. io.EOF says that the stream has ended, as in gRPC;
// RecvMsg says how.
func (c *clientStream) SendMsg(m any) error {
	if !c.fastSend.Load() {
		return c.sendSlow(m)
	}
	err := c.current.stream.SendMsg(m)
	if err == nil || err == io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended(err)
}

func (c *clientStream) sendSlow(m any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		a := c.current
		switch {
		case c.done, c.sealed && a.sendDead:
			return c.sendEnded()
		case !a.replaying && (c.sealed || !a.over):
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
func (c *clientStream) sendEnded() error {
	if c.desc.ClientStreams {
		return io.EOF
	}
	return nil
}

// sendOn sends m on a. It returns true if a has ended before anything of the
// stream has reached the caller: m is to be sent on what follows. It requires
// c.mu.
func (c *clientStream) sendOn(a *attempt, m any) (again bool, err error) {
	if c.sealed {
		err = a.send(m)
	} else {
		again, err = c.sendAndKeep(a, m)
	}
	switch {
	case err == nil:
		return again, nil
	case err != io.EOF: //nolint:errorlint // gRPC returns it unwrapped
		c.seal()
		return false, c.ended(err)
	}
	a.sendDead = true
	if !c.sealed {
		c.learn(a)
	}
	if a.over && !c.sealed {
		return true, nil
	}
	c.seal()
	return false, c.sendEnded()
}

// sendAndKeep sends m on a, and keeps it if that succeeds. If it cannot be kept
// the stream is committed, unless m came too late: it was not even encoded for
// a, which has ended. It requires c.mu.
func (c *clientStream) sendAndKeep(a *attempt, m any) (late bool, err error) {
	c.replay.take(m)
	defer c.replay.release()
	err = a.send(m)
	encoded := c.replay.sending.encoded
	switch {
	case err != nil, c.sealed:
		return false, err
	case a.over && !encoded:
		return true, nil
	case !encoded, !c.replay.keep():
		c.seal()
	}
	return false, nil
}

// learn finds out, after SendMsg returned io.EOF, whether a is over. A RecvMsg
// that runs will know; else gRPC tells it who asks for the header, unless the
// server sent one. A RecvMsg of our own would lose a message. It requires c.mu.
func (c *clientStream) learn(a *attempt) {
	c.hear(a)
	if a.over || c.sealed {
		return
	}
	a.learning = true
	defer func() {
		a.learning = false
		c.changed.Broadcast()
	}()
	_, _ = a.header()
}

// hear waits for a RecvMsg that runs on a, as long as that may yet tell that a is
// over. It requires c.mu.
func (c *clientStream) hear(a *attempt) {
	for a.receiving && !a.over && !c.sealed {
		c.wait()
	}
}

// CloseSend closes the sending side, now or when the attempt that follows has
// caught up. It never fails and never waits.
func (c *clientStream) CloseSend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.current
	if !c.closed && !a.replaying && (c.sealed || !a.over) {
		defer a.closeSend()
	}
	c.closed = true
	return nil
}

// Header returns the header that the server sent; nil if the stream ended
// without one.
func (c *clientStream) Header() (metadata.MD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		a := c.current
		switch {
		case c.done && c.failed != nil:
			return nil, c.err // nobody was there when it failed
		case c.done && !c.sealed && c.openFailed:
			return nil, nil
		case c.done, c.sealed:
			md, err := a.header()
			return md, c.headerEnded(md, err)
		case !a.over && !a.learning:
			md, _ := a.header()
			if md == nil {
				c.hear(a) // it may have noticed the end, and be about to tell OnFinish
			}
			if md != nil || !a.over {
				c.seal()
				return md, nil
			}
		default:
			c.wait()
		}
	}
}

// headerEnded returns the error of Header: that of the stream, after the stack
// has ended, if it showed the end of the stream. It requires c.mu.
func (c *clientStream) headerEnded(md metadata.MD, err error) error {
	if err == nil && (md != nil || !c.current.over) {
		return nil
	}
	verdict := c.ended(err)
	if err == nil {
		return nil // as gRPC: RecvMsg says how the stream ended
	}
	return verdict
}

// Trailer returns the trailer that the server sent.
func (c *clientStream) Trailer() metadata.MD {
	if a := c.commit(); a != nil {
		return a.stream.Trailer()
	}
	return nil
}

// Context returns the context of the stream.
func (c *clientStream) Context() context.Context {
	if a := c.commit(); a != nil {
		return a.stream.Context()
	}
	return c.first.ctx
}

// commit seals the stream to an attempt that is not over, and returns it. It
// returns the last one if the stack has ended; nil if that did not open.
func (c *clientStream) commit() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.sealed && !c.done && c.current.over {
		c.wait()
	}
	if c.done && !c.sealed && c.openFailed {
		return nil
	}
	if !c.done {
		c.seal()
	}
	return c.current
}

// unlocked runs f without the mutex, which it requires, and counts it as
// running on a.
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

func (a *attempt) send(m any) (err error) {
	a.unlocked(func() { err = a.stream.SendMsg(m) })
	return err
}

func (a *attempt) recv(m any) (err error) {
	a.receiving = true
	defer func() { a.receiving = false }()
	a.unlocked(func() { err = a.stream.RecvMsg(m) })
	return err
}

// header asks for the header, and ends a if the answer is that a has ended.
// gRPC answers nil without an error then, and has told OnFinish; or is about to,
// if that runs on another goroutine because the context has ended.
func (a *attempt) header() (md metadata.MD, err error) {
	a.unlocked(func() { md, err = a.stream.Header() })
	switch ended := a.ctx.Err(); {
	case err != nil:
		a.finish(err)
	case md == nil && ended != nil:
		a.finish(status.FromContextError(ended).Err())
	}
	return md, err
}

// closeSend closes the sending side, unless the stream's context has ended: gRPC
// may not have noticed yet, and the server would take for a whole request what
// its caller has given up, and answer.
func (a *attempt) closeSend() {
	a.unlocked(func() {
		if a.ctx.Err() == nil || isOurs(a.stream) || a.stream.Context().Err() == nil {
			_ = a.stream.CloseSend()
		}
	})
}

// isOurs reports whether a stream is that of a stack inside. That one knows its
// context; to ask for it would commit the stream.
func isOurs(stream grpc.ClientStream) bool {
	switch s := stream.(type) {
	case *clientMessages:
		return isOurs(s.ClientStream)
	case *clientStream, *adoptedStream:
		return true
	default:
		return false
	}
}

// clientMessages is a stream whose messages pass through hooks.
type clientMessages struct {
	grpc.ClientStream

	messages MessageStream
}

func (s *clientMessages) SendMsg(m any) error { return s.messages.SendMsg(m) }
func (s *clientMessages) RecvMsg(m any) error { return s.messages.RecvMsg(m) }
