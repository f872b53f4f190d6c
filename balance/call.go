package balance

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/tried"
)

// A call is one attempt of an RPC that was sent to an endpoint. Calls are used
// again: gRPC reports the end of each pick that it used exactly once.
type call struct {
	endpoint *endpoint
	ctx      context.Context
	ticket   turret.Ticket
	passes   passes
	stream   bool
	inner    func(balancer.DoneInfo)

	done func(balancer.DoneInfo) // the method, made once
}

var calls sync.Pool

func newCall() *call {
	if c, ok := calls.Get().(*call); ok {
		return c
	}
	c := new(call)
	c.done = c.end
	return c
}

// begin notes that a call is sent to e, and returns what gRPC calls when it is
// over.
func (e *endpoint) begin(now int64, p passes, info balancer.PickInfo, record *tried.Record, inner func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	c := newCall()
	c.endpoint, c.ctx, c.passes, c.inner = e, info.Ctx, p, inner
	c.stream = record.Kind() == tried.Stream || e.policy.kinds.isStream(info.FullMethodName)
	if c.stream {
		c.ticket = e.tracker.StartStream(now)
	} else {
		c.ticket = e.tracker.Start(now)
	}
	return c.done
}

// end is called by gRPC, with a lock held, when the call is over.
func (c *call) end(d balancer.DoneInfo) {
	e, inner := c.endpoint, c.inner
	if e == nil {
		return // reported twice
	}
	now := e.policy.now()
	e.leave()
	if c.stream {
		e.endStream(c.ctx, now, c.ticket, c.passes, d)
	} else {
		o, retryAfter := outcome(c.ctx, d)
		e.tracker.Done(now, c.ticket, o, retryAfter)
		e.judge(now, c.passes, o)
		e.clock(now, c.passes, o, time.Duration(now-c.ticket.Start))
	}
	c.endpoint, c.ctx, c.inner, c.ticket.Ref = nil, nil, nil, nil
	calls.Put(c)
	if inner != nil {
		inner(d)
	}
}

// endStream is end for a stream, whose life is no latency.
func (e *endpoint) endStream(ctx context.Context, now int64, t turret.Ticket, p passes, d balancer.DoneInfo) {
	e.clock(now, p, turret.Unused, 0)
	record := tried.FromContext(ctx)
	if record.Kind() != tried.Stream || d.Err != nil || !d.BytesSent || !d.BytesReceived {
		o, retryAfter := outcome(ctx, d)
		e.tracker.Done(now, t, o, retryAfter)
		e.judge(now, p, o)
		return
	}
	// A stream that failed may say nil: gRPC forgets the failure that SendMsg
	// noticed. Whoever sent it knows how it ended, and will tell.
	e.tracker.Done(now, t, turret.Unused, 0)
	record.Await(func(err error) {
		o, _ := outcome(ctx, balancer.DoneInfo{Err: err, BytesSent: true, BytesReceived: true})
		e.judge(e.policy.now(), p, o)
	})
}

// judge tells the circuit for failures how a call went.
func (e *endpoint) judge(now int64, p passes, o turret.Outcome) {
	if v := e.failures.Leave(now, p.failures.ticket(), o); v != breaker.Unchanged {
		e.policy.heed(now, e, e.failures, v)
	}
}

// clock tells the circuit for latency how long a call took.
func (e *endpoint) clock(now int64, p passes, o turret.Outcome, took time.Duration) {
	fleet := e.policy.fleet
	// What is not an answer is no measure of latency, but it took this long.
	verdict := turret.Ignored
	if o == turret.Success {
		fleet.Observe(now, took)
		verdict = turret.Success
	}
	if o != turret.Unused && fleet.Outlier(took) {
		verdict = turret.Failure
	}
	if v := e.slowness.Leave(now, p.slowness.ticket(), verdict); v != breaker.Unchanged {
		e.policy.heed(now, e, e.slowness, v)
	}
}

// outcome reads what gRPC says about the end of a call, and for how long the
// endpoint asked to be left alone.
func outcome(ctx context.Context, d balancer.DoneInfo) (turret.Outcome, time.Duration) {
	switch {
	case d.Err == nil && !d.BytesSent:
		return turret.Unused, 0 // the connection was lost between pick and use
	case d.Err == nil && !d.BytesReceived:
		return turret.Failure, 0 // an answer has headers: a stream that was cut
	case d.Err == nil:
		return turret.Success, 0
	}
	o := interceptors.Classify(ctx, nil, nil, d.Err)
	if o != turret.Failure && o != turret.Overload {
		return o, 0
	}
	after, said := askedFor(d)
	if said && status.Code(d.Err) == codes.Unavailable {
		o = turret.Overload
	}
	return o, after
}

// askedFor returns for how long the endpoint asked to be left alone, in the
// trailer or in the status.
func askedFor(d balancer.DoneInfo) (time.Duration, bool) {
	if values := d.Trailer["grpc-retry-pushback-ms"]; len(values) > 0 {
		ms, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
			return 0, true // do not come back; for how long is not said
		}
		return time.Duration(ms) * time.Millisecond, true
	}
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(d.Err, &s) {
		return 0, false
	}
	for _, detail := range s.GRPCStatus().Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return max(0, info.GetRetryDelay().AsDuration()), true
		}
	}
	return 0, false
}
