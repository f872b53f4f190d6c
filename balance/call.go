package balance

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/pushback"
)

// A call is one attempt of an RPC that was sent to an endpoint. Calls are reused,
// so an end must be reported once; gRPC does so (balancer.PickResult.Done).
type call struct {
	visit

	// The endpoint that the call was sent to, the context of the pick, and the Done of the
	// child's picker, which may be nil.
	endpoint *endpoint
	ctx      context.Context
	inner    func(balancer.DoneInfo)

	done func(balancer.DoneInfo) // the method, made once
}

// calls has the calls that are over. What gRPC holds of a call is its method done alone,
// which it calls once.
var calls sync.Pool

// newCall returns a call whose done is made: a method value costs an allocation, which
// a call that is used again has had before.
func newCall() *call {
	if c, ok := calls.Get().(*call); ok {
		return c
	}
	c := new(call)
	c.done = c.end
	return c
}

// end is called by gRPC, with a lock held, when the call is over.
// What it needs is copied before c goes back to the pool, where another pick may take
// it at once. inner is called last: it may take long.
func (c *call) end(d balancer.DoneInfo) {
	e, inner := c.endpoint, c.inner
	now := e.pool.now()
	if c.stream {
		endStream(c.ctx, e, now, &c.visit, &d)
	} else {
		o, retryAfter := outcome(c.ctx, &d, e.config.Load().classify)
		e.finish(&c.visit, now, o, retryAfter)
	}
	c.endpoint, c.ctx, c.inner, c.ticket.Ref, c.tracker = nil, nil, nil, nil, nil
	calls.Put(c)
	if inner != nil {
		inner(d)
	}
}

// endStream is end for a stream.
// Without a record of a stream, or where gRPC reports an error or a stream that never
// began, what gRPC says is the end.
func endStream(ctx context.Context, e *endpoint, now int64, v *visit, d *balancer.DoneInfo) {
	record := attempts.FromContext(ctx)
	if record.Kind() != attempts.Stream || d.Err != nil || !d.BytesSent || !d.BytesReceived {
		o, retryAfter := outcome(ctx, d, e.config.Load().classify)
		e.finish(v, now, o, retryAfter)
		return
	}
	// The error of a failed stream may be nil: gRPC forgets the failure that
	// SendMsg noticed. The sender of the stream calls End with it.
	e.depart(v, now, turret.Unused, 0)
	e.clock(now, v.passes.slowness, turret.Unused, 0)
	// v is not used after endStream has returned: what is needed of it is copied.
	pass := v.passes.failures
	record.Await(func(err error) {
		o, _ := outcome(ctx, &balancer.DoneInfo{Err: err, BytesSent: true, BytesReceived: true}, e.config.Load().classify)
		e.judge(e.pool.now(), pass, o)
	})
}

// outcome reads what gRPC says about the end of a call, and for how long the
// endpoint asked to be left alone.
// DoneInfo without an error says three things: that nothing was sent, that no header
// came back, or success. The classifier is asked for the rest. A server that says when
// to come back is full, whatever code it has chosen: an UNAVAILABLE with a pushback is
// an overload.
func outcome(ctx context.Context, d *balancer.DoneInfo, classify Classifier) (turret.Outcome, time.Duration) {
	switch {
	case d.Err == nil && !d.BytesSent:
		return turret.Unused, 0 // the connection was lost between pick and use
	case d.Err == nil && !d.BytesReceived:
		return turret.Failure, 0 // an answer has headers: a stream that was cut
	case d.Err == nil:
		return classify(ctx, nil), 0
	}
	o := classify(ctx, d.Err)
	if o != turret.Failure && o != turret.Overload {
		return o, 0
	}
	after, said := askedFor(d)
	if after, pushed := pushback.InTrailer(d.Trailer); pushed && after < 0 {
		said = false // its own retries were in vain: that is no overload
	}
	if said && status.Code(d.Err) == codes.Unavailable {
		o = turret.Overload
	}
	return o, after
}

// askedFor returns for how long the endpoint asked to be left alone, in the
// trailer or in the status, and whether it did. One that says not to come back
// does not say for how long: 0.
func askedFor(d *balancer.DoneInfo) (time.Duration, bool) {
	after, said := pushback.InTrailer(d.Trailer)
	if !said {
		after, said = pushback.InStatus(status.Convert(d.Err))
	}
	return max(0, after), said
}
