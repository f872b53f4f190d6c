package interceptors

import (
	"reflect"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// fork returns a copy of rpc for an attempt that runs beside those of c, or false
// if there can be none. It has a leaf of its own, and so a reply of its own, and
// variables of its own for what call options write. It may be called while
// attempts run, and c must be prepared for repetition.
func (c *unaryClient) fork(rpc *RPC, attempt int) (*RPC, bool) {
	reply := c.emptyReply()
	if reply == nil {
		return nil, false
	}
	if was := c.repetition.replyWas; was != nil {
		restoreReply(reply, was)
	}
	f := &struct {
		client unaryClient
		space  repetition
	}{client: unaryClient{RPC: *rpc, stack: c.stack, reply: reply, conn: c.conn, invoker: c.invoker}}
	fork, r := &f.client, &f.space
	fork.leaf, fork.repetition = fork, r
	r.variables = new(variables)
	fork.Attempt += attempt
	was := c.repetition.targets
	fork.opts, was = r.divert(c.opts, was)
	if len(rpc.added()) > 0 {
		more := *rpc.more
		more.options, _ = r.divert(more.options, was)
		fork.more = &more
	}
	r.init(fork.opts, fork.added(), reply, c.repetition.of)
	r.forked = true
	return &fork.RPC, true
}

// learnType notes the type of c's reply, for emptyReply. A message of protobuf
// keeps it in itself, and so it cannot be asked while an attempt writes to it.
func (c *unaryClient) learnType() {
	m, ok := c.reply.(proto.Message)
	if ok && c.repetition.message == nil && m.ProtoReflect().IsValid() {
		c.repetition.message = m.ProtoReflect().Type()
	}
}

// emptyReply returns a new reply, or nil if there can be none beside the caller's:
// nothing can be put into that either. It does not look into the caller's.
func (c *unaryClient) emptyReply() any {
	if c.repetition.message != nil {
		return c.repetition.message.New().Interface()
	}
	v := reflect.ValueOf(c.reply)
	if _, ok := c.reply.(proto.Message); ok || v.Kind() != reflect.Pointer || v.IsNil() {
		return nil
	}
	return newMessage(c.reply)
}

// divert returns opts with variables of r's own in the place of those that they
// write to. was begins with the values that these had before the RPC, as far as
// they are known, in the same order; an attempt may be writing to them now. The
// rest of it is returned.
func (r *repetition) divert(opts []grpc.CallOption, was []target) (_ []grpc.CallOption, rest []target) {
	opts = slices.Clone(opts)
	for i, o := range opts {
		t := new(target)
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			t.md = o.HeaderAddr
			opts[i] = grpc.Header(&t.mdValue)
		case grpc.TrailerCallOption:
			t.md = o.TrailerAddr
			opts[i] = grpc.Trailer(&t.mdValue)
		case grpc.PeerCallOption:
			t.peer = o.PeerAddr
			opts[i] = grpc.Peer(&t.peerValue)
		default:
			continue
		}
		if len(was) > 0 {
			t.mdValue, t.peerValue, was = was[0].mdValue, was[0].peerValue, was[1:]
		}
		r.diverted = append(r.diverted, t)
	}
	return opts, was
}

// publish writes what r's attempts have left in the variables of its own to those
// that they stand for. No attempt runs any more. (The reply is the attempt's
// result, and on its way to the caller.)
func (r *repetition) publish() {
	for _, t := range r.diverted {
		t.set()
	}
}
