package alarm_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/load/alarm"
	loadv1 "github.com/turret-go/turret/proto/turret/load/v1"
)

// A site is a server with an alarm in a bubble, and a client of it. Its calls are
// made at the layer.
type site struct {
	*testing.T

	alarm  *alarm.Alarm
	server *grpc.Server
	client loadv1.LoadClient
	inside interceptors.Service // the layer around a handler
	work   time.Duration        // that the handler takes
}

func inSite(t *testing.T, c alarm.Config, f func(s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{T: t, alarm: alarm.New(c), work: 10 * time.Millisecond}
		s.inside = s.alarm.Layer()(turret.ServiceFunc(func(ctx context.Context, _ *interceptors.RPC) (any, error) {
			time.Sleep(s.work)
			return nil, ctx.Err()
		}))
		// No stream gets through the stack, but for the alarm's.
		stack := interceptors.New(s.alarm.Layer(), interceptors.ConcurrencyLimit(0, limit.Queue{}))
		s.server = grpc.NewServer(stack.ServerOptions()...)
		s.alarm.Register(s.server)
		listener := bufconn.Listen(1 << 16)
		go func() { _ = s.server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///site", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
		if err != nil {
			t.Fatal(err)
		}
		s.client = loadv1.NewLoadClient(conn)
		f(s)
		_ = conn.Close()
		s.server.Stop()
	})
}

// call makes calls one after the other.
func (s *site) call(n int) {
	for range n {
		_, _ = s.inside.Call(s.Context(), &interceptors.RPC{Method: "/a.B/C", Side: interceptors.SideServer})
	}
}

// arrival is what came on a stream, and when.
type arrival struct {
	sick bool
	at   time.Duration
}

// watch opens a stream and returns what comes on it until ctx ends.
func (s *site) watch(ctx context.Context) <-chan arrival {
	stream, err := s.client.Watch(ctx, &loadv1.WatchRequest{})
	if err != nil {
		s.Fatal(err)
	}
	begin, all := time.Now(), make(chan arrival, 1000)
	go func() {
		defer close(all)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			all <- arrival{m.GetSick(), time.Since(begin)}
		}
	}()
	return all
}

// TestWatch has a server become sick and well again: its watchers are sent nothing
// before, the news within a fifth of a second, and a reminder each second.
func TestWatch(t *testing.T) {
	inSite(t, alarm.Config{}, func(s *site) {
		ctx, cancel := context.WithCancel(s.Context())
		defer cancel()
		one, two := s.watch(ctx), s.watch(ctx)
		s.call(1000)
		if len(one)+len(two) != 0 {
			t.Fatal("something was sent while the server was well")
		}
		s.work = 200 * time.Millisecond
		s.call(20)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		n := len(one)
		if n < 4 || n > 9 || len(two) != n {
			t.Errorf("%d and %d messages in some 7 s of sickness", n, len(two))
		}
		late := s.watch(ctx)
		time.Sleep(lookTwice)
		if len(late) == 0 {
			t.Error("a watcher that comes later is sent nothing")
		}
		s.work = 10 * time.Millisecond
		s.call(200)
		time.Sleep(time.Second)
		synctest.Wait()
		var last arrival
		for len(one) > 0 {
			last = <-one
		}
		if last.sick {
			t.Error("the watchers were not sent that the server is well again")
		}
		before := s.alarm.Stats()
		cancel()
		synctest.Wait()
		after := s.alarm.Stats()
		if before.Watchers != 3 || after.Watchers != 0 || before.Sick {
			t.Errorf("before: %+v, after: %+v", before, after)
		}
	})
}

// lookTwice is longer than a server waits before it looks at itself.
const lookTwice = 200 * time.Millisecond

