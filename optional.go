package turret

import (
	"context"
	"errors"
)

// ErrNone is the error of an [Optional] without a service. The refusal that a
// call gets, a [*Refusal] of KindUnavailable with the reason NO_SERVICE, matches
// it.
var ErrNone = errors.New("no service")

// ReasonNoService is the reason of the refusals of an empty [Optional].
const ReasonNoService = "NO_SERVICE"

// Optional returns s, or, if s is nil, a [Service] that refuses every call with
// [ErrNone]. That one is always ready, as Tower's is: a wait would
// be for nothing. To leave out a layer no Optional is needed: [Stack] skips a
// nil one.
func Optional[Req, Res any](s Service[Req, Res]) Service[Req, Res] {
	if s == nil {
		return none[Req, Res]{}
	}
	return s
}

var errNoService = &Refusal{Kind: KindUnavailable, Layer: "optional", Reason: ReasonNoService, Err: ErrNone}

type none[Req, Res any] struct{}

func (none[Req, Res]) Ready(context.Context) error { return nil }

func (none[Req, Res]) Call(context.Context, Req) (res Res, err error) { return res, errNoService }

func (none[Req, Res]) String() string { return "none" }
