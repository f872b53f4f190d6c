package interceptors_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// everyLevel is the level of the i-th call of a mix: a tenth is of the most critical
// level, and two, three and four tenths of the others.
func everyLevel(i int) criticality.Level {
	return [...]criticality.Level{
		criticality.Sheddable, criticality.SheddablePlus, criticality.Critical, criticality.Sheddable, criticality.SheddablePlus,
		criticality.Sheddable, criticality.CriticalPlus, criticality.Critical, criticality.SheddablePlus, criticality.Sheddable,
	}[i%10]
}

// allowAll lets peers claim every level.
var allowAll = interceptors.CriticalityConfig{
	Allow: func(context.Context, *interceptors.RPC) criticality.Level { return criticality.CriticalPlus },
}

const (
	busyWork     = 20 * time.Millisecond
	busyCapacity = 200 // RPCs a second of a busy server
)

// A busy server has as many workers as workers has places, which take work for each
// RPC.
type busy struct {
	echov1.UnimplementedEchoServiceServer

	workers chan struct{}
	work    time.Duration
}

func (b *busy) Unary(ctx context.Context, _ *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	select {
	case b.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	time.Sleep(b.work)
	<-b.workers
	return &echov1.UnaryResponse{}, nil
}

// startBusy starts a busy server with an adaptive limit, and returns how many RPCs
// it got, and how to dial it.
func startBusy(t *testing.T, c interceptors.CriticalityConfig) (got *atomic.Int64, dial func(layers ...interceptors.Layer) echov1.EchoServiceClient) {
	t.Helper()
	got = new(atomic.Int64)
	counts := interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) {
		got.Add(1)
		return nil, nil //nolint:nilnil // keeps the context
	})
	server := interceptors.New(counts, interceptors.Criticality(c), interceptors.AdaptiveLimit(adaptive.Config{}))
	p := wire.Start(t, wire.Config{
		Register: func(s grpc.ServiceRegistrar) {
			echov1.RegisterEchoServiceServer(s, &busy{workers: make(chan struct{}, 4), work: busyWork})
		},
		Server: server.ServerOptions(),
	})
	return got, func(layers ...interceptors.Layer) echov1.EchoServiceClient {
		conn, err := grpc.NewClient("passthrough:///busy", append(interceptors.New(layers...).DialOptions(),
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.Dial(ctx) }))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return echov1.NewEchoServiceClient(conn)
	}
}

// A front is a server with room, six of seven of whose RPCs need the one behind it.
type front struct {
	echov1.UnimplementedEchoServiceServer

	back           echov1.EchoServiceClient
	n, vain        atomic.Int64 // RPCs, and those for the server behind that were not answered
	counting       atomic.Bool
	answeredByBack atomic.Int64
}

func (f *front) Unary(ctx context.Context, req *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	if f.n.Add(1)%7 == 0 {
		return &echov1.UnaryResponse{}, nil
	}
	res, err := f.back.Unary(ctx, req)
	if f.counting.Load() {
		if err == nil {
			f.answeredByBack.Add(1)
		} else {
			f.vain.Add(1)
		}
	}
	return res, err
}

// shares are the calls of each level that were asked and answered.
type shares struct {
	mu              sync.Mutex
	asked, answered [criticality.Levels]int
}

func (s *shares) note(level criticality.Level, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[level.Index()]++
	if err == nil {
		s.answered[level.Index()]++
	}
}

func (s *shares) of(level criticality.Level) float64 {
	return float64(s.answered[level.Index()]) / float64(max(s.asked[level.Index()], 1))
}

// surge makes calls at a steady rate for d, and returns when all have ended.
func surge(perSecond int, d time.Duration, call func(i int)) {
	var wg sync.WaitGroup
	for i := range int(d.Seconds() * float64(perSecond)) {
		wg.Go(func() { call(i) })
		time.Sleep(time.Second / time.Duration(perSecond))
	}
	wg.Wait()
	synctest.Wait() // what servers do after their answers
}

