package interceptors

import (
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// A replay is what a streamClient keeps so that an attempt can be repeated: the
// messages that were sent, as encoded bytes, because callers use message
// structs again. It is a codec around the one that the stream would use, which
// sees every message as it is encoded: nothing is encoded twice.
//
// What is kept is what the layer was given that repeats the stream. Layers and
// interceptors inside it may replace messages; they see those that are sent
// again as messages of the same type, and may replace them again.
//
// Its fields are guarded by the mutex of the streamClient.
type replay struct {
	of        *streamClient
	inner     codec
	name      string
	limit     int        // of size, and of what the messages cost beside their bytes
	variables []variable // where callers want header, trailer and peer, with their first values
	outside   *wrapping  // what layers outside the one that repeats wrapped

	sending  sending // between take or retake and release
	messages []kept
	size     int // of the messages' bytes
	few      [4]kept
}

// sending is the message that is being sent.
type sending struct {
	message any
	again   bool            // it was sent before
	encoded bool            // data are its bytes
	data    mem.BufferSlice // ours if not again
}

// kept is a message that was sent.
type kept struct {
	data        mem.BufferSlice
	messageType any
}

// repeat prepares the stream for more than one attempt. Of several layers that
// repeat it, the outermost prepares it.
// A stream whose first attempt has begun cannot be prepared any more, since what was
// sent has not been kept. wrapping is remembered as it is at the layer that repeats,
// to know which wrappings are outside of it.
func (c *streamClient) repeat(rpc *RPC, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replay != nil || c.attempts > 0 {
		return
	}
	r := &replay{of: c, limit: limit, outside: rpc.wrapping()}
	r.variables = appendVariables(nil, c.opts)
	if rpc.more != nil {
		r.variables = appendVariables(r.variables, rpc.more.options)
	}
	r.messages = r.few[:0]
	c.replay = r
}

// restore puts the caller's variables back, so that they do not show the attempt
// that is over if the next one never opens.
func (c *streamClient) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replay != nil && !c.committed {
		storeAll(c.replay.variables)
	}
}

// prepare gives the options of a what a repeated stream needs: variables of its
// own to write to, as gRPC may write to those of an attempt that an interceptor
// ended when the next one is under way; and the codec that keeps messages. It
// requires the mutex.
func (r *replay) prepare(a *attempt) {
	a.variables = slices.Clone(r.variables)
	redirect(a.opts, a.variables)
	// If the stream's codec is not known gRPC will say so itself.
	if r.inner, r.name = chosenCodec(a.opts); r.inner != nil {
		a.opts = append(a.opts, grpc.ForceCodecV2(r))
	}
}

// wrappedOutside returns the wrappings that each attempt must leave out. It may be
// called on a nil replay: nothing is left out then.
func (r *replay) wrappedOutside() *wrapping {
	if r == nil {
		return nil
	}
	return r.outside
}

// Name returns the name of the codec that the caller chose; empty if none was
// chosen, so that the content-type stays as it would be.
func (r *replay) Name() string { return r.name }

// Unmarshal is the stream's codec's.
func (r *replay) Unmarshal(data mem.BufferSlice, v any) error { return r.inner.Unmarshal(data, v) }

// Marshal encodes v. Until the stream is committed it also keeps a reference to
// the bytes, which it shares with gRPC, or returns those that were kept.
// gRPC calls it on the goroutine of SendMsg, with no lock of c held: the mutex is taken
// for short moments, to read and to write what is being sent. Bytes are counted: each
// holder of a reference frees its own.
func (r *replay) Marshal(v any) (mem.BufferSlice, error) {
	if r.of.fastSend.Load() {
		return r.inner.Marshal(v)
	}
	sent := r.current()
	same := sameMessage(v, sent.message)
	if same && sent.again {
		sent.data.Ref()
		return sent.data, nil
	}
	data, err := r.inner.Marshal(v)
	if err != nil || sent.message == nil || sent.again {
		return data, err
	}
	if same {
		data.Ref()
		r.capture(data)
	} else if original := r.original(sent.message); original != nil {
		r.capture(original) // v took its place
	}
	return data, nil
}

// original encodes m, which something inside has replaced, so that gRPC does not
// encode it. It returns nil if that fails: the codec, which is the user's, may
// return an error or panic.
func (r *replay) original(m any) (data mem.BufferSlice) {
	defer func() {
		if recover() != nil {
			data = nil
		}
	}()
	data, err := r.inner.Marshal(m)
	if err != nil {
		return nil
	}
	if data == nil {
		data = mem.BufferSlice{} // empty, and not nil
	}
	return data
}

// current returns what is being sent.
func (r *replay) current() sending {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	return r.sending
}

