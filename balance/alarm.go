package balance

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	loadv1 "github.com/turret-go/turret/proto/turret/load/v1"
	"github.com/turret-go/turret/retry"
)

// A server with an alarm (package load/alarm) says on a stream when it is sick. The
// policy opens one such stream on each connection that is ready, and closes it with
// the connection.

const (
	// alarmFor is how long an alarm holds that is not repeated. Servers repeat it
	// each second.
	alarmFor = 3 * time.Second
	// alarmGap is the least time between two messages that are read from a stream:
	// what a server sends faster waits in gRPC's flow control.
	alarmGap = 50 * time.Millisecond
	// alarmBytes bounds a message.
	alarmBytes = 1 << 10
	// longestReport bounds the latency that a server may report.
	longestReport = 5 * time.Minute
)

// watchAgain is how long to wait before a stream is opened again that has ended
// while its connection has not.
var watchAgain = retry.Backoff{Base: time.Second, Max: 2 * time.Minute}

// alarmed returns the load of an endpoint that says it is sick, of which the load l
// is known otherwise. It is believed only if its latency is out of the ordinary for
// the endpoints of this balancer, and only to its own disadvantage.
func (c *choice) alarmed(l float64, reported int64) float64 {
	fleet := c.pool.fleet
	if !fleet.Outlier(time.Duration(reported)) {
		return l
	}
	calls := float64(c.tracker.InFlight() + 1)
	if c.config.Load().Load == LoadPending {
		return max(l, calls*float64(reported)/float64(fleet.Typical()))
	}
	return max(l, calls*float64(reported))
}

// describeAlarm adds what e says of itself, while it is sick.
func describeAlarm(d *turret.Description, e *endpoint) {
	if reported := e.reported.Load(); reported != 0 {
		d.State("alarm", "sick")
		d.Gauge("reported_latency", "s", time.Duration(reported).Seconds())
	}
}

// A child is the pick_first of one endpoint. It is between endpointsharding and
// pick_first, to see the connection become ready.
type child struct {
	balancer.Balancer   // pick_first
	balancer.ClientConn // of endpointsharding

	policy   *policy
	endpoint atomic.Pointer[named]
}

func (p *policy) newChild(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	c := &child{ClientConn: cc, policy: p}
	c.Balancer = balancer.Get(pickfirst.Name).Build(c, opts)
	return c
}

// UpdateClientConnState comes from endpointsharding, with the one endpoint of c.
func (c *child) UpdateClientConnState(s balancer.ClientConnState) error {
	for _, e := range s.ResolverState.Endpoints {
		if known := c.policy.endpointOf(e); known != nil {
			c.endpoint.Store(known)
		}
	}
	return c.Balancer.UpdateClientConnState(s)
}

// NewSubConn comes from pick_first. The connection is watched while it is ready.
func (c *child) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	var conn balancer.SubConn
	stop := func() {}
	listener := opts.StateListener
	opts.StateListener = func(s balancer.SubConnState) {
		stop() // gRPC has done so already, unless this one is the first
		stop = func() {}
		if e := c.endpoint.Load(); s.ConnectivityState == connectivity.Ready && e != nil && !e.config.Load().IgnoreAlarms {
			_, stop = conn.GetOrBuildProducer(&alarmWatch{endpoint: e.endpoint})
		}
		listener(s)
	}
	conn, err := c.ClientConn.NewSubConn(addrs, opts) //nolint:staticcheck // pick_first has one address for each, which is what is not deprecated
	return conn, err
}

// An alarmWatch watches one server on one connection. It is what gRPC calls a
// producer: gRPC stops it when the connection is lost.
type alarmWatch struct {
	endpoint *endpoint
	client   loadv1.LoadClient
}

// Build begins to watch. stop ends it and waits for its end.
func (w *alarmWatch) Build(conn any) (_ balancer.Producer, stop func()) {
	w.client = loadv1.NewLoadClient(conn.(grpc.ClientConnInterface)) //nolint:forcetypeassert // gRPC promises it
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	return w, func() {
		cancel()
		<-ended
	}
}

// run watches until ctx ends or the server does not want to be watched.
func (w *alarmWatch) run(ctx context.Context) {
	for attempt := 1; ; attempt++ {
		heeded, err := w.watch(ctx)
		if ctx.Err() != nil || !passing(err) {
			return
		}
		if heeded {
			attempt = 1
		}
		if !wait(ctx, watchAgain.Delay(attempt, rand.Uint64())) {
			return
		}
	}
}

// passing reports whether a stream that ended with err may be opened again on the
// same connection. A server that has no alarm answers UNIMPLEMENTED; one that
// refuses the stream otherwise would refuse it again.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded, codes.OK:
		return true
	default:
		return false
	}
}

// watch reads one stream to its end. What the server has said holds no longer than
// the stream.
func (w *alarmWatch) watch(ctx context.Context) (heeded bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.endpoint.reported.Store(0)
	stream, err := w.client.Watch(ctx, &loadv1.WatchRequest{}, grpc.MaxCallRecvMsgSize(alarmBytes))
	if err != nil {
		return false, err
	}
	expiry := time.AfterFunc(alarmFor, func() { w.endpoint.reported.Store(0) })
	defer expiry.Stop()
	for {
		m, err := stream.Recv()
		if err != nil {
			return heeded, err
		}
		heeded = true
		expiry.Reset(alarmFor)
		w.heed(m)
		if !wait(ctx, alarmGap) {
			return heeded, ctx.Err()
		}
	}
}

// heed keeps what the server says of itself.
func (w *alarmWatch) heed(m *loadv1.WatchResponse) {
	reported := int64(0)
	if m.GetSick() && !w.endpoint.config.Load().IgnoreAlarms {
		reported = int64(min(longestReport, max(0, m.GetLatency().AsDuration())))
	}
	w.endpoint.reported.Store(reported)
}

// wait waits for d, and reports whether ctx has not ended before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// endpointOf returns what is known of an endpoint that the resolver names.
func (p *policy) endpointOf(e resolver.Endpoint) *named {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, _ := p.endpoints.Get(e)
	return known
}
