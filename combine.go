package turret

import (
	"context"
	"errors"
)

// The functions of this file make layers that may change the types of requests
// and results. Such a layer is a function from Service to Service:
//
//	func(Service[Req, Res]) Service[In, Out]
//
// Where the types stay the same it can be used as a [Layer]. Type arguments that
// the function given does not tell come first, so that the others are inferred.
//
// All of them forward Ready, and cost no allocation.

// MapRequest returns a layer that gives f's result to the inner service in place
// of the request. f may be called concurrently. It panics if f is nil.
//
//	byID := turret.MapRequest[User](strconv.Itoa)(byName) // Service[int, User] of a Service[string, User]
func MapRequest[Res, In, Req any](f func(In) Req) func(Service[Req, Res]) Service[In, Res] {
	mustFunction("MapRequest", f == nil)
	return adapt("map request", func(ctx context.Context, in In, inner Service[Req, Res]) (Res, error) {
		return inner.Call(ctx, f(in))
	})
}

// MapResponse returns a layer that replaces each result without error by that of
// f. f may be called concurrently. It panics if f is nil.
func MapResponse[Req, Res, Out any](f func(Res) Out) func(Service[Req, Res]) Service[Req, Out] {
	mustFunction("MapResponse", f == nil)
	return adapt("map response", func(ctx context.Context, req Req, inner Service[Req, Res]) (out Out, err error) {
		res, err := inner.Call(ctx, req)
		if err != nil {
			return out, err
		}
		return f(res), nil
	})
}

// MapErr returns a layer that replaces each error by f's, the final error of
// Ready too. An error of Ready that says "not now" goes past f, which would make
// it final. f must not return nil (use [MapResult] to recover from an error) and
// may be called concurrently. MapErr panics if f is nil.
//
// An f that puts its own error in the place of one that matches [ErrNotReady]
// also takes away that the request may be sent elsewhere; wrap with %w to keep
// it. An f that knows of an error that nothing was sent can say so with
// [NotReady].
func MapErr[Req, Res any](f func(error) error) Layer[Req, Res] {
	mustFunction("MapErr", f == nil)
	return func(inner Service[Req, Res]) Service[Req, Res] { return &errMapped[Req, Res]{inner, f} }
}

type errMapped[Req, Res any] struct {
	Service[Req, Res]

	f func(error) error
}

func (s *errMapped[Req, Res]) Ready(ctx context.Context) error {
	err := s.Service.Ready(ctx)
	if !IsFinal(err) {
		return err
	}
	return s.f(err)
}

func (s *errMapped[Req, Res]) Call(ctx context.Context, req Req) (Res, error) {
	res, err := s.Service.Call(ctx, req)
	if err != nil {
		err = s.f(err)
	}
	return res, err
}

func (s *errMapped[Req, Res]) String() string { return "map err" }

// MapResult returns a layer that replaces what a call came to, result and error,
// by what f makes of it: an error may be recovered from, a result rejected. f
// does not see errors of Ready. f may be called concurrently. MapResult panics if
// f is nil. What [MapErr] says about [ErrNotReady] holds here too.
func MapResult[Req, Res, Out any](f func(Res, error) (Out, error)) func(Service[Req, Res]) Service[Req, Out] {
	mustFunction("MapResult", f == nil)
	return adapt("map result", func(ctx context.Context, req Req, inner Service[Req, Res]) (Out, error) {
		return f(inner.Call(ctx, req))
	})
}

// Then returns a layer that runs f after each call, on what it came to. f may
// wait, and should return when ctx is done: it is a part of the call. It may be
// called concurrently. Then panics if f is nil.
//
// Once the inner service may have been sent the request, no error of f matches
// [ErrNotReady], even if f passes on the refusal of another service that it
// called: sent elsewhere, the request would run twice.
func Then[Req, Res, Out any](f func(ctx context.Context, res Res, err error) (Out, error)) func(Service[Req, Res]) Service[Req, Out] {
	mustFunction("Then", f == nil)
	return adapt("then", func(ctx context.Context, req Req, inner Service[Req, Res]) (Out, error) {
		res, err := inner.Call(ctx, req)
		refused := errors.Is(err, ErrNotReady)
		out, err := f(ctx, res, err)
		if !refused {
			err = Sent(err)
		}
		return out, err
	})
}

