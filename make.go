package turret

import "context"

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
	if err := ReadyNow(s.service); Final(err) {
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
