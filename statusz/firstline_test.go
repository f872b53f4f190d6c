package statusz

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/drain"
	"github.com/turret-go/turret/fault"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// soon is how long after it began something wrong must be the first line.
const soon = 2 * time.Second

// TestFirstLineOfFaultsAndDrain checks that injected faults are shown while they
// last, and a drain in each of its phases.
func TestFirstLineOfFaultsAndDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		injector, drainer := fault.New(), drain.New(drain.Config{})
		stack := interceptors.New(drainer.Layer(), interceptors.Recover(), p.Layer(), interceptors.Inject(injector))
		p.Add("server", stack)
		time.Sleep(time.Minute)
		if v := p.View(); len(v.Findings) != 0 {
			t.Errorf("before anything: %+v", v.Findings)
		}
		if err := injector.Set(fault.Rule{ErrShare: 1}, time.Minute); err != nil {
			t.Fatal(err)
		}
		call(stack, "/s.S/M", nil)
		time.Sleep(soon)
		if got := first(t, p); !strings.Contains(got, "server › fault injects faults: on, ") {
			t.Errorf("first line %q", got)
		}
		v := p.View()
		if len(v.Events) != 1 || v.Events[0].What != "fault" || v.Events[0].Reason != fault.ReasonInjected || v.Events[0].Ever != 1 {
			t.Errorf("events %+v", v.Events)
		}
		time.Sleep(time.Minute) // the rule has ended
		if v := p.View(); len(v.Findings) != 0 {
			t.Errorf("after the rule: %+v", v.Findings)
		}
		drainsOnThePage(t, p, drainer, stack)
	})
}

// drainsOnThePage drains a server in which a call is stuck.
func drainsOnThePage(t *testing.T, p *Page, drainer *drain.Drainer, stack *interceptors.Stack) {
	t.Helper()
	release, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		call(stack, "/s.S/Stuck", func() { <-release })
	}()
	server := grpc.NewServer()
	reported := make(chan drain.Report)
	go func() { reported <- drainer.Drain(context.Background(), server) }()
	time.Sleep(soon)
	if got := first(t, p); !strings.Contains(got, "is shutting down: lame duck") {
		t.Errorf("first line %q", got)
	}
	close(release)
	<-ended
	<-reported
	time.Sleep(soon)
	if got := first(t, p); !strings.Contains(got, "is shutting down: stopped") {
		t.Errorf("first line %q", got)
	}
}

// TestFirstLineOfABan checks a server that the policy turret.P2C bans.
func TestFirstLineOfABan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		banned := make(chan time.Time, 100)
		defer balance.Watch(func(n balance.Transition) {
			if n.Banned {
				banned <- n.When
			}
		})()
		forAnHour := balance.Failures{BanFor: time.Hour, MaxBanFor: time.Hour}
		fleet := wire.StartFleet(t, wire.FleetConfig{
			Servers:  4,
			Register: func(_ int, s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("server")) },
			Server: func(i int) []grpc.ServerOption {
				return []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
					time.Sleep(5 * time.Millisecond)
					if i == 1 {
						return nil, status.Error(codes.Internal, "broken")
					}
					return h(ctx, req)
				})}
			},
			Dial: []grpc.DialOption{balance.WithP2C(balance.Config{Failures: forAnHour})},
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() {
				client := echov1.NewEchoServiceClient(fleet.Conn)
				for ctx.Err() == nil {
					_, _ = client.Unary(ctx, &echov1.UnaryRequest{}) // fails at the broken server
				}
			})
		}
		var since time.Time
		select {
		case since = <-banned:
		case <-ctx.Done():
			t.Error("the broken server was not banned")
		}
		cancel()
		callers.Wait()
		time.Sleep(soon - time.Since(since))
		if got := first(t, p); !strings.Contains(got, "server-1 is banned") {
			t.Errorf("first line %q", got)
		}
		v := p.View()
		if len(v.Channels) != 1 || len(v.Channels[0].Endpoints) != 4 || v.Channels[0].Endpoints[0].Name != "server-1" {
			t.Errorf("channels %+v", v.Channels)
		}
		if n := len(v.Changes); n == 0 || !strings.Contains(v.Changes[n-1].What, "banned for") || v.Changes[n-1].Why == "" {
			t.Errorf("changes %+v", v.Changes)
		}
	})
}
