package interceptors

import (
	"context"
	"errors"
	"fmt"
	"reflect"

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
	switch s, r := deciding(err); {
	case s != nil:
		return around(err, s)
	case r != nil:
		return refusalStatus(r)
	}
	if e, ok := errors.AsType[*timeout.Error](err); ok {
		return timeoutStatus(e.After)
	}
	return status.New(Code(err), err.Error())
}

// deciding returns the status or the refusal in err's tree that decides with
// which status err leaves a stack, or neither. A status in the Err of a refusal
// does not decide: the cause of a refusal is text, and says how another call
// went.
func deciding(err error) (grpcStatus, *turret.Refusal) {
	if s, ok := err.(grpcStatus); ok && failed(s) { //nolint:errorlint // the usual case
		return s, nil
	}
	s, found := errors.AsType[grpcStatus](err)
	found = found && failed(s)
	r, refused := errors.AsType[*turret.Refusal](err)
	if found && (!refused || !causes(s, r)) {
		return s, nil
	}
	return nil, r
}

// causes reports whether s is in the Err of r.
func causes(s grpcStatus, r *turret.Refusal) bool {
	cause, ok := errors.AsType[grpcStatus](r.Err)
	if !ok {
		return false
	}
	// What cannot be compared is most likely the same.
	return !reflect.TypeOf(s).Comparable() || !reflect.TypeOf(cause).Comparable() || cause == s
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
// It decides as Status does, and costs no allocation: layers ask for the code of each
// error.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	switch s, r := deciding(err); {
	case s != nil:
		return s.GRPCStatus().Code()
	case r != nil:
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
