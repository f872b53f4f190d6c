package orca

import (
	"context"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/orca"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/misuse"
)

// A Utilizer knows how much of what there is is in use: 0 is nothing, 1 all of it,
// and more than 1 that calls wait. *adaptive.Limit and *limit.Concurrency are
// Utilizers.
type Utilizer interface {
	Utilization() float64
}

// A Reporter reports how busy a server is: the greatest utilization of its gates,
// calls a second and failures a second, each as a mean that forgets with a time
// constant of one second. It implements gRPC's orca.ServerMetricsProvider. A
// failure is a call that interceptors.Classify calls neither Success nor Ignored: a
// call that the server refused counts against it.
//
// A Reporter is made by [New]. Its methods may be called concurrently. It starts
// no goroutine.
type Reporter struct {
	gates []Utilizer
	base  time.Time

	mu    sync.Mutex
	means means
}

// New returns a Reporter of gates. Without gates reports have no utilization, and
// weighted_round_robin treats all servers alike. It panics if a gate is nil.
func New(gates ...Utilizer) *Reporter {
	for _, g := range gates {
		if g == nil {
			misuse.Check("orca: New", &turret.FieldError{Package: "orca", Field: "gate", Value: nil, Bound: "non-nil"})
		}
	}
	return &Reporter{gates: gates, base: time.Now()}
}

// ServerOptions returns options of grpc.NewServer that send a report with the
// trailer of each RPC. Put them before the options of stacks: what these refuse is
// counted too.
func (r *Reporter) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		orca.CallMetricsServerOption(r),
		grpc.ChainUnaryInterceptor(r.unary),
		grpc.ChainStreamInterceptor(r.stream),
	}
}

// Register registers the service that sends reports out of band. A client says how
// often it wants one; gRPC sends them every 30 s at the most often.
func (r *Reporter) Register(s grpc.ServiceRegistrar) error {
	return orca.Register(s, orca.ServiceOptions{ServerMetricsProvider: r})
}

func (r *Reporter) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	failed := true // unless the handler returns
	defer func() { r.ended(ctx, failed) }()
	res, err := handler(ctx, req)
	failed = isFailure(ctx, err)
	return res, err
}

func (r *Reporter) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	failed := true
	defer func() { r.ended(stream.Context(), failed) }()
	err := handler(srv, stream)
	failed = isFailure(stream.Context(), err)
	return err
}

func isFailure(ctx context.Context, err error) bool {
	o := interceptors.Classify(ctx, nil, nil, err)
	return o != turret.Success && o != turret.Ignored
}

// ended counts an RPC. gRPC sends a report only with the RPCs that have asked for
// their recorder.
func (r *Reporter) ended(ctx context.Context, failed bool) {
	orca.CallMetricsRecorderFromContext(ctx)
	used := r.utilization()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.means.count(int64(time.Since(r.base)), used, failed)
}

// utilization is that of the gate that is used most.
func (r *Reporter) utilization() float64 {
	most := 0.0
	for _, g := range r.gates {
		if u := g.Utilization(); u > most && !math.IsInf(u, 1) {
			most = u
		}
	}
	return most
}

// ServerMetrics returns what a report says now.
func (r *Reporter) ServerMetrics() *orca.ServerMetrics {
	used := r.utilization()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.means.advance(int64(time.Since(r.base)), used)
	m := &orca.ServerMetrics{
		CPUUtilization: -1, MemUtilization: -1, AppUtilization: -1, QPS: r.means.calls, EPS: r.means.failures,
		Utilization: map[string]float64{}, RequestCost: map[string]float64{}, NamedMetrics: map[string]float64{},
	}
	if len(r.gates) > 0 {
		m.AppUtilization = r.means.used
	}
	return m
}

// means are means over the last second or so. They are a pure function of what
// happens and when. Their owner serializes access.
type means struct {
	last                  int64
	used, calls, failures float64
}

const memory = float64(time.Second)

// advance moves to now, at which used is in use.
func (m *means) advance(now int64, used float64) {
	keep := math.Exp(-float64(max(now-m.last, 0)) / memory)
	m.last = max(m.last, now)
	m.used = used + keep*(m.used-used)
	m.calls *= keep
	m.failures *= keep
}

// count counts a call that ended at now.
func (m *means) count(now int64, used float64, failed bool) {
	m.advance(now, used)
	m.calls += float64(time.Second) / memory
	if failed {
		m.failures += float64(time.Second) / memory
	}
}
