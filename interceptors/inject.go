package interceptors

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/fault"
	"github.com/turret-go/turret/internal/misuse"
)

// Inject returns a [Layer] that makes RPCs slow or failing on purpose, as the rule
// of i says: a fault happens before the RPC is sent, or before the handler runs. A
// stream is delayed, and fails, when it opens. While i has no rule an RPC costs
// one atomic load. It panics if i is nil.
//
// The status of a failed RPC is that of the rule's error, or UNAVAILABLE if it
// has none, with reason FAULT_INJECTED. It is not a refusal: to Retry and all
// other layers it looks as if the RPC had been sent. Put it inside Retry, so that
// each attempt is drawn anew, and around what is to see no RPC that failed.
func Inject(i *fault.Injector) Layer {
	if i == nil {
		misuse.Check("interceptors: Inject", &turret.FieldError{Package: "interceptors", Field: "i", Value: i, Bound: "non-nil"})
	}
	return func(inner Service) Service { return &injectService{inner, i} }
}

type injectService struct {
	Service

	injector *fault.Injector
}

func (s *injectService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if err := s.injector.Inject(ctx); err != nil {
		return nil, injected(err)
	}
	return s.Service.Call(ctx, rpc)
}

func (s *injectService) String() string { return s.injector.String() }

// Describe says what the injector says.
func (s *injectService) Describe(d *turret.Description) { d.Forward(s.injector) }

// injected returns err with its status, if it was injected. A context that ended
// while the RPC was delayed is no fault.
func injected(err error) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	st := Status(e.Err)
	if e.Err == fault.ErrInjected { //nolint:errorlint // the rule has no error
		st = status.New(codes.Unavailable, e.Error())
	}
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Domain: Domain, Reason: fault.ReasonInjected}); err == nil {
		st = with
	}
	return &statusError{st, e}
}
