// Package peers has the balancing policies that Turret's is compared with: the
// real ones, of grpc-go, go-zero and kratos.
package peers

import (
	"context"
	"sync"
	"time"

	"github.com/go-kratos/kratos/v2/selector"
	kratosp2c "github.com/go-kratos/kratos/v2/selector/p2c"
	_ "github.com/go-kratos/kratos/v2/transport/grpc" // registers "selector"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/stat"
	_ "github.com/zeromicro/go-zero/zrpc" // registers "p2c_ewma"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"       // registers "least_request_experimental"
	_ "google.golang.org/grpc/balancer/roundrobin"         // registers "round_robin"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // registers "weighted_round_robin"
	"google.golang.org/grpc/orca"
	_ "google.golang.org/grpc/xds" // registers "outlier_detection_experimental"

	"github.com/turret-go/turret/test/experiments/sim"
)

// outlierDetection is gRFC A50's policy around another one. The empty detectors
// have the defaults of the gRFC; without any the policy does nothing.
const (
	detectByDefault = `"successRateEjection":{},"failurePercentageEjection":{"enforcementPercentage":100}`
	detectTuned     = `"interval":"1s","failurePercentageEjection":{"threshold":50,"enforcementPercentage":100,"minimumHosts":5,"requestVolume":5}`
)

func config(json string) func(int, uint64) string {
	return func(int, uint64) string { return `{"loadBalancingConfig":[` + json + `]}` }
}

func detecting(name, detectors, child string) *sim.Policy {
	return &sim.Policy{Name: name, Config: config(
		`{"outlier_detection_experimental":{` + detectors + `,"childPolicy":[{"` + child + `":{}}]}}`)}
}

// All returns the peers by name, in the order of the tables.
func All() []*sim.Policy {
	return []*sim.Policy{
		sim.Standard("round_robin"),
		sim.Standard("least_request_experimental"),
		weighted(),
		detecting("round_robin+od", detectByDefault, "round_robin"),
		detecting("round_robin+od-tuned", detectTuned, "round_robin"),
		detecting("least_request+od", detectByDefault, "least_request_experimental"),
		detecting("least_request+od-tuned", detectTuned, "least_request_experimental"),
		{Name: "go-zero p2c_ewma", Config: config(`{"p2c_ewma":{}}`), Before: quiet},
		{Name: "kratos p2c", Config: config(`{"selector":{}}`), Before: func() { selector.SetGlobalSelector(kratosp2c.NewBuilder()) }},
	}
}

// quiet turns off what go-zero logs and reports by itself.
func quiet() {
	logx.Disable()
	stat.SetReporter(nil)
}

// weighted is grpc-go's weighted_round_robin with load reports in each answer:
// the server reports its rate and the share of a second that it worked.
func weighted() *sim.Policy {
	return &sim.Policy{
		Name:   "weighted_round_robin",
		Config: config(`{"weighted_round_robin":{"blackoutPeriod":"1s","weightUpdatePeriod":"0.1s"}}`),
		Server: func() []grpc.ServerOption {
			r := orca.NewServerMetricsRecorder()
			w := &window{recorder: r}
			return []grpc.ServerOption{
				orca.CallMetricsServerOption(r),
				grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
					orca.CallMetricsRecorderFromContext(ctx)
					start := time.Now()
					defer func() { w.add(time.Since(start)) }()
					return next(ctx, req)
				}),
			}
		},
	}
}

// window counts what a server did in the last second.
type window struct {
	recorder orca.ServerMetricsRecorder

	mu    sync.Mutex
	since time.Time
	calls int
	busy  time.Duration
}

func (w *window) add(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if age := now.Sub(w.since); age >= time.Second {
		if w.calls > 0 && age < 2*time.Second {
			w.recorder.SetQPS(float64(w.calls) / age.Seconds())
			w.recorder.SetApplicationUtilization(w.busy.Seconds() / age.Seconds())
		}
		w.since, w.calls, w.busy = now, 0, 0
	}
	w.calls++
	w.busy += took
}
