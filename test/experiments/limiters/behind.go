package limiters

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/zeromicro/go-zero/core/breaker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/test/experiments/memory"
	"github.com/turret-go/turret/test/experiments/surge"
	"github.com/turret-go/turret/throttle"
)

// Throttle is Turret's throttle with its zero configuration.
const Throttle = "Throttle"

// Throttles returns what clients have before a server behind AdaptiveLimit, each a
// throttle of its own, in the order of the table.
func Throttles() []*surge.Limit {
	return []*surge.Limit{
		throttled(Throttle, turrets(throttle.Config{})),
		throttled(Nothing, nil),
		throttled("failsafe-go throttler", failsafeClient(time.Minute)),
		throttled("failsafe-go throttler (1 s)", failsafeClient(time.Second)),
		throttled("go-zero breaker", goZeroBreaker),
	}
}

func throttled(name string, dial func() []grpc.DialOption) *surge.Limit {
	l := ours(name, nil)
	l.Dial = dial
	return l
}

func turrets(c throttle.Config) func() []grpc.DialOption {
	return func() []grpc.DialOption { return interceptors.New(interceptors.Throttle(c)).DialOptions() }
}

// failsafeClient is failsafe-go's throttler as its gRPC interceptor installs it, with
// refusals and missed deadlines of the server as failures.
func failsafeClient(period time.Duration) func() []grpc.DialOption {
	return func() []grpc.DialOption {
		failure := func(_ any, err error) bool {
			switch status.Code(err) {
			case codes.ResourceExhausted, codes.Unavailable, codes.DeadlineExceeded:
				return true
			default:
				return false
			}
		}
		t := adaptivethrottler.NewBuilder[any]().HandleIf(failure).WithFailureRateThreshold(0.1, 0, period).Build()
		return []grpc.DialOption{grpc.WithUnaryInterceptor(failsafegrpc.NewUnaryClientInterceptor(t))}
	}
}

// goZeroBreaker is the breaker of go-zero's zrpc clients, which is a throttle too,
// with the codes that zrpc takes for failures.
func goZeroBreaker() []grpc.DialOption {
	b := breaker.NewBreaker()
	acceptable := func(err error) bool {
		switch status.Code(err) {
		case codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.DataLoss, codes.Unimplemented, codes.ResourceExhausted:
			return false
		default:
			return true
		}
	}
	return []grpc.DialOption{grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := b.DoWithAcceptableCtx(ctx, func() error { return invoke(ctx, method, req, reply, cc, opts...) }, acceptable)
		if errors.Is(err, breaker.ErrServiceUnavailable) {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		return err
	})}
}

// Names of what two servers in a row have.
const (
	NoLevels = "no levels"
	Levels   = "levels"
	Fed      = "levels and Threshold"
	AtDoor   = "levels and Threshold at the door"
	BothFull = "levels (AdaptiveLimit in front too)"
)

// Fronts returns what two servers in a row have, in the order of the table.
func Fronts() []*surge.Limit {
	return []*surge.Limit{
		front(NoLevels, nil),
		front(Levels, nil, carrying()),
		front(Fed, interceptors.Threshold(), carrying()),
		atDoor(),
		front(BothFull, nil, carrying(), interceptors.AdaptiveLimit(adaptive.Config{})),
	}
}

// atDoor is a server in front that turns away calls which need the server behind before
// it works for them.
func atDoor() *surge.Limit {
	l := ours(AtDoor, nil)
	l.Front = func(surge.Scenario) ([]grpc.ServerOption, []grpc.DialOption) {
		behind := throttle.NewThreshold()
		dial := interceptors.New(interceptors.Criticality(interceptors.CriticalityConfig{}), interceptors.LearnThreshold(behind)).DialOptions()
		return interceptors.New(carrying(), interceptors.For(memory.Method, interceptors.Admit(behind))).ServerOptions(), dial
	}
	return l
}

func carrying() interceptors.Layer {
	allow := func(context.Context, *interceptors.RPC) criticality.Level { return criticality.CriticalPlus }
	return interceptors.Criticality(interceptors.CriticalityConfig{Allow: allow})
}

// front is AdaptiveLimit at the server behind. The server in front has a layer, if
// not nil, as its client, and layers as a server.
func front(name string, client interceptors.Layer, server ...interceptors.Layer) *surge.Limit {
	l := ours(name, nil)
	l.Front = func(surge.Scenario) ([]grpc.ServerOption, []grpc.DialOption) {
		dial := interceptors.New(interceptors.Criticality(interceptors.CriticalityConfig{}), client).DialOptions()
		return interceptors.New(server...).ServerOptions(), dial
	}
	return l
}
