package interceptors

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/pushback"
)

// pushbackError is the error of an attempt whose server said when to come back.
// It is a status error like the one in it.
// It is made where an attempt ends, because only there the trailer is at hand, and read
// by Retry, which sees errors alone.
type pushbackError struct {
	err    error
	status *status.Status // of err
	after  time.Duration  // negative: do not come back
}

func (e *pushbackError) Error() string              { return e.err.Error() }
func (e *pushbackError) Unwrap() error              { return e.err }
func (e *pushbackError) GRPCStatus() *status.Status { return e.status }

// withPushback hangs on err what trailer says about coming back, if it says
// anything.
func withPushback(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	after, said := pushback.InTrailer(trailer)
	if !said {
		return err
	}
	return &pushbackError{err, Status(err), after}
}

// askedDelay returns what the server said about coming back: the pushback of
// its trailer, or else the RetryInfo of its status. A negative delay says not
// to.
func askedDelay(err error) (delay time.Duration, said bool) {
	if p, ok := errors.AsType[*pushbackError](err); ok {
		return p.after, true
	}
	if s, ok := errors.AsType[grpcStatus](err); ok {
		return pushback.InStatus(s.GRPCStatus())
	}
	return 0, false
}

// pushbackTrailer returns the trailer that tells a client when to come back, if
// err is a refusal of this stack that knows it, and nil otherwise.
func pushbackTrailer(err error) metadata.MD {
	r, ok := errors.AsType[*turret.Refusal](err)
	if !ok || r.RetryAfter <= 0 {
		return nil
	}
	// Rounded up: a client that comes back too early is refused again.
	ms := (r.RetryAfter-1)/time.Millisecond + 1
	return metadata.MD{pushback.Key: {strconv.FormatInt(int64(ms), 10)}}
}

// vain tells the callers of handlers that retries were in vain. A nil *vain tells
// nothing.
//
// The way to the caller is the stream of the handler's RPC, which gRPC keeps in the
// handler's context and so in that of the RPCs that the handler makes: it reaches
// through handlers that make an error of their own, and costs nothing until a
// Retry gives up.
type vain struct {
	// informed holds the streams that were informed last, by their addresses: a handler
	// whose RPCs fail by the hundred must not send a trailer for each.
	informed [64]atomic.Pointer[grpc.ServerTransportStream]
}

// neverAgain is the trailer that says not to come back.
// A negative number means so in gRPC (gRFC A6).
var neverAgain = metadata.MD{pushback.Key: {"-1"}}

// tell tells the caller of the handler that ctx belongs to, if there is one. A
// handler that has returned cannot be reached any more.
func (v *vain) tell(ctx context.Context) {
	stream := grpc.ServerTransportStreamFromContext(ctx)
	if v == nil || stream == nil {
		return
	}
	if p := reflect.ValueOf(stream); p.Kind() == reflect.Pointer {
		slot := &v.informed[p.Pointer()/128%uintptr(len(v.informed))]
		if last := slot.Load(); last != nil && *last == stream {
			return
		}
		slot.Store(&stream)
	}
	_ = grpc.SetTrailer(ctx, neverAgain)
}
