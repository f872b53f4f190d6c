package interceptors

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/metrics"
)

// Metrics returns a [Layer] that records how long RPCs take, streams included, and
// how many are under way, as package metrics says. It panics if m is nil.
//
// Outside [Retry] and [Hedge] it records each RPC, inside them each attempt; both
// may be in one stack. Put it inside [Trace], so that durations have exemplars, and
// outside of what it is to measure. What layers count is exported by
// [metrics.Meter.Watch], with or without this layer:
//
//	stack := interceptors.New(interceptors.Metrics(m), ...)
//	m.Watch("front", stack)
//
// An RPC costs no allocation, and two readings of the clock.
func Metrics(m *metrics.Meter) Layer {
	if m == nil {
		misused("Metrics", "meter", nil, "non-nil")
	}
	return func(inner Service) Service { return &metricsService{inner, m, time.Now()} }
}

type metricsService struct {
	Service

	meter *metrics.Meter
	base  time.Time // durations are between two times since base: time.Now reads two clocks, time.Since one
}

func (s *metricsService) Call(ctx context.Context, rpc *RPC) (reply any, err error) {
	series := s.meter.Series(metrics.Call{
		Method: rpc.Method, Server: rpc.Side == SideServer, Target: rpc.end().target(), Attempt: rpc.isAttempt(),
	})
	start := time.Since(s.base)
	series.Begin()
	returned := false
	defer func() {
		code := "OK"
		switch {
		case !returned:
			code = codeName(Code(errPanic))
		case err != nil:
			code = codeName(Code(err))
		}
		series.End(ctx, time.Since(s.base)-start, code)
	}()
	reply, err = s.Service.Call(ctx, rpc)
	returned = true
	return reply, err
}

func (s *metricsService) String() string { return "metrics" }

// Describe says that RPCs are measured.
func (s *metricsService) Describe(d *turret.Description) { d.Is("metrics", s.String()) }

// Registered returns a function for metrics.Config.Methods: it reports whether a
// method is registered with the server that server returns. It is for servers with
// a grpc.UnknownServiceHandler, whose RPCs may have any method; without one gRPC
// turns away what is not registered before any layer sees it. server is called once,
// when the first RPC is recorded, and must not return nil then:
//
//	var server *grpc.Server
//	meter := metrics.New(metrics.Config{
//		Methods: interceptors.Registered(func() *grpc.Server { return server }),
//	})
func Registered(server func() *grpc.Server) func(method string) bool {
	if server == nil {
		misused("Registered", "server", nil, "non-nil")
	}
	methods := sync.OnceValue(func() map[string]bool {
		names := map[string]bool{}
		for service, info := range server().GetServiceInfo() {
			for _, m := range info.Methods {
				names["/"+service+"/"+m.Name] = true
			}
		}
		return names
	})
	return func(method string) bool { return methods()[method] }
}
