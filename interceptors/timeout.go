package interceptors

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

// Timeout returns a [Layer] that bounds the whole RPC by d, or each attempt
// when it is inside [Retry]. Time spent in a line inside it counts. When d has
// passed the RPC is cancelled, and its error, once it has ended, is
// DEADLINE_EXCEEDED with the bound in its text and reason TIMEOUT; it matches
// timeout.ErrTimeout and context.DeadlineExceeded. An earlier deadline of the
// caller stands, and costs no timer. An answer that comes late is an answer.
// It panics if d <= 0.
//
// A stream is one RPC: TIMEOUT ENDS A STREAM THAT LIVES LONGER THAN d. Leave
// long streams out:
//
//	ForKind([]Kind{KindUnary}, Timeout(d))
//	Except("/package.Service/Watch", Timeout(d))
func Timeout(d time.Duration) Layer {
	layer := timeout.LayerFunc[*RPC, any](d, expired)
	st := timeoutStatus(d)
	return func(inner Service) Service { return &timeoutService{layer(inner), st} }
}

// reportSkew is how much earlier than our own timer the server's may fire: it
// started later, but ours may be late.
const reportSkew = 10 * time.Millisecond

// expired reports whether err, returned under a context whose deadline is that
// of a Timeout, is that deadline's doing. An answer is not, even a late one.
// The server, which has the same deadline, may report it before our timer does.
func expired(ctx context.Context, err error) bool {
	switch Code(err) {
	case codes.DeadlineExceeded:
		deadline, ok := ctx.Deadline()
		return ok && time.Until(deadline) < reportSkew
	case codes.Canceled:
		return errors.Is(ctx.Err(), context.DeadlineExceeded)
	default:
		return false
	}
}

type timeoutService struct {
	Service

	status *status.Status
}

func (s *timeoutService) Call(ctx context.Context, rpc *RPC) (any, error) {
	reply, err := s.Service.Call(ctx, rpc)
	if err == nil {
		return reply, nil
	}
	if e, ok := err.(*timeout.Error); ok { //nolint:errorlint // only the error of our own timeout, not one further inside
		err = &statusError{s.status, e}
		rpc.tell(ctx, &Event{Kind: EventTimeout, Layer: "timeout", Reason: reasonTimeout, Err: err})
	}
	return reply, err
}

func (s *timeoutService) String() string { return describe(s.Service) }

// Describe says what the mechanism says.
func (s *timeoutService) Describe(d *turret.Description) { d.Forward(s.Service) }

// The layers below embed their mechanism, which is not what RPCs go on to.

// Inner returns what RPCs go on to.
func (s *timeoutService) Inner() any { return innerOf(s.Service) }