// AndThen returns a layer that runs f after each call without error, on its
// result. Apart from that it is [Then].
func AndThen[Req, Res, Out any](f func(ctx context.Context, res Res) (Out, error)) func(Service[Req, Res]) Service[Req, Out] {
	mustFunction("AndThen", f == nil)
	return adapt("and then", func(ctx context.Context, req Req, inner Service[Req, Res]) (out Out, err error) {
		res, err := inner.Call(ctx, req)
		if err != nil {
			return out, err
		}
		out, err = f(ctx, res)
		return out, Sent(err)
	})
}

// Filter returns a layer that asks f before each call. f returns the request to
// go on with, or the error with which the call ends; the inner service is then
// not called. f may wait, and should return when ctx is done. It may be called
// concurrently. Filter panics if f is nil.
//
// The error of f is final: it matches [ErrNotReady] only if f's own error does.
//
// A filter never changes readiness, and f runs before the call waits for
// room: a rejected request takes no place. (Tower's filters wait
// for the inner service before they look at the request: tower issue 180.)
func Filter[Res, In, Req any](f func(ctx context.Context, in In) (Req, error)) func(Service[Req, Res]) Service[In, Res] {
	mustFunction("Filter", f == nil)
	return adapt("filter", func(ctx context.Context, in In, inner Service[Req, Res]) (res Res, err error) {
		req, err := f(ctx, in)
		if err != nil {
			return res, err
		}
		return inner.Call(ctx, req)
	})
}

// adapt returns a layer that runs call around each call of inner. It is [Wrap]
// for layers that change types.
func adapt[In, Out, Req, Res any](name string, call func(ctx context.Context, in In, inner Service[Req, Res]) (Out, error)) func(Service[Req, Res]) Service[In, Out] {
	return func(inner Service[Req, Res]) Service[In, Out] {
		return &adapted[In, Out, Req, Res]{inner, call, name}
	}
}

type adapted[In, Out, Req, Res any] struct {
	inner Service[Req, Res]
	call  func(ctx context.Context, in In, inner Service[Req, Res]) (Out, error)
	name  string
}

func (s *adapted[In, Out, Req, Res]) Ready(ctx context.Context) error { return s.inner.Ready(ctx) }

func (s *adapted[In, Out, Req, Res]) Call(ctx context.Context, in In) (Out, error) {
	return s.call(ctx, in, s.inner)
}

func (s *adapted[In, Out, Req, Res]) String() string { return s.name }

func mustFunction(constructor string, missing bool) {
	if missing {
		misused(constructor, "function", nil, "non-nil")
	}
}

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

// A Maker is a service that makes services. Its request says which one (an
// address, a tenant), its result is the service. As it is a Service itself,
// layers go around it: a timeout for connecting, a limit of connections that are
// being made at a time.
//
//	var dial turret.Maker[string, Req, Res] = turret.ServiceFunc(
//		func(ctx context.Context, address string) (turret.Service[Req, Res], error) { ... })
//
// The function has to return a Service, not a type that is one. What a Maker has
// made belongs to its caller, which may close it if that type has a Close. Package
// reconnect does.
type Maker[Target, Req, Res any] = Service[Target, Service[Req, Res]]

// Shared returns a [Maker] that gives out s for every target. It is ready at
// once, until s has failed for good: it then gives out no more and fails in turn,
// where Tower's goes on with what is dead (tower issue 624).
func Shared[Target, Req, Res any](s Service[Req, Res]) Maker[Target, Req, Res] {
	return shared[Target, Req, Res]{s}
}

type shared[Target, Req, Res any] struct{ service Service[Req, Res] }

func (s shared[Target, Req, Res]) Ready(context.Context) error {
	if err := ReadyNow(s.service); IsFinal(err) {
		return err
	}
	return nil
}

func (s shared[Target, Req, Res]) Call(ctx context.Context, _ Target) (Service[Req, Res], error) {
	if err := s.Ready(ctx); err != nil {
		return nil, unsent(err)
	}
	return s.service, nil
}

func (s shared[Target, Req, Res]) String() string { return "shared" }
