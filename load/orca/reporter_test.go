package orca

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// slow is a server whose calls take a fixed time.
type slow struct {
	echov1.UnimplementedEchoServiceServer

	takes time.Duration
	fails bool
	mu    sync.Mutex
	got   int
}

func (s *slow) Unary(context.Context, *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	s.mu.Lock()
	s.got++
	s.mu.Unlock()
	time.Sleep(s.takes)
	if s.fails {
		return nil, status.Error(codes.Unavailable, "failing")
	}
	return &echov1.UnaryResponse{}, nil
}

// gRPC's weighted_round_robin sends least to the server that is busiest, by reports
// with the answers and by those out of band.
func TestWeightedRoundRobinReadsReports(t *testing.T) {
	for name, policy := range map[string]string{
		"with answers": `{"blackoutPeriod":"1s","weightUpdatePeriod":"0.5s"}`,
		"out of band":  `{"enableOobLoadReport":true,"oobReportingPeriod":"30s","blackoutPeriod":"1s","weightUpdatePeriod":"0.5s"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers := []*slow{{takes: 10 * time.Millisecond}, {takes: 10 * time.Millisecond}, {takes: 100 * time.Millisecond}}
				reporters := make([]*Reporter, len(servers))
				fleet := wire.StartFleet(t, wire.FleetConfig{
					Servers: len(servers),
					Server: func(i int) []grpc.ServerOption {
						gate := adaptive.New(adaptive.Config{})
						reporters[i] = New(gate)
						return append(reporters[i].ServerOptions(), interceptors.New(interceptors.AdmitAdaptive(gate)).ServerOptions()...)
					},
					Register: func(i int, s grpc.ServiceRegistrar) {
						echov1.RegisterEchoServiceServer(s, servers[i])
						if err := reporters[i].Register(s); err != nil {
							t.Error(err)
						}
					},
					Dial: []grpc.DialOption{grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"weighted_round_robin":` + policy + `}]}`)},
				})
				client := echov1.NewEchoServiceClient(fleet.Conn)
				var wg sync.WaitGroup
				before := make([]int, len(servers))
				for i := range 25 * 90 { // a minute and a half
					if i == 25*45 {
						for j, s := range servers {
							s.mu.Lock()
							before[j] = s.got
							s.mu.Unlock()
						}
					}
					wg.Go(func() {
						if _, err := client.Unary(t.Context(), &echov1.UnaryRequest{}); err != nil {
							t.Error(err)
						}
					})
					time.Sleep(40 * time.Millisecond)
				}
				wg.Wait()
				got := make([]float64, len(servers))
				for j, s := range servers {
					got[j] = float64(s.got-before[j]) / (25 * 45)
				}
				t.Logf("shares %.3f", got)
				if got[2] > 0.2 || got[0] < 0.3 || got[1] < 0.3 {
					t.Errorf("shares %.3f, want the least for the last, whose calls take ten times as long", got)
				}
			})
		})
	}
}

func TestReportsCountRefusalsAndFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := limit.NewConcurrency(0, limit.Queue{})
		r := New(gate)
		p := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, &slow{fails: true}) },
			Server:   append(r.ServerOptions(), interceptors.New(interceptors.For(echov1.EchoService_BidiStream_FullMethodName, interceptors.Admit(gate))).ServerOptions()...),
		})
		client := echov1.NewEchoServiceClient(p.Conn)
		for range 500 {
			_, _ = client.Unary(t.Context(), &echov1.UnaryRequest{})
			if s, err := client.BidiStream(t.Context()); err == nil {
				_, _ = s.Recv()
			}
			time.Sleep(10 * time.Millisecond)
		}
		m := r.ServerMetrics()
		if math.Abs(m.QPS-200) > 10 || math.Abs(m.EPS-200) > 10 {
			t.Errorf("%.1f calls and %.1f failures a second, want 200 of each", m.QPS, m.EPS)
		}
		time.Sleep(10 * time.Second)
		if m := r.ServerMetrics(); m.QPS > 0.1 || m.EPS > 0.1 {
			t.Errorf("ten seconds later %.1f calls and %.1f failures a second", m.QPS, m.EPS)
		}
	})
}

// half is used by half.
type half struct{}

func (half) Utilization() float64 { return 0.5 }

func TestUtilizationIsThatOfTheFullestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := limit.NewConcurrency(4, limit.Queue{})
		for range 3 {
			if _, err := gate.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r := New(half{}, gate, limit.NewConcurrency(0, limit.Queue{}))
		time.Sleep(10 * time.Second)
		if got := r.ServerMetrics().AppUtilization; math.Abs(got-1) > 0.01 {
			t.Errorf("utilization %v, want 1: one gate has no room at all", got)
		}
		r = New(half{}, gate)
		time.Sleep(10 * time.Second)
		if got := r.ServerMetrics().AppUtilization; math.Abs(got-0.75) > 0.01 {
			t.Errorf("utilization %v, want 0.75", got)
		}
		if got := New().ServerMetrics().AppUtilization; got != -1 {
			t.Errorf("utilization %v without gates, want that there is none", got)
		}
	})
}

func TestNewRefusesNil(t *testing.T) {
	defer func() {
		err, ok := recover().(error)
		if _, field := errors.AsType[*turret.FieldError](err); !ok || !field {
			t.Errorf("panics with %v, want a *turret.FieldError", err)
		}
	}()
	New(nil)
}