// A server with room, in front of one that gets three times what it can do, must
// not send what is refused there, and what matters most must get through both.
func TestThresholdOverTwoHops(t *testing.T) {
	for name, obeys := range map[string]bool{"with the threshold": true, "without": false} {
		inBubble(t, name, func(t *testing.T) {
			if !obeys && !exact {
				t.Skip("takes long under the race detector, and shows only that there is a surge")
			}
			got, dial := startBusy(t, allowAll)
			layers := []interceptors.Layer{interceptors.Criticality(allowAll)}
			if obeys {
				layers = append(layers, interceptors.Threshold())
			}
			f := &front{back: dial(layers...)}
			p := wire.Start(t, wire.Config{
				Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, f) },
				Server:   interceptors.New(interceptors.Criticality(allowAll), interceptors.AdaptiveLimit(adaptive.Config{Min: 200})).ServerOptions(),
				Dial:     interceptors.New(interceptors.Criticality(allowAll)).DialOptions(),
			})
			client := echov1.NewEchoServiceClient(p.Conn)
			call := func(to *shares) func(i int) {
				return func(i int) {
					level := everyLevel(i)
					ctx, cancel := context.WithTimeout(criticality.With(t.Context(), level), 200*time.Millisecond)
					defer cancel()
					_, err := client.Unary(ctx, &echov1.UnaryRequest{})
					to.note(level, err)
				}
			}
			surge(busyCapacity*6/10, time.Second, call(&shares{}))
			surge(busyCapacity*3*7/6, time.Second, call(&shares{}))
			before := got.Load()
			f.counting.Store(true)
			s := &shares{}
			measured := 2 * time.Second
			if !obeys {
				measured = time.Second
			}
			surge(busyCapacity*3*7/6, measured, call(s))
			sent := float64(got.Load()-before) / (busyCapacity * measured.Seconds())
			goodput := float64(f.answeredByBack.Load()) / (busyCapacity * measured.Seconds())
			wasted := float64(f.vain.Load()) / float64(f.vain.Load()+f.answeredByBack.Load())
			t.Logf("the server behind got %.2f times its capacity and answered %.1f %% of it; by level %.4f %.4f %.4f %.4f",
				sent, 100*goodput, s.of(criticality.CriticalPlus), s.of(criticality.Critical), s.of(criticality.SheddablePlus), s.of(criticality.Sheddable))
			if goodput < 0.85 || s.of(criticality.CriticalPlus) < 0.97 {
				t.Errorf("goodput %.3f, %.3f of the most critical answered", goodput, s.of(criticality.CriticalPlus))
			}
			switch {
			case obeys && sent > 1.5:
				t.Errorf("the server behind got %.2f times its capacity", sent)
			case !obeys && (sent < 2.8 || wasted < 0.5):
				t.Errorf("the server behind got %.2f times its capacity without a threshold, so that this test shows nothing", sent)
			}
		})
	}
}

// A peer that claims the highest level for everything gets what the level that the
// server allows it gets, whether it keeps to the threshold or not.
func TestClaimsBeyondWhatIsAllowedGainNothing(t *testing.T) {
	for name, layer := range map[string]interceptors.Layer{"with the threshold": interceptors.Threshold(), "without": nil} {
		inBubble(t, name, func(t *testing.T) {
			_, dial := startBusy(t, interceptors.CriticalityConfig{})
			carry := interceptors.Criticality(interceptors.CriticalityConfig{})
			client := dial(carry, layer)
			call := func(to *shares) func(i int) {
				return func(i int) {
					level := criticality.Critical
					if i%2 == 0 {
						level = criticality.CriticalPlus
					}
					ctx, cancel := context.WithTimeout(criticality.With(t.Context(), level), 200*time.Millisecond)
					defer cancel()
					_, err := client.Unary(ctx, &echov1.UnaryRequest{})
					to.note(level, err)
				}
			}
			surge(busyCapacity*6/10, time.Second, call(&shares{}))
			s := &shares{}
			surge(3*busyCapacity, 2*time.Second, call(s))
			h, c := s.of(criticality.Critical), s.of(criticality.CriticalPlus)
			t.Logf("%.3f of the honest and %.3f of the other calls answered", h, c)
			// Chance makes the one 1.2 times the other. If claims counted, hardly any
			// of the honest calls would be answered.
			if c > 1.6*h || h < 0.2 {
				t.Errorf("%.3f of the honest and %.3f of the other calls answered, want about a third of each", h, c)
			}
		})
	}
}
