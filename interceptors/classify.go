package interceptors

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
)

// Classify says how an RPC went, for whatever hears of outcomes: see
// [turret.Outcome].
//
//	Success   OK and the answers that a healthy server gives: INVALID_ARGUMENT,
//	          NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, UNAUTHENTICATED,
//	          FAILED_PRECONDITION, OUT_OF_RANGE, ABORTED, UNIMPLEMENTED
//	Overload  RESOURCE_EXHAUSTED, and UNAVAILABLE with a pushback or RetryInfo
//	Ignored   CANCELLED, if our caller cancelled
//	Unused    the RPC was not sent (turret.ErrNotReady)
//	Failure   everything else: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS,
//	          DEADLINE_EXCEEDED, whoever set the deadline, and CANCELLED
//
// It may be called concurrently; rpc and reply are not used.
func Classify(ctx context.Context, rpc *RPC, reply any, err error) turret.Outcome {
	if err == nil {
		return turret.Success
	}
	if errors.Is(err, turret.ErrNotReady) {
		return turret.Unused
	}
	switch Code(err) {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.Unauthenticated, codes.FailedPrecondition, codes.OutOfRange, codes.Aborted, codes.Unimplemented:
		return turret.Success
	case codes.ResourceExhausted:
		return turret.Overload
	case codes.Unavailable:
		if _, said := askedDelay(err); said {
			return turret.Overload
		}
		return turret.Failure
	case codes.Canceled:
		if errors.Is(ctx.Err(), context.Canceled) {
			return turret.Ignored
		}
		return turret.Failure
	default: // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, DATA_LOSS, and what is not a code
		return turret.Failure
	}
}
