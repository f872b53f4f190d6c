package interceptors

import (
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// A replay is what a clientStream keeps so that an attempt can be repeated: the
// messages that were sent, as encoded bytes, because callers use message
// structs again. It is a codec around the one that the stream would use, which
// sees every message as it is encoded: nothing is encoded twice. Its fields are
// guarded by the mutex of the clientStream, captured by SendMsg's being called
// by one goroutine at a time.
type replay struct {
	of      *clientStream
	inner   codec
	name    string
	limit   int       // of size
	targets []target  // where the caller wants header, trailer and peer
	outside *wrapping // what layers outside the one that repeats wrapped

	captured mem.BufferSlice // the message that SendMsg encoded last
	messages []mem.BufferSlice
	size     int // of messages, in bytes
	few      [4]mem.BufferSlice
}

// codec is what gRPC's several kinds of codec have in common.
type codec interface {
	Marshal(v any) (mem.BufferSlice, error)
	Unmarshal(data mem.BufferSlice, v any) error
}

// repeat prepares the stream for more than one attempt.
func (c *clientStream) repeat(rpc *RPC, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replay != nil || c.attempts > 0 {
		return
	}
	r := &replay{of: c, limit: limit, outside: rpc.wrapping()}
	r.inner, r.name = chosenCodec(rpc.options(c.opts, 0))
	r.targets = appendTargets(nil, c.opts)
	r.messages = r.few[:0]
	c.replay = r
}

// restore puts the caller's variables back, so that they do not show the attempt
// that is over if the next one never opens.
func (c *clientStream) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replay != nil && c.last != nil && !c.sealed {
		c.replay.restore(c.last)
	}
}

// restore puts the caller's variables back to what they were before last, unless
// gRPC may still be writing to them.
func (r *replay) restore(last *attempt) {
	if last.reported || last.stream == nil {
		restoreTargets(r.targets)
	}
}

func (r *replay) wrappedOutside() *wrapping {
	if r == nil {
		return nil
	}
	return r.outside
}

// keep returns opts with the option that has messages kept. If the stream's
// codec is not known gRPC will say so itself.
func (r *replay) keep(opts []grpc.CallOption) []grpc.CallOption {
	if r.inner == nil {
		return opts
	}
	return append(opts, grpc.ForceCodecV2(r))
}

// Name returns the name of the codec that the caller chose; empty if none was
// chosen, so that the content-type stays as it would be.
func (r *replay) Name() string { return r.name }

// Unmarshal is the stream's codec's.
func (r *replay) Unmarshal(data mem.BufferSlice, v any) error { return r.inner.Unmarshal(data, v) }

// Marshal encodes v and keeps a reference to the bytes, which it shares with
// gRPC.
func (r *replay) Marshal(v any) (mem.BufferSlice, error) {
	if again, ok := v.(*encoded); ok {
		again.data.Ref()
		return again.data, nil
	}
	data, err := r.inner.Marshal(v)
	if err == nil && !r.of.fastSend.Load() {
		r.release()
		data.Ref()
		r.captured = data
	}
	return data, err
}

// An encoded message marshals to the bytes it already is.
type encoded struct{ data mem.BufferSlice }

// release gives back what was captured.
func (r *replay) release() {
	if r.captured != nil {
		r.captured.Free()
		r.captured = nil
	}
}

// sent keeps the message that was captured, after it was sent. It reports false
// if there is none or too much is kept. It requires the mutex.
func (r *replay) sent() bool {
	if r.captured == nil {
		return false
	}
	r.messages = append(r.messages, r.captured)
	r.size += r.captured.Len()
	r.captured = nil
	return r.size <= r.limit
}

// drop gives all bytes back. It requires the mutex.
func (r *replay) drop() {
	if r == nil {
		return
	}
	for _, m := range r.messages {
		m.Free()
	}
	clear(r.few[:])
	r.messages, r.size = nil, 0
}

// replayInto sends again on a what was sent before, and closes its sending side
// if the caller has closed it. RecvMsg runs on a meanwhile: a server that
// answers every message would otherwise stop reading before the last one.
// SendMsg waits. It requires c.mu.
func (c *clientStream) replayInto(a *attempt) {
	if !a.replaying {
		return
	}
	for i := 0; i < len(c.replay.messages) && !a.over && !a.sendDead; i++ {
		c.sendAgain(a, c.replay.messages[i])
	}
	if c.closed && !a.over {
		a.closeSend()
	}
	a.replaying = false
	if c.sealed {
		c.sendFast()
	}
	c.changed.Broadcast()
}

// sendAgain sends a kept message on a, without c.mu, which it requires. An error
// needs no further report: a local one has ended the attempt, and io.EOF is
// looked into.
func (c *clientStream) sendAgain(a *attempt, data mem.BufferSlice) {
	err := a.send(&encoded{data})
	if err == nil {
		return
	}
	a.sendDead = true
	if err != io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		a.finish(err)
		return
	}
	c.learn(a)
}

// chosenCodec returns the codec that opts choose, as gRPC would, and its name
// if the choice gives the stream a content-subtype. It returns nil if opts name
// a codec that does not exist.
func chosenCodec(opts []grpc.CallOption) (c codec, name string) {
	var subtype string
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.ForceCodecV2CallOption:
			c, name = o.CodecV2, o.CodecV2.Name()
		case grpc.ForceCodecCallOption:
			c, name = bytesCodec{o.Codec}, o.Codec.Name()
		case grpc.CustomCodecCallOption:
			c, name = bytesCodec{o.Codec}, ""
		case grpc.ContentSubtypeCallOption:
			subtype = o.ContentSubtype
		}
	}
	if c != nil {
		return c, name
	}
	if subtype == "" {
		return registeredCodec(proto.Name), ""
	}
	return registeredCodec(subtype), subtype
}

func registeredCodec(name string) codec {
	if c := encoding.GetCodec(name); c != nil {
		return bytesCodec{c}
	}
	if c := encoding.GetCodecV2(name); c != nil {
		return c
	}
	return nil
}

// bytesCodec makes a codec of one of the older kinds.
type bytesCodec struct {
	inner interface {
		Marshal(v any) ([]byte, error)
		Unmarshal(data []byte, v any) error
	}
}

func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := c.inner.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

func (c bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return c.inner.Unmarshal(data.Materialize(), v)
}