// capture takes over data, the bytes of the message that is being sent.
// The earlier bytes are freed where an interceptor has sent several messages for one:
// what is kept is what the caller sent last.
func (r *replay) capture(data mem.BufferSlice) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.sending.data.Free() // of a message that became several
	r.sending.encoded, r.sending.data = true, data
}

// take says that m is about to be sent for the first time. It requires the
// mutex, as does what follows.
func (r *replay) take(m any) { r.sending = sending{message: m} }

// retake says that m is about to be sent, as what k is.
func (r *replay) retake(m any, k kept) {
	r.sending = sending{message: m, again: true, encoded: true, data: k.data}
}

// entryCost is what a kept message takes beside its bytes: its place in the list,
// which grows ahead of its length, and what holds the bytes together. Measured with
// empty messages, which take 85 bytes each: see TestReplayLimitBoundsMemory.
const entryCost = 96

// keep keeps the message that was sent, whose bytes are known. It reports false
// if too much is kept: as many bytes as the limit, and as much again for what the
// messages cost beside their bytes, are not too much.
// s.data is handed to the list, which frees it in drop; release must not.
func (r *replay) keep() bool {
	s := &r.sending
	r.size += s.data.Len()
	r.messages = append(r.messages, kept{tight(s.data), messageType(s.message)})
	s.data = nil
	return r.size <= r.limit && (len(r.messages)-len(r.few))*entryCost <= r.limit
}

// tight returns data, or a copy of it, for which it frees data, if data holds more
// than twice the memory that it needs: gRPC's pools have buffers of a few sizes
// only, so that 40 KiB take a megabyte.
// The copy belongs to no pool. 1 KiB more is always allowed: copying small messages
// would cost more than they hold.
func tight(data mem.BufferSlice) mem.BufferSlice {
	held := 0
	for _, b := range data {
		held += cap(b.ReadOnlyData())
	}
	if held <= 2*data.Len()+1<<10 {
		return data
	}
	own := mem.BufferSlice{mem.SliceBuffer(data.Materialize())}
	data.Free()
	return own
}

// release ends what take or retake began.
func (r *replay) release() {
	if !r.sending.again {
		r.sending.data.Free()
	}
	r.sending = sending{}
}

// drop gives all bytes back.
// It requires the mutex. After it the codec keeps nothing: the stream is committed, or
// over.
func (r *replay) drop() {
	if r == nil {
		return
	}
	for _, k := range r.messages {
		k.data.Free()
	}
	clear(r.few[:])
	r.messages, r.size = nil, 0
}

// replayInto sends again on a what was sent before, and closes its sending side
// if the caller has closed it. RecvMsg runs on a meanwhile: a server that
// answers every message would otherwise stop reading before the last one.
// SendMsg waits. It requires c.mu.
func (c *streamClient) replayInto(a *attempt) {
	if !a.replaying {
		return
	}
	for i := 0; i < len(c.replay.messages) && !a.ended && !a.sendDead; i++ {
		c.sendAgain(a, c.replay.messages[i])
	}
	if c.halfClosed && !a.ended {
		a.closeSend()
	}
	a.replaying = false
	if c.committed {
		c.sendFast()
	}
	c.changed.Broadcast()
}

// sendAgain sends a kept message on a, without c.mu, which it requires. An error
// needs no further report: a local one has ended the attempt, and io.EOF is
// looked into.
// Messages are decoded again for interceptors inside. What gRPC sends is the bytes
// that were kept: retake makes Marshal return them.
func (c *streamClient) sendAgain(a *attempt, k kept) {
	m := c.replay.decoded(k)
	c.replay.retake(m, k)
	defer c.replay.release()
	err := a.send(m)
	if err == nil {
		return
	}
	a.sendDead = true
	if err != io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		a.end(err)
		return
	}
	c.learnEnd(a)
}

// decoded returns a message that is k, for layers and interceptors inside that look
// at messages; what is sent is k's bytes in any case. It requires the mutex, and
// releases it meanwhile: the codec and the message's type are the user's.
func (r *replay) decoded(k kept) any {
	r.of.mu.Unlock()
	defer r.of.mu.Lock()
	if m := r.decode(k); m != nil {
		return m
	}
	return &encoded{k.data}
}

// decode returns a message that is k, or nil if there can be none. A message whose
// zero value cannot be decoded into may fail by panicking: one of a type that is
// only known at run time, or that wraps an interface.
func (r *replay) decode(k kept) (m any) {
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	m = newOf(k.messageType)
	if m == nil || r.inner.Unmarshal(k.data, m) != nil {
		return nil
	}
	return m
}
