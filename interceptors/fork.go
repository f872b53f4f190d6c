package interceptors

import (
	"slices"

	"google.golang.org/grpc"
)

// fork returns a copy of rpc for an attempt that runs beside those of c, or false
// if there can be none. It has a leaf of its own, and so a reply of its own, and
// variables of its own for what call options write. It may be called while
// attempts run, and c must be prepared for repetition.
func (c *unaryClient) fork(rpc *RPC, attempt int) (*RPC, bool) {
	reply := newMessage(c.reply)
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
	fork.opts = r.divert(c.opts, c.repetition.targets)
	if rpc.more != nil && len(rpc.more.options) > 0 {
		more := *rpc.more
		more.options = r.divert(more.options, nil)
		fork.more = &more
	}
	r.init(fork.opts, fork.added(), reply, c.repetition.of)
	r.forked = true
	return &fork.RPC, true
}

// divert returns opts with variables of r's own in the place of those that they
// write to. was holds the values of these before the RPC, in the same order; an
// attempt may be writing to them now.
func (r *repetition) divert(opts []grpc.CallOption, was []target) []grpc.CallOption {
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
	return opts
}

// publish writes what r's attempts have left in the variables of its own to those
// that they stand for. No attempt runs any more. (The reply is the attempt's
// result, and on its way to the caller.)
func (r *repetition) publish() {
	for _, t := range r.diverted {
		t.set()
	}
}
