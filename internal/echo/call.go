package echo

import (
	"context"
	"math"
	"strconv"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// theEnd is the count of messages at which every planned failure is due.
const theEnd = math.MaxInt64

// request is what the requests of the four methods have in common.
type request interface {
	GetPlan() *echov1.Plan
	GetPayload() []byte
}

// sender sends one response of the type of its method.
type sender func(payload []byte, r *echov1.Report) error

// call is one RPC while its handler runs. It belongs to the handler's goroutine.
type call struct {
	ctx      context.Context
	server   string
	previous int32                // attempts before this one, from the client's metadata
	timeLeft *durationpb.Duration // at the start; nil without a deadline

	plan     *echov1.Plan // the last one received; nil is the empty plan
	payload  []byte       // of the last request
	received int64
	sent     int64
	headed   bool // the headers are on their way: no more can be set
}

func (s *Server) begin(ctx context.Context) *call {
	c := &call{ctx: ctx, server: s.name, previous: previousAttempts(ctx)}
	if deadline, ok := ctx.Deadline(); ok {
		c.timeLeft = durationpb.New(time.Until(deadline))
	}
	return c
}

// receive takes note of a request and of the plan that it may bring.
func (c *call) receive(req request) error {
	c.received++
	c.payload = req.GetPayload()
	plan := req.GetPlan()
	if plan == nil {
		return nil
	}
	if err := plan.Validate(); err != nil {
		return status.Errorf(codes.InvalidArgument, "echo: %v", err)
	}
	c.plan = plan
	return c.sendMetadata()
}

// sendMetadata sends the headers and trailers of the plan.
func (c *call) sendMetadata() error {
	if err := grpc.SetTrailer(c.ctx, pairs(c.plan.GetTrailers())); err != nil {
		return err
	}
	if c.headed {
		return nil
	}
	if err := grpc.SetHeader(c.ctx, pairs(c.plan.GetHeaders())); err != nil {
		return err
	}
	if !c.plan.GetFlushHeaders() {
		return nil
	}
	c.headed = true
	return grpc.SendHeader(c.ctx, nil)
}

// respond sends the responses of a stream's plan, and fails as soon
// as the planned number has been sent.
func (c *call) respond(send sender) error {
	for range c.responses() {
		if err := c.fail(c.sent); err != nil {
			return err
		}
		if err := c.respondOnce(send); err != nil {
			return err
		}
	}
	return c.fail(c.sent)
}

// answer sends the one response of a method that has one, unless the RPC fails.
func (c *call) answer(send sender) error {
	if err := c.fail(theEnd); err != nil {
		return err
	}
	return c.respondOnce(send)
}

func (c *call) respondOnce(send sender) error {
	if err := c.wait(); err != nil {
		return err
	}
	c.sent++
	c.headed = true
	payload := c.payload
	if size := c.plan.GetPayloadSize(); size > 0 {
		payload = make([]byte, size)
	}
	return send(payload, &echov1.Report{
		Server:           c.server,
		Received:         c.received,
		Sent:             c.sent,
		PreviousAttempts: c.previous,
		TimeLeft:         c.timeLeft,
	})
}

// fail returns the planned failure if it is due after that many messages, and
// nil if none is.
func (c *call) fail(messages int64) error {
	f := c.plan.GetFailure()
	if f == nil || messages < f.GetAfter() || f.GetAttempts() > 0 && c.previous >= f.GetAttempts() {
		return nil
	}
	if err := c.wait(); err != nil {
		return err
	}
	if f.GetPanic() != "" {
		panic(f.GetPanic())
	}
	return status.FromProto(&spb.Status{Code: f.GetCode(), Message: f.GetMessage(), Details: f.GetDetails()}).Err()
}

// wait lets the planned delay pass, or returns the RPC's context error if that
// comes first.
func (c *call) wait() error {
	d := c.plan.GetDelay().AsDuration()
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// responses is how many responses a stream sends for a request.
func (c *call) responses() int32 {
	if c.plan == nil || c.plan.Responses == nil {
		return 1
	}
	return c.plan.GetResponses()
}

// previousAttempts reads the header in which a client counts its earlier
// attempts.
func previousAttempts(ctx context.Context) int32 {
	values := metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts")
	if len(values) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(values[0], 10, 32)
	if len(values) > 1 || err != nil || n < 0 {
		return -1
	}
	return int32(n)
}

func pairs(entries []*echov1.MetadataEntry) metadata.MD {
	md := metadata.MD{}
	for _, e := range entries {
		md.Append(e.GetKey(), e.GetValues()...)
	}
	return md
}
