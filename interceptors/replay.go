package interceptors

import (
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// A replay is what a clientStream keeps so that an attempt can be repeated: the
// messages that were sent, as encoded bytes, because callers use message
// structs again. It is a codec around the one that the stream would use, which
// sees every message as it is encoded: nothing is encoded twice.
//
// What is kept is what the layer was given that repeats the stream. Layers and
// interceptors inside it may replace messages; they see those that are sent
// again as messages of the same type, and may replace them again.
//
// Its fields are guarded by the mutex of the clientStream.
type replay struct {
	of      *clientStream
	inner   codec
	name    string
	limit   int       // of size
	targets []target  // where callers want header, trailer and peer, with their first values
	outside *wrapping // what layers outside the one that repeats wrapped

	sending  sending // between take or retake and release
	messages []kept
	size     int // of messages, in bytes
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

// codec is what gRPC's several kinds of codec have in common.
type codec interface {
	Marshal(v any) (mem.BufferSlice, error)
	Unmarshal(data mem.BufferSlice, v any) error
}

// repeat prepares the stream for more than one attempt. Of several layers that
// repeat it, the outermost prepares it.
func (c *clientStream) repeat(rpc *RPC, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replay != nil || c.attempts > 0 {
		return
	}
	r := &replay{of: c, limit: limit, outside: rpc.wrapping()}
	r.targets = appendTargets(nil, c.opts)
	if rpc.more != nil {
		r.targets = appendTargets(r.targets, rpc.more.options)
	}
	r.messages = r.few[:0]
	c.replay = r
}

// restore puts the caller's variables back, so that they do not show the attempt
// that is over if the next one never opens.
func (c *clientStream) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replay != nil && !c.sealed {
		setTargets(c.replay.targets)
	}
}

// prepare gives the options of a what a repeated stream needs: variables of its
// own to write to, as gRPC may write to those of an attempt that an interceptor
// ended when the next one is under way; and the codec that keeps messages. It
// requires the mutex.
func (r *replay) prepare(a *attempt) {
	a.targets = slices.Clone(r.targets)
	redirect(a.opts, a.targets)
	// If the stream's codec is not known gRPC will say so itself.
	if r.inner, r.name = chosenCodec(a.opts); r.inner != nil {
		a.opts = append(a.opts, grpc.ForceCodecV2(r))
	}
}

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
	} else if original, err := r.inner.Marshal(sent.message); err == nil {
		r.capture(original) // v took its place
	}
	return data, nil
}

// current returns what is being sent.
func (r *replay) current() sending {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	return r.sending
}

// capture takes over data, the bytes of the message that is being sent.
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

// keep keeps the message that was sent, whose bytes are known. It reports false
// if too much is kept.
func (r *replay) keep() bool {
	s := &r.sending
	r.messages = append(r.messages, kept{s.data, messageType(s.message)})
	r.size += s.data.Len()
	s.data = nil
	return r.size <= r.limit
}

// release ends what take or retake began.
func (r *replay) release() {
	if !r.sending.again {
		r.sending.data.Free()
	}
	r.sending = sending{}
}

// drop gives all bytes back.
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
func (c *clientStream) sendAgain(a *attempt, k kept) {
	m := c.replay.decoded(k)
	c.replay.retake(m, k)
	defer c.replay.release()
	err := a.send(m)
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

// decoded returns a message that is k, for those between here and the codec that
// look at messages. It releases the mutex, which it requires: codecs are not
// ours.
func (r *replay) decoded(k kept) any {
	r.of.mu.Unlock()
	defer r.of.mu.Lock()
	m := newOf(k.messageType)
	if m == nil || r.inner.Unmarshal(k.data, m) != nil {
		return &encoded{k.data}
	}
	return m
}

// An encoded message stands for one that cannot be decoded.
type encoded struct{ data mem.BufferSlice }

func (e *encoded) String() string { return fmt.Sprintf("message of %d bytes", e.data.Len()) }

// redirect has opts write to the values of targets instead of to the variables.
func redirect(opts []grpc.CallOption, targets []target) {
	for i, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			if t := targetOf(targets, o.HeaderAddr, nil); t != nil {
				opts[i] = grpc.Header(&t.mdValue)
			}
		case grpc.TrailerCallOption:
			if t := targetOf(targets, o.TrailerAddr, nil); t != nil {
				opts[i] = grpc.Trailer(&t.mdValue)
			}
		case grpc.PeerCallOption:
			if t := targetOf(targets, nil, o.PeerAddr); t != nil {
				opts[i] = grpc.Peer(&t.peerValue)
			}
		}
	}
}

func targetOf(targets []target, md *metadata.MD, p *peer.Peer) *target {
	for i := range targets {
		if targets[i].md == md && targets[i].peer == p {
			return &targets[i]
		}
	}
	return nil
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
