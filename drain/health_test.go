package drain_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/drain"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
)

// inside is something whose Ready returns what it holds.
type inside struct {
	mu  sync.Mutex
	err error
}

func (i *inside) Ready(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}

func (i *inside) set(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.err = err
}

var errGone = errors.New("gone for good")

func TestHealthIsOfWhatIsInside(t *testing.T) {
	full := interceptors.New(interceptors.ConcurrencyLimit(0, limit.Queue{}))
	passing, gone := &inside{err: turret.ErrNotReady}, &inside{err: errGone}
	for name, tt := range map[string]struct {
		inside  []drain.Readier
		serving bool
	}{
		"nothing":                  {nil, true},
		"a gate that is full":      {[]drain.Readier{full}, true},
		"not ready":                {[]drain.Readier{passing}, true},
		"a context that ended":     {[]drain.Readier{&inside{err: context.DeadlineExceeded}}, true},
		"one of two failed":        {[]drain.Readier{gone, full}, true},
		"one failed for good":      {[]drain.Readier{gone}, false},
		"all have failed for good": {[]drain.Readier{gone, &inside{err: errGone}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := drain.NewHealth(drain.HealthConfig{}, tt.inside...)
			if got := h.Serving(); got != tt.serving {
				t.Errorf("Serving: %v, want %v", got, tt.serving)
			}
			h.Shutdown()
			h.Shutdown()
			if h.Serving() {
				t.Error("serving after Shutdown")
			}
		})
	}
}

func TestHealthOverTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &inside{}
		h := drain.NewHealth(drain.HealthConfig{Services: []string{"orders"}}, backend)
		d := drain.New(drain.Config{Health: h, LameDuck: time.Second})
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) { healthgrpc.RegisterHealthServer(s, h) },
			Server:   interceptors.New(d.Layer()).ServerOptions(),
		})
		client := healthgrpc.NewHealthClient(p.Conn)
		check := func(service string) string {
			res, err := client.Check(t.Context(), &healthgrpc.HealthCheckRequest{Service: service})
			if err != nil {
				return status.Code(err).String()
			}
			return res.GetStatus().String()
		}
		if got := check("") + " " + check("orders") + " " + check("other"); got != "SERVING SERVING NotFound" {
			t.Error(got)
		}
		list, err := client.List(t.Context(), &healthgrpc.HealthListRequest{})
		if err != nil || len(list.GetStatuses()) != 2 {
			t.Errorf("List: %v, %v", list, err)
		}
		watch, err := client.Watch(t.Context(), &healthgrpc.HealthCheckRequest{Service: "orders"})
		if err != nil {
			t.Fatal(err)
		}
		var saw []string
		began := time.Now()
		next := func() {
			res, err := watch.Recv()
			if err != nil {
				saw = append(saw, status.Code(err).String())
				return
			}
			saw = append(saw, res.GetStatus().String())
		}
		next()
		backend.set(errGone)
		next()
		backend.set(nil)
		next()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("three statuses took %v", took)
		}
		done := make(chan drain.Report)
		go func() { done <- d.Drain(t.Context(), p.Server) }()
		next()
		next()
		if got := strings.Join(saw, " "); got != "SERVING NOT_SERVING SERVING NOT_SERVING Unavailable" {
			t.Errorf("the watch saw %s", got)
		}
		if r := <-done; r.Cut.Streams != 0 || r.Took > 2*time.Second {
			t.Errorf("the watch kept the server from stopping: %+v", r)
		}
	})
}

func TestHealthWatchOfUnknownService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := drain.NewHealth(drain.HealthConfig{})
		p := wire.Start(t, wire.Config{Register: func(s grpc.ServiceRegistrar) { healthgrpc.RegisterHealthServer(s, h) }})
		ctx, cancel := context.WithCancel(t.Context())
		watch, err := healthgrpc.NewHealthClient(p.Conn).Watch(ctx, &healthgrpc.HealthCheckRequest{Service: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if res, err := watch.Recv(); err != nil || res.GetStatus() != healthgrpc.HealthCheckResponse_SERVICE_UNKNOWN {
			t.Errorf("%v, %v, want SERVICE_UNKNOWN", res, err)
		}
		cancel()
		if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("%v, want CANCELLED", err)
		}
	})
}

func TestHealthRefusesInvalidConfigs(t *testing.T) {
	for name, f := range map[string]func(){
		"Every":  func() { drain.NewHealth(drain.HealthConfig{Every: time.Millisecond}) },
		"inside": func() { drain.NewHealth(drain.HealthConfig{}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				err, ok := recover().(error)
				if _, field := errors.AsType[*turret.FieldError](err); !ok || !field {
					t.Errorf("panics with %v, want a *turret.FieldError", err)
				}
			}()
			f()
		})
	}
}
