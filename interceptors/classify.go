package interceptors

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/localfault"
)

// A Classifier says how an RPC went, for a gate: see [turret.Outcome]. rpc and reply
// are valid until it returns. It may be called concurrently.
type Classifier = func(ctx context.Context, rpc *RPC, reply any, err error) turret.Outcome

// A GateOption says how a layer of a gate works: [Admit], [Breaker],
// [AdaptiveLimit], [Throttle].
type GateOption func(*gateOptions)

type gateOptions struct{ classify Classifier }

// ClassifiedBy makes f say how each RPC went, in place of [Classify]. f may ask
// Classify and change some of its answers:
//
//	func(ctx context.Context, rpc *RPC, reply any, err error) turret.Outcome {
//		if Code(err) == codes.DataLoss {
//			return turret.Success
//		}
//		return Classify(ctx, rpc, reply, err)
//	}
//
// An RPC that was not sent (turret.ErrNotReady) is Unused, and f is not asked.
// ClassifiedBy panics if f is nil.
func ClassifiedBy(f Classifier) GateOption {
	if f == nil {
		misused("ClassifiedBy", "classifier", nil, "non-nil")
	}
	return func(o *gateOptions) { o.classify = f }
}

// gateOptionsOf returns what options say. constructor is named where one is nil.
func gateOptionsOf(constructor string, options []GateOption) gateOptions {
	o := gateOptions{Classify}
	for i, option := range options {
		if option == nil {
			misused(constructor, fmt.Sprintf("option %d", i), nil, "non-nil")
		}
		option(&o)
	}
	return o
}

// Classify says how an RPC went, for gates and balancers: see [turret.Outcome].
//
//	Success   OK and the answers that a healthy server gives: INVALID_ARGUMENT,
//	          NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, UNAUTHENTICATED,
//	          FAILED_PRECONDITION, OUT_OF_RANGE, ABORTED, UNIMPLEMENTED; and
//	          RESOURCE_EXHAUSTED that is about the caller: a rate limit of Turret
//	          (reason RATE_LIMITED), a google.rpc.QuotaFailure
//	Overload  other RESOURCE_EXHAUSTED, and UNAVAILABLE with a pushback that
//	          is not negative, or with RetryInfo
//	Ignored   CANCELLED, if our caller cancelled; what gRPC refuses because of the
//	          caller, on this side or the other: a message that is too large or
//	          cannot be encoded, a compressor that is not installed, credentials
//	          that fail, metadata that may not be sent
//	Unused    the RPC was not sent (turret.ErrNotReady)
//	Failure   everything else: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS,
//	          DEADLINE_EXCEEDED of any deadline, and CANCELLED
//
// gRPC has no type for what it refuses: Classify knows that by code and text.
// Credentials that fail with a status of their own look like a server's status.
//
// It may be called concurrently; rpc and reply are not used.
func Classify(ctx context.Context, rpc *RPC, reply any, err error) turret.Outcome {
	if err == nil {
		return turret.Success
	}
	if errors.Is(err, turret.ErrNotReady) {
		return turret.Unused
	}
	switch code := Code(err); code {
	case codes.ResourceExhausted, codes.Internal, codes.Unimplemented, codes.Unauthenticated:
		return classifyRefusal(code, err)
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.Aborted:
		return turret.Success
	case codes.Unavailable:
		if saysWhen(err) {
			return turret.Overload
		}
		return turret.Failure
	case codes.Canceled:
		if errors.Is(ctx.Err(), context.Canceled) {
			return turret.Ignored
		}
		return turret.Failure
	default: // UNKNOWN, DEADLINE_EXCEEDED, DATA_LOSS, and what is not a code
		return turret.Failure
	}
}

// classifyRefusal is Classify for the codes with which gRPC refuses too.
func classifyRefusal(code codes.Code, err error) turret.Outcome {
	st := (*status.Status)(nil)
	if s, ok := errors.AsType[grpcStatus](err); ok {
		st = s.GRPCStatus()
	}
	switch {
	case localfault.Of(st) != localfault.None:
		return turret.Ignored
	case code == codes.Internal:
		return turret.Failure
	case code == codes.ResourceExhausted && !aboutCaller(err, st):
		return turret.Overload
	default:
		return turret.Success
	}
}

// aboutCaller reports whether a RESOURCE_EXHAUSTED is about what the caller may do,
// and not about what the server can.
func aboutCaller(err error, st *status.Status) bool {
	if r, ok := errors.AsType[*turret.Refusal](err); ok {
		return r.Kind == turret.KindRateLimited
	}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.QuotaFailure:
			return true
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain && d.GetReason() == turret.ReasonRateLimited {
				return true
			}
		}
	}
	return false
}

// saysWhen reports whether the server of err said when to come back. A pushback
// that says never does not: a server whose own retries were in vain sends it
// ([Retry]), and is no fuller for it.
func saysWhen(err error) bool {
	if p, ok := errors.AsType[*pushbackError](err); ok {
		return p.after >= 0
	}
	_, said := askedDelay(err)
	return said
}