// TestMaxWatchers opens more streams than are allowed: they are refused, and there is
// room when another one ends.
func TestMaxWatchers(t *testing.T) {
	inSite(t, alarm.Config{MaxWatchers: 2}, func(s *site) {
		ctx, cancel := context.WithCancel(s.Context())
		defer cancel()
		first, leave := context.WithCancel(ctx)
		s.watch(first)
		s.watch(ctx)
		synctest.Wait()
		refused := func() bool {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			stream, err := s.client.Watch(ctx, &loadv1.WatchRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return status.Code(err) == codes.ResourceExhausted
		}
		if !refused() {
			t.Error("a third stream was not refused")
		}
		leave()
		synctest.Wait()
		if refused() {
			t.Error("a stream was refused though one has ended")
		}
		if got := s.alarm.Stats().Refused; got != 1 {
			t.Errorf("%d refused", got)
		}
	})
}

// TestGracefulStop stops a server that is watched by a client of the policy's kind,
// which gives its stream up as the connection goes away.
func TestGracefulStop(t *testing.T) {
	inSite(t, alarm.Config{}, func(s *site) {
		ctx, cancel := context.WithCancel(s.Context())
		s.watch(ctx)
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			s.server.GracefulStop()
		}()
		synctest.Wait()
		cancel()
		<-stopped
	})
}

// TestUnmeasured makes calls that the layer lets through: they are not measured.
func TestUnmeasured(t *testing.T) {
	for name, rpc := range map[string]*interceptors.RPC{
		"stream": {Method: "/a.B/C", Side: interceptors.SideServer, Kind: interceptors.KindBidiStream},
		"client": {Method: "/a.B/C", Side: interceptors.SideClient},
		"health": {Method: "/grpc.health.v1.Health/Check", Side: interceptors.SideServer},
	} {
		inSite(t, alarm.Config{}, func(s *site) {
			if _, err := s.inside.Call(s.Context(), rpc); err != nil {
				t.Error(err)
			}
			if got := s.alarm.Stats(); got.Latency != 0 {
				t.Errorf("%s: %+v", name, got)
			}
		})
	}
}

// TestEveryEnd ends calls in every way: each gives back what it took, so that a later
// silence means nothing.
func TestEveryEnd(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context) (any, error){
		"error":   func(context.Context) (any, error) { return nil, errors.New("no") },
		"refusal": func(context.Context) (any, error) { return nil, turret.ErrNotReady },
		"panic":   func(context.Context) (any, error) { panic("no") },
		"goexit":  func(context.Context) (any, error) { runtime.Goexit(); return nil, nil },
		"cancel":  func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := alarm.New(alarm.Config{})
				ends := false
				s := a.Layer()(turret.ServiceFunc(func(ctx context.Context, _ *interceptors.RPC) (any, error) {
					time.Sleep(10 * time.Millisecond)
					if ends {
						return end(ctx)
					}
					return nil, nil //nolint:nilnil // a reply that no test looks at
				}))
				rpc := &interceptors.RPC{Method: "/a.B/C", Side: interceptors.SideServer}
				for range 100 {
					_, _ = s.Call(t.Context(), rpc)
				}
				ends = true
				for range 10 {
					over := make(chan struct{})
					go func() {
						defer close(over)
						defer func() { _ = recover() }()
						ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
						defer cancel()
						_, _ = s.Call(ctx, rpc)
					}()
					<-over
				}
				time.Sleep(time.Second)
				if got := a.Stats(); got.Sick {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestLayerAllocates nothing.
func TestLayerAllocates(t *testing.T) {
	a := alarm.New(alarm.Config{})
	s := a.Layer()(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) { return nil, nil })) //nolint:nilnil // a reply that no test looks at
	ctx, rpc := context.Background(), &interceptors.RPC{Method: "/a.B/C", Side: interceptors.SideServer}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, rpc) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// TestConfig checks what New refuses, and that an alarm describes itself.
func TestConfig(t *testing.T) {
	for _, c := range []alarm.Config{{Relearn: -1}, {MaxWatchers: -1}} {
		if _, ok := errors.AsType[*turret.FieldError](c.Validate()); !ok {
			t.Errorf("%+v: %v, want a FieldError", c, c.Validate())
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%+v) did not panic", c)
				}
			}()
			alarm.New(c)
		}()
	}
	a := alarm.New(alarm.Config{})
	if text := a.String(); !strings.HasPrefix(text, "alarm: well") {
		t.Error(text)
	}
	if node := turret.Describe(a, 10); node.Kind != "alarm" || len(node.Figures) != 5 {
		t.Errorf("%+v", node)
	}
}
