package balance

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	v3 "github.com/cncf/xds/go/xds/data/orca/v3"
	"github.com/go-kratos/kratos/v2/selector"
	kratosp2c "github.com/go-kratos/kratos/v2/selector/p2c"
	_ "github.com/go-kratos/kratos/v2/transport/grpc" // registers "selector"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/stat"
	_ "github.com/zeromicro/go-zero/zrpc" // registers "p2c_ewma"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"       // registers "least_request_experimental"
	_ "google.golang.org/grpc/balancer/roundrobin"         // registers "round_robin"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // registers "weighted_round_robin"
	"google.golang.org/grpc/grpclog"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/fakeconn"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/bench/measure"
)

func TestMain(m *testing.M) {
	// go-zero replaces gRPC's logger by one that logs everything. This is the
	// one that gRPC comes with.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	os.Exit(measure.Main(m))
}

// A policy is one to pick with.
type policy struct {
	name, registered, config string
	report                   any  // that servers send with their answers
	base                     bool // built on gRPC's balancer/base, which cannot put pickers off
}

var policies = []policy{
	{name: "Turret: P2C", registered: balance.Name},
	{name: "gRPC: round_robin", registered: "round_robin"},
	{name: "gRPC: least_request", registered: "least_request_experimental"},
	{name: "gRPC: weighted_round_robin", registered: "weighted_round_robin"},
	{
		name: "gRPC: weighted_round_robin, with reports", registered: "weighted_round_robin", config: `{"blackoutPeriod":"0s"}`,
		report: &v3.OrcaLoadReport{CpuUtilization: 0.5, RpsFractional: 100},
	},
	{name: "go-zero: p2c_ewma", registered: "p2c_ewma", base: true},
	{name: "kratos: p2c", registered: "selector", base: true},
}

// quiet keeps go-zero from logging, and gives kratos its policy.
func quiet() {
	logx.Disable()
	stat.SetReporter(nil)
	selector.SetGlobalSelector(kratosp2c.NewBuilder())
}

// pick returns a pick among endpoints that are all ready, and the end of its
// call.
func (p policy) pick(b *testing.B, endpoints int) func() {
	quiet()
	config := p.config
	if config == "" {
		config = "{}"
	}
	conn, policy, err := fakeconn.StartInBulk(p.registered, config, fakeconn.Endpoints(endpoints))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(policy.Close)
	state, _ := conn.State()
	info := balancer.PickInfo{FullMethodName: "/package.Service/Method", Ctx: context.Background()}
	done := balancer.DoneInfo{BytesSent: true, BytesReceived: true, ServerLoad: p.report}
	return func() {
		r, err := state.Picker.Pick(info)
		if err != nil {
			b.Error(err)
			return
		}
		if r.Done != nil {
			r.Done(done)
		}
	}
}

// BenchmarkPick is a pick and the end of its call, by the number of endpoints.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			var rows []measure.Row
			for _, p := range policies {
				if n > 1000 && p.base {
					continue // makes ten thousand pickers, for half a minute
				}
				rows = append(rows, measure.Row{Name: p.name, F: p.pick(b, n)})
			}
			measure.Compare(b, rows...)
		})
	}
}

// BenchmarkContended is a pick and the end of its call on all processors at the
// same time.
func BenchmarkContended(b *testing.B) {
	var rows []measure.Row
	for _, p := range policies {
		rows = append(rows, measure.Row{Name: p.name, F: p.pick(b, 100), Goroutines: runtime.GOMAXPROCS(0)})
	}
	measure.Compare(b, rows...)
}

// BenchmarkReady brings 1,000 endpoints up, one after the other: each time the
// policies make their pickers anew.
func BenchmarkReady(b *testing.B) {
	quiet()
	b.Run("endpointsharding", func(b *testing.B) { measure.Compare(b, becomeReady(b, policies[:2])...) })
	b.Run("all", func(b *testing.B) { measure.Compare(b, becomeReady(b, policies)...) })
}

func becomeReady(b *testing.B, policies []policy) (rows []measure.Row) {
	n := 1000
	if testing.Short() {
		n = 10
	}
	endpoints := fakeconn.Endpoints(n)
	for _, p := range policies {
		if p.report != nil {
			continue // what it does later is no part of this
		}
		var started []balancer.Balancer
		rows = append(rows, measure.Row{
			Name: p.name,
			F: func() {
				_, policy, err := fakeconn.Start(p.registered, "{}", endpoints)
				if err != nil {
					b.Fatal(err)
				}
				started = append(started, policy)
			},
			After: func() {
				for _, policy := range started {
					policy.Close()
				}
				started = nil
			},
		})
	}
	return rows
}

// BenchmarkRecord is a unary RPC of a client with Retry, in a program that
// imports package balance: the RPC carries a record of the endpoints that it has
// tried.
func BenchmarkRecord(b *testing.B) {
	through := func(layers ...interceptors.Layer) func() {
		i, ctx, req, reply := interceptors.New(layers...).UnaryClient(), b.Context(), new(int), new(int)
		var invoker grpc.UnaryInvoker = func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
		return func() { _ = i(ctx, "/package.Service/Method", req, reply, nil, invoker) }
	}
	measure.Compare(b,
		measure.Row{Name: "Turret: Retry", F: through(interceptors.Retry(retry.Config{}))},
		measure.Row{Name: "Turret: a layer that does nothing", F: through(func(inner interceptors.Service) interceptors.Service { return passing{inner} })},
	)
}

type passing struct{ interceptors.Service }

func (s passing) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return s.Service.Call(ctx, rpc)
}
