package turret

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Steer returns a [Service] that sends each request to one of services, the one
// whose index pick returns. pick may wait, should return when ctx is done, must
// not change the slice, and may be called concurrently. An index that is out of
// range is a fault of pick and panics.
//
// Which service a request goes to is not known before it is there, so Steer is
// ready when all services are, as Tower's is: it asks one after the other. One
// that fails for good makes all of it fail; see [SteerLive]. Call checks no readiness:
// it waits, or is refused, at the service that was picked and nowhere else.
//
// Steer panics if pick is nil, if there are no services, or if one is nil.
func Steer[Req, Res any](pick func(ctx context.Context, req Req, services []Service[Req, Res]) int, services ...Service[Req, Res]) Service[Req, Res] {
	return newSteering("Steer", pick, services, false)
}

// SteerLive is [Steer], but survives services that fail: it is ready when all
// services are ready whose readiness has not failed for good, and fails only
// when all have. Its error is then that of all of them.
//
// pick sees the same services as before, and may look at them: [ReadyNow] of one
// that has failed returns an error that is [IsFinal]. A request that is sent there
// all the same gets what that service answers.
func SteerLive[Req, Res any](pick func(ctx context.Context, req Req, services []Service[Req, Res]) int, services ...Service[Req, Res]) Service[Req, Res] {
	return newSteering("SteerLive", pick, services, true)
}

func newSteering[Req, Res any](constructor string, pick func(context.Context, Req, []Service[Req, Res]) int, services []Service[Req, Res], survives bool) Service[Req, Res] {
	mustFunction(constructor, pick == nil)
	if len(services) == 0 {
		misused(constructor, "services", services, "at least one service")
	}
	if i := slices.Index(services, nil); i >= 0 {
		misused(constructor, fmt.Sprintf("services[%d]", i), nil, "non-nil")
	}
	return &steering[Req, Res]{pick, slices.Clone(services), survives}
}

type steering[Req, Res any] struct {
	pick     func(context.Context, Req, []Service[Req, Res]) int
	services []Service[Req, Res]
	survives bool
}

func (s *steering[Req, Res]) Ready(ctx context.Context) error {
	var failures []error
	for i, service := range s.services {
		err := service.Ready(ctx)
		switch {
		case err == nil:
		case s.survives && IsFinal(err):
			failures = append(failures, fmt.Errorf("service %d: %w", i, err))
		default:
			return err
		}
	}
	if len(failures) < len(s.services) {
		return nil
	}
	return errors.Join(failures...)
}

func (s *steering[Req, Res]) Call(ctx context.Context, req Req) (Res, error) {
	i := s.pick(ctx, req, s.services)
	if i < 0 || i >= len(s.services) {
		misused("Steer", "result of pick", i, fmt.Sprintf("between 0 and %d", len(s.services)-1))
	}
	return s.services[i].Call(ctx, req)
}

func (s *steering[Req, Res]) String() string {
	return fmt.Sprintf("steer over %d services", len(s.services))
}
