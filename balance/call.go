package balance

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/tried"
)

// begin notes that a call is sent to e, and returns what gRPC calls when it is
// over.
func (p *policy) begin(now int64, e *endpoint, pass passes, info balancer.PickInfo, record *tried.Record, inner func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	stream := record.Kind() == tried.Stream || p.kinds.isStream(info.FullMethodName)
	var ticket turret.Ticket
	if stream && e.streams != nil {
		ticket = e.streams.StartStream(now)
	} else {
		ticket = e.tracker.Start(now)
	}
	ctx := info.Ctx
	return func(d balancer.DoneInfo) {
		p.end(ctx, e, ticket, pass, stream, record, d)
		if inner != nil {
			inner(d)
		}
	}
}

// end is called once for each call that was begun, by gRPC with a lock held.
func (p *policy) end(ctx context.Context, e *endpoint, t turret.Ticket, pass passes, stream bool, record *tried.Record, d balancer.DoneInfo) {
	now := p.now()
	e.inflight.Add(-1)
	if stream && record.Kind() == tried.Stream && d.Err == nil && d.BytesReceived {
		// A stream that failed may say nil; who sent it knows and will tell.
		e.tracker.Done(now, t, turret.Unused, 0)
		e.slowness.Leave(now, pass.slowness.ticket(), turret.Unused, 0)
		record.Await(func(err error) {
			o, _ := outcome(ctx, balancer.DoneInfo{Err: err, BytesSent: true, BytesReceived: true})
			p.judge(p.now(), e, pass, o)
		})
		return
	}
	o, retryAfter := outcome(ctx, d)
	e.tracker.Done(now, t, o, retryAfter)
	p.judge(now, e, pass, o)
	latency := o
	if stream {
		latency = turret.Unused // the life of a stream is not a latency
	}
	p.clock(now, e, pass, latency, time.Duration(now-t.Start))
}

// judge tells the circuit for failures how a call went.
func (p *policy) judge(now int64, e *endpoint, pass passes, o turret.Outcome) {
	p.heed(now, e, e.failures, e.failures.Leave(now, pass.failures.ticket(), o, e.config.random()))
}

// clock tells the circuit for latency how long a call took.
func (p *policy) clock(now int64, e *endpoint, pass passes, o turret.Outcome, took time.Duration) {
	// What is not an answer is no measure of latency, but it took this long.
	verdict := turret.Ignored
	if o == turret.Success {
		p.fleet.Observe(now, took)
		verdict = turret.Success
	}
	if o != turret.Unused && p.fleet.Outlier(took) {
		verdict = turret.Failure
	}
	p.heed(now, e, e.slowness, e.slowness.Leave(now, pass.slowness.ticket(), verdict, e.config.random()))
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
