package interceptors

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/timeout"
)

// A statusError is an error as it leaves a stack: a status, and the error that
// it stands for.
type statusError struct {
	status *status.Status
	err    error
}

// Error has the form of gRPC's own status errors.
func (e *statusError) Error() string {
	return fmt.Sprintf("rpc error: code = %s desc = %s", e.status.Code(), e.status.Message())
}

// GRPCStatus returns the status.
func (e *statusError) GRPCStatus() *status.Status { return e.status }

// Unwrap returns the cause.
func (e *statusError) Unwrap() error { return e.err }

// grpcStatus is an error that carries a status, as gRPC recognizes it.
type grpcStatus interface {
	error
	GRPCStatus() *status.Status
}

// edge returns err as it leaves a stack: with a status. An error that is one
// already is returned as it is.
func edge(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := err.(grpcStatus); ok && failed(s) { //nolint:errorlint // gRPC looks at the outermost error too
		return err
	}
	return &statusError{Status(err), err}
}

// failed reports whether the status of e is one of a failure. Types that are
// errors and say OK, or nothing, have no status to speak of.
func failed(e grpcStatus) bool { return e.GRPCStatus().Code() != codes.OK }

// Status returns the status with which err leaves a stack, as the table of the
// package's documentation says. The status of nil is OK; that of an error never
// is. The result is not to be changed. It may be called concurrently.
func Status(err error) *status.Status {
	if err == nil {
		return nil
	}
	if s, ok := errors.AsType[grpcStatus](err); ok && failed(s) {
		return around(err, s)
	}
	if r, ok := errors.AsType[*turret.Refusal](err); ok {
		return refusalStatus(r)
	}
	if e, ok := errors.AsType[*timeout.Error](err); ok {
		return timeoutStatus(e.After)
	}
	return status.New(Code(err), err.Error())
}

// around returns the status of err, which has s in its tree: that of s, with the
// text of err if that says more, as gRPC does it. A wrapper that says the same
// as s, such as turret.Sent, must not put "rpc error" into the status' text.
func around(err error, s grpcStatus) *status.Status {
	if _, same := err.(grpcStatus); same || err.Error() == s.Error() { //nolint:errorlint // whether s is err
		return s.GRPCStatus()
	}
	p := s.GRPCStatus().Proto()
	p.Message = err.Error()
	return status.FromProto(p)
}

// Code returns the code of [Status], without building it.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if s, ok := errors.AsType[grpcStatus](err); ok && failed(s) {
		return s.GRPCStatus().Code()
	}
	if r, ok := errors.AsType[*turret.Refusal](err); ok {
		return refusalCode(r.Kind)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	default:
		return codes.Unknown
	}
}
