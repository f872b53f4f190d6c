// Package pushback reads from the error of an RPC when the server wants the next
// attempt. All of its users (retry, hedge, breaker, balancer) read the same.
package pushback

import (
	"math"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Key is the trailer in which a server says when to come back, in milliseconds
// (gRFC A6).
const Key = "grpc-retry-pushback-ms"

const never = time.Duration(-1)

// InTrailer returns the pushback in md, and whether there is one. It is negative,
// which says not to come back, if there is not exactly one value, or if that is
// negative, no number, or more than a time.Duration can hold.
func InTrailer(md metadata.MD) (after time.Duration, said bool) {
	values := md[Key]
	switch len(values) {
	case 0:
		return 0, false
	case 1:
	default:
		return never, true
	}
	ms, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return never, true
	}
	return time.Duration(ms) * time.Millisecond, true
}

// InStatus returns the delay of the first google.rpc.RetryInfo in s that has one,
// and whether there is one. It is negative, which says not to come back, if it is
// so in s or if it is no valid duration.
func InStatus(s *status.Status) (after time.Duration, said bool) {
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.RetryInfo)
		if !ok || info.GetRetryDelay() == nil {
			continue
		}
		if d := info.GetRetryDelay(); d.CheckValid() == nil {
			return d.AsDuration(), true
		}
		return never, true
	}
	return 0, false
}
