package drain

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

const (
	defaultEvery = time.Second
	leastEvery   = 10 * time.Millisecond
)

// A HealthConfig says what a [Health] answers for. The zero HealthConfig is a good
// one.
type HealthConfig struct {
	// Services are the names, besides the empty one of the whole server, that
	// clients may ask for. All of them have the same status.
	Services []string
	// Every is how often a Watch looks whether what is inside has failed. 0 means 1
	// s. At least 10 ms.
	Every time.Duration
}

// Validate returns a [*turret.FieldError] if c cannot be used.
func (c HealthConfig) Validate() error {
	if c.Every != 0 && c.Every < leastEvery {
		return &turret.FieldError{Package: "drain", Field: "HealthConfig.Every", Value: c.Every, Bound: "0 (which means 1s), or at least 10ms"}
	}
	return nil
}

// A Readier is something whose readiness counts for a server's health: an
// *interceptors.Stack, a balancer, any [turret.Service].
type Readier interface {
	Ready(ctx context.Context) error
}

// A Health is gRPC's health service (grpc.health.v1.Health). It answers
// NOT_SERVING from [Health.Shutdown] on, and while everything inside has failed for
// good: when the Ready of each returns an error that is neither
// [turret.ErrNotReady] nor that of a context. Otherwise it answers SERVING.
//
// A gate that is full is no reason to be NOT_SERVING. Balancers would send what the
// server has room for to the others, which then are full too. A full server refuses
// what is too much, and package load/orca tells balancers how full it is.
//
// Give it to [Config].Health and to healthgrpc.RegisterHealthServer. A Watch ends
// when a [Drainer] around it gives notice. A Health is made by [NewHealth]. Its
// methods may be called concurrently. It starts no goroutine.
type Health struct {
	healthgrpc.UnimplementedHealthServer

	config HealthConfig
	inside []Readier

	once sync.Once
	down chan struct{} // closed by Shutdown
}

// NewHealth returns a Health of a server with this inside; with nothing inside it
// answers SERVING until Shutdown. It panics with the error of c.Validate if there is
// one, and if something inside is nil.
func NewHealth(c HealthConfig, inside ...Readier) *Health {
	misuse.Check("drain: NewHealth", c.Validate())
	if slices.Contains(inside, nil) {
		misuse.Check("drain: NewHealth", &turret.FieldError{Package: "drain", Field: "inside", Value: nil, Bound: "non-nil"})
	}
	c.Services = slices.Clone(c.Services)
	c.Every = cmp.Or(c.Every, defaultEvery)
	return &Health{config: c, inside: slices.Clone(inside), down: make(chan struct{})}
}

// Shutdown makes h answer NOT_SERVING from now on, also in the Watches that are
// open. It may be called more than once.
func (h *Health) Shutdown() { h.once.Do(func() { close(h.down) }) }

// Serving reports whether h answers SERVING.
func (h *Health) Serving() bool {
	select {
	case <-h.down:
		return false
	default:
	}
	return len(h.inside) == 0 || slices.ContainsFunc(h.inside, func(r Readier) bool { return !failed(r) })
}

// ended is a context that is done, with which Ready answers at once.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// failed reports whether r has failed for good.
func failed(r Readier) bool { return turret.IsFinal(r.Ready(ended)) }

// Check returns the status of the server: NOT_FOUND for a service that
// HealthConfig.Services does not name.
func (h *Health) Check(_ context.Context, req *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	if !h.knows(req.GetService()) {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &healthgrpc.HealthCheckResponse{Status: h.status()}, nil
}

// List returns the status of each service.
func (h *Health) List(context.Context, *healthgrpc.HealthListRequest) (*healthgrpc.HealthListResponse, error) {
	all := map[string]*healthgrpc.HealthCheckResponse{}
	for _, name := range append([]string{""}, h.config.Services...) {
		all[name] = &healthgrpc.HealthCheckResponse{Status: h.status()}
	}
	return &healthgrpc.HealthListResponse{Statuses: all}, nil
}

// Watch sends the status of the server, and each change of it:
// SERVICE_UNKNOWN for a service that HealthConfig.Services does not name.
func (h *Health) Watch(req *healthgrpc.HealthCheckRequest, stream healthgrpc.Health_WatchServer) error {
	ctx, known := stream.Context(), h.knows(req.GetService())
	ticker := time.NewTicker(h.config.Every)
	defer ticker.Stop()
	down := h.down
	last := healthgrpc.HealthCheckResponse_ServingStatus(-1)
	for {
		now := healthgrpc.HealthCheckResponse_SERVICE_UNKNOWN
		if known {
			now = h.status()
		}
		if now != last {
			if err := stream.Send(&healthgrpc.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-ticker.C:
		case <-down:
			down = nil // it is known now
		case <-Notice(ctx):
			return status.Error(codes.Unavailable, ErrDraining.Error())
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (h *Health) knows(service string) bool {
	return service == "" || slices.Contains(h.config.Services, service)
}

func (h *Health) status() healthgrpc.HealthCheckResponse_ServingStatus {
	if h.Serving() {
		return healthgrpc.HealthCheckResponse_SERVING
	}
	return healthgrpc.HealthCheckResponse_NOT_SERVING
}
