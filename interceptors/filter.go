package interceptors

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
)

// Filter returns a [Layer] that asks f before each RPC: authorization,
// validation of metadata. f returns the context to go on with, nil for the one
// it was given, or the error with which the RPC ends. A status error, a
// refusal and an error of ctx end it as they are; a plain error ends it with
// PERMISSION_DENIED and its text. f may wait, should return when ctx is done,
// and may be called concurrently. It panics if f is nil.
//
// An error of f is final: it does not match turret.ErrNotReady, unless f
// returns one that does.
func Filter(f func(ctx context.Context, rpc *RPC) (context.Context, error)) Layer {
	if f == nil {
		misused("Filter", "function", nil, "non-nil")
	}
	return func(inner Service) Service { return &filterService{Service: inner, f: f} }
}

type filterService struct {
	Service

	f        func(ctx context.Context, rpc *RPC) (context.Context, error)
	rejected tally
}

func (s *filterService) Call(ctx context.Context, rpc *RPC) (any, error) {
	next, err := s.f(ctx, rpc)
	if err != nil {
		err = denied(err)
		s.rejected.add(reasonOf(err))
		return nil, err
	}
	if next == nil {
		next = ctx
	}
	return s.Service.Call(next, rpc)
}

func (s *filterService) String() string { return "filter" }

// denied gives a plain error its status.
func denied(err error) error {
	if _, ok := errors.AsType[grpcStatus](err); ok || errors.Is(err, turret.ErrNotReady) || Code(err) != codes.Unknown {
		return err
	}
	return &statusError{status.New(codes.PermissionDenied, err.Error()), err}
}

// Describe says how many RPCs were rejected.
func (s *filterService) Describe(d *turret.Description) {
	d.Is("filter", s.String())
	s.rejected.describe(d, "rejected", "{call}")
}
