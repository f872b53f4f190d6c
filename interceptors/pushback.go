package interceptors

import (
	"errors"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
)

// pushbackKey is the trailer in which a server says when to come back, in
// milliseconds; a value that is negative or no number says not to (gRFC A6).
const pushbackKey = "grpc-retry-pushback-ms"

// pushbackError is the error of an attempt whose server said when to come back.
// It is a status error like the one in it.
type pushbackError struct {
	err   error
	after time.Duration // negative: do not come back
}

func (e *pushbackError) Error() string              { return e.err.Error() }
func (e *pushbackError) Unwrap() error              { return e.err }
func (e *pushbackError) GRPCStatus() *status.Status { return Status(e.err) }

// withPushback hangs on err what trailer says about coming back, if it says
// anything.
func withPushback(err error, trailer metadata.MD) error {
	values := trailer[pushbackKey]
	if err == nil || len(values) == 0 {
		return err
	}
	return &pushbackError{err, parsePushback(values)}
}

// parsePushback returns the pushback that values stand for; it is negative if
// there is not exactly one value, or if that is not a number of milliseconds
// that a time.Duration can hold.
func parsePushback(values []string) time.Duration {
	if len(values) != 1 {
		return -1
	}
	ms, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || ms < 0 || ms > int64(maxDuration/time.Millisecond) {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}

const maxDuration = time.Duration(1<<63 - 1)

// askedDelay returns what the server said about coming back: the pushback of
// its trailer, or else the RetryInfo of its status. A negative delay says not
// to.
func askedDelay(err error) (delay time.Duration, said bool) {
	if p, ok := errors.AsType[*pushbackError](err); ok {
		return p.after, true
	}
	s, ok := errors.AsType[grpcStatus](err)
	if !ok {
		return 0, false
	}
	for _, detail := range s.GRPCStatus().Details() {
		info, ok := detail.(*errdetails.RetryInfo)
		if !ok || info.GetRetryDelay() == nil {
			continue
		}
		if d := info.GetRetryDelay(); d.CheckValid() == nil {
			return d.AsDuration(), true
		}
		return -1, true
	}
	return 0, false
}

// pushback returns the trailer that tells a client when to come back, if err is
// a refusal of this stack that knows it, and nil otherwise.
func pushback(err error) metadata.MD {
	r, ok := errors.AsType[*turret.Refusal](err)
	if !ok || r.RetryAfter <= 0 {
		return nil
	}
	// Rounded up: a client that comes back too early is refused again.
	ms := (r.RetryAfter-1)/time.Millisecond + 1
	return metadata.MD{pushbackKey: {strconv.FormatInt(int64(ms), 10)}}
}
