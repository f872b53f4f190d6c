package balance

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/attempts"
)

// policy is the balancer.Balancer of one channel. It keeps what is known of the
// endpoints; its child keeps one pick_first for each of them, with their
// connections.
//
// gRPC calls UpdateClientConnState, ResolverError, ExitIdle and Close one at a
// time; the child calls UpdateState on any goroutine with a lock of its own
// held, so nothing here may call the child with mu held.
type policy struct {
	// gRPC, or the parent policy. Embedded, so that children of ours that make connections
	// reach it.
	balancer.ClientConn
	// child makes and closes the connections. target is what the channel dialed, for
	// metrics and descriptions.
	child  balancer.Balancer
	target string

	methods *methods

	pool

	handover    handover
	subset      subsetter
	pickers     atomic.Uint64 // how many were made
	looked      atomic.Uint64 // how many there were when the connections were looked at last
	stopReports func()

	// Guarded by bans.mu.
	config    *settings
	endpoints *resolver.EndpointMap[*named]
	departed  *resolver.EndpointMap[*named] // may come back
	most      int                           // the most endpoints at once since none has departed; bounds departed
	built     uint64                        // the number of the newest picker with a snapshot
	children  []endpointsharding.ChildState // the newest
}

// named is an endpoint that the resolver names.
type named struct {
	*endpoint

	// Of named endpoints, order and ready are guarded by bans.mu; connected is written by
	// lookAtConnections only.
	order     int           // by address
	ready     bool          // in the newest snapshot
	left      int64         // when the resolver stopped naming it
	connected atomic.Uint32 // a connectivity.State, as it was looked at last
}

// remembered is how long an endpoint that has left keeps its past: a lease that
// is renewed late, a readiness probe that fails once, and a DNS server that
// answers with some of the addresses bring it back sooner.
const remembered = int64(time.Minute)

// newPolicy returns the policy of one channel. It has no configuration yet: gRPC calls
// UpdateClientConnState before there can be a pick. The reporter of the gauge is called
// whenever metrics are collected, until Close.
func newPolicy(cc balancer.ClientConn, opts balancer.BuildOptions) *policy {
	p := &policy{
		ClientConn: cc,
		target:     opts.Target.String(),
		methods:    newMethods(),
		subset:     newSubsetter(),
		endpoints:  resolver.NewEndpointMap[*named](),
		departed:   resolver.NewEndpointMap[*named](),
	}
	p.init(p.changed, p.panicked)
	p.handover.init(p)
	p.child = endpointsharding.NewBalancer(p, opts, p.newChild, endpointsharding.Options{})
	p.stopReports = cc.MetricsRecorder().RegisterAsyncReporter(stats.AsyncMetricReporterFunc(p.report), endpointsMetric)
	p.register()
	return p
}

// UpdateClientConnState takes over the endpoints and the configuration. No
// configuration at all is the zero Config: a parent policy may have none for its
// children.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	var c Config
	switch config := s.BalancerConfig.(type) {
	case nil:
	case *parsed:
		c = config.Config
	default:
		// A configuration of another policy: a parent has mixed them up.
		return balancer.ErrBadResolverState
	}
	s.ResolverState.Endpoints = p.subset.choose(&c, s.ResolverState.Endpoints)
	p.reconcile(c.withDefaults(), s.ResolverState.Endpoints)
	// The children know nothing of our configuration. The health listener is
	// how health checks and outlier detection take an endpoint out.
	return p.child.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

// reconcile makes p.endpoints hold exactly the endpoints that the resolver
// names. What is known of an endpoint stays, whatever changes in the
// configuration, and for a while after the resolver has stopped to name it.
func (p *policy) reconcile(c Config, endpoints []resolver.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.config == nil || p.config.Config != c {
		p.configure(newSettings(c))
	}
	kept := resolver.NewEndpointMap[*named]()
	all := make([]*named, 0, len(endpoints))
	for _, e := range endpoints {
		if _, twice := kept.Get(e); twice || len(e.Addresses) == 0 {
			continue
		}
		known, ok := p.endpoints.Get(e)
		if !ok {
			known = p.arrive(e, now)
		}
		kept.Set(e, known)
		all = append(all, known)
	}
	for e, known := range p.endpoints.All() {
		if _, ok := kept.Get(e); !ok {
			known.left, known.ready = now, false
			p.forgetLocked(known.endpoint)
			p.departed.Set(e, known)
		}
	}
	p.endpoints = kept
	p.most = max(p.most, kept.Len())
	p.forgetDeparted(now)
	// Pickers list endpoints in this order, not in that of a map, so that the
	// same random words make the same picks.
	slices.SortFunc(all, func(a, b *named) int { return strings.Compare(a.name, b.name) })
	for i, e := range all {
		e.order = i
	}
}

// configure makes c the configuration of all endpoints, those that have left
// included.
// It requires bans.mu.
func (p *policy) configure(c *settings) {
	p.config = c
	p.handover.configure(c)
	for _, known := range p.endpoints.All() {
		known.configure(c)
	}
	for _, known := range p.departed.All() {
		known.configure(c)
	}
}

// arrive returns the endpoint e, with its past if it has left a short time ago.
// It requires bans.mu. An endpoint that comes back in time is as banned as it was, so
// that a resolver that flaps does not lift bans.
func (p *policy) arrive(e resolver.Endpoint, now int64) *named {
	known, ok := p.departed.Get(e)
	if !ok || now-known.left > remembered {
		return &named{endpoint: newEndpoint(&p.pool, p.config, e.Addresses[0].Addr)}
	}
	p.departed.Delete(e)
	p.reviveLocked(known.endpoint)
	return known
}

// forgetDeparted drops endpoints that left a long time ago, and of the others
// those that left first, until there are no more than p.most.
// It requires bans.mu. The bound keeps a resolver that names other endpoints in every
// update from filling the memory. It is not the present number of endpoints: a
// resolver that finds few of them, or none, often finds all again in the next moment.
func (p *policy) forgetDeparted(now int64) {
	type departure struct {
		resolver.Endpoint

		left int64
	}
	var departures []departure
	for e, known := range p.departed.All() {
		departures = append(departures, departure{e, known.left})
	}
	slices.SortFunc(departures, func(a, b departure) int { return cmp.Compare(b.left, a.left) })
	for i, d := range departures {
		if i >= p.most || now-d.left > remembered {
			p.departed.Delete(d.Endpoint)
		}
	}
	if p.departed.Len() == 0 {
		p.most = p.endpoints.Len()
	}
}

// UpdateState is called by the child when a connection changes.
// It may be called on any goroutine, with the child's lock held: it does not call the
// child.
func (p *policy) UpdateState(s balancer.State) {
	p.handover.connections(s, endpointsharding.ChildStatesFromPicker(s.Picker))
}

// noEndpoint is the picker of a channel whose resolver names no endpoint.
type noEndpoint struct{}

func (noEndpoint) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, errNoEndpoint
}

// ResolverError keeps the endpoints that we have.
// The child passes the error on to the connections, which fail RPCs with it only
// where there is none to use.
func (p *policy) ResolverError(err error) { p.child.ResolverError(err) }

// ExitIdle connects.
// gRPC calls it when an RPC comes to an idle channel. Every connection is wanted, not
// one: the choice needs several.
func (p *policy) ExitIdle() { p.child.ExitIdle() }

// UpdateSubConnState is never called: the children listen for themselves.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// Close closes the connections.
// The handover ends before the child does, so that no state is reported after Close.
func (p *policy) Close() {
	p.unregister()
	p.stopReports()
	p.handover.close()
	p.child.Close()
}

// A picker chooses among the endpoints that were ready at one moment. What is
// known of the endpoints is shared with the pickers before and after it.
//
// Its snapshot is made at its first pick, not when a connection changes: while
// 1,000 endpoints connect, nearly all pickers are replaced unused.
type picker struct {
	policy *policy
	number uint64 // of the pickers of the policy, in the order in which they were made

	once   sync.Once
	states []endpointsharding.ChildState
	snapshot
	children []balancer.Picker // of the choices
}

// build makes the snapshot. The states are dropped: they hold the pickers of endpoints
// that are not ready.
func (p *picker) build() {
	p.snapshot, p.children = p.policy.snapshot(p.states, p.number)
	p.states = nil
}

// Pick chooses an endpoint for one attempt of an RPC.
// It does not block, and takes a lock at the first pick only. ErrNoSubConnAvailable
// makes gRPC wait for the next picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	p.once.Do(p.build)
	if len(p.choices) == 0 { // all removed; the picker that knows comes at once
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	now := p.policy.now()
	record := attempts.FromContext(info.Ctx)
	c := newCall()
	chosen, err := p.choose(&c.visit, now, record)
	if err != nil {
		calls.Put(c)
		return balancer.PickResult{}, err
	}
	return p.send(c, chosen, now, info, record)
}

// send returns the pick of an endpoint that was chosen, and that c has entered.
// The child's picker may have lost its connection since: then nothing was sent, and
// what the endpoint gave to the call goes back. A stream is known by the record of the
// code that sends it, or by its method: gRPC does not tell a picker.
func (p *picker) send(c *call, chosen *choice, now int64, info balancer.PickInfo, record *attempts.Record) (balancer.PickResult, error) {
	result, err := p.children[chosen.index].Pick(info)
	if err != nil {
		chosen.cancel(&c.visit, now)
		calls.Put(c)
		return result, err
	}
	record.Add(chosen.id)
	c.endpoint, c.ctx, c.inner = chosen.endpoint, info.Ctx, result.Done
	c.start(chosen, now, record.Kind() == attempts.Stream || p.policy.methods.isStream(info.FullMethodName))
	result.Done = c.done
	return result, nil
}

// snapshot returns the ready endpoints and their pickers, for the picker of this
// number. An endpoint that was not ready in the snapshot before begins its slow
// start. A picker that is built after a newer one says nothing about what is
// ready now.
func (p *policy) snapshot(states []endpointsharding.ChildState, number uint64) (snapshot, []balancer.Picker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	newest := number > p.built
	p.built = max(p.built, number)
	// Each endpoint has a place by its address; those that are not ready leave theirs
	// empty, and the rest moves up below.
	ordered := make([]choice, p.endpoints.Len())
	pickers := make([]balancer.Picker, len(ordered))
	weights := make([]float64, len(ordered))
	for _, child := range states {
		e, ok := p.endpoints.Get(child.Endpoint)
		if !ok {
			continue // removed since
		}
		ready := child.State.ConnectivityState == connectivity.Ready
		if newest {
			if ready && !e.ready {
				e.warmUp(p.now())
			}
			e.ready = ready
		}
		if ready {
			ordered[e.order] = newChoice(e.endpoint, 0)
			pickers[e.order] = child.State.Picker
			weights[e.order] = max(1, float64(weight.FromEndpoint(child.Endpoint).Weight))
		}
	}
	ready := ordered[:0]
	for i, c := range ordered {
		if c.endpoint != nil {
			c.index = len(ready)
			pickers[c.index], weights[c.index] = pickers[i], weights[i]
			ready = append(ready, c)
		}
	}
	if newest {
		// bans compares how many are out with this.
		p.ready = len(ready)
	}
	s := snapshot{choices: ready, weights: aliasOf(weights[:len(ready)]), config: p.config}
	return s, pickers[:len(ready)]
}

// Metrics of the policy, for a stats.Handler of the channel that records them
// (grpc's own OpenTelemetry plugin does for those in its metric set). They are
// only touched when something is wrong with an endpoint.
var (
	bansMetric = stats.RegisterInt64Count(stats.MetricDescriptor{
		Name:        "turret.p2c.bans",
		Description: "Times that an endpoint was banned, a failed probe included.",
		Unit:        "{ban}",
		Labels:      []string{"grpc.target", "turret.p2c.cause"}, // cause: failures or latency
	})
	endpointsMetric = stats.RegisterInt64AsyncGauge(stats.MetricDescriptor{
		Name:        "turret.p2c.endpoints",
		Description: "Endpoints of the channel, by state.",
		Unit:        "{endpoint}",
		Labels:      []string{"grpc.target", "turret.p2c.state"}, // state: one of five
		Default:     true,
	})
	panicsMetric = stats.RegisterInt64Count(stats.MetricDescriptor{
		Name:        "turret.p2c.panics",
		Description: "Calls that were sent to a banned endpoint because no other was found.",
		Unit:        "{call}",
		Labels:      []string{"grpc.target"},
	})
)

// changed counts a ban, passes the transition on, and reports what it means to the
// parent.
// It is called with no lock held, on the goroutine of the call that decided.
func (p *policy) changed(t Transition) {
	if t.Banned {
		bansMetric.Record(p.MetricsRecorder(), 1, p.target, t.Cause)
	}
	t.Target = p.target
	publish(t)
	p.handover.update()
}

// panicked counts a call that is sent to a banned endpoint.
func (p *policy) panicked() { panicsMetric.Record(p.MetricsRecorder(), 1, p.target) }

// register lists p among [Channels].
// Without that a process could not describe its channels: gRPC has no list of
// policies.
func (p *policy) register() {
	channelsMu.Lock()
	defer channelsMu.Unlock()
	channels[p] = p.target
}

// unregister takes p off the list.
func (p *policy) unregister() {
	channelsMu.Lock()
	defer channelsMu.Unlock()
	delete(channels, p)
}

// Describe describes the policy and its endpoints.
func (p *policy) Describe(d *turret.Description) {
	d.Is("p2c", Name)
	d.Named(p.target)
	config, endpoints := p.lookAtConnections()
	if config == nil {
		return // before the first update
	}
	config.describe(d)
	p.subset.describe(d)
	if config.OnBanned == FailOver {
		d.State("fail_over", p.phase().String())
	}
	d.Count("bans", "{ban}", causeFailures, p.bansFor[0].Load())
	d.Count("bans", "{ban}", causeLatency, p.bansFor[1].Load())
	d.Count("panics", "{call}", "", p.panics.Load())
	describeEndpoints(d, p.views(endpoints))
}

// lookAtConnections notes the states of the connections, if they have changed
// since it was called last, and returns the endpoints. The endpoints are looked
// up without the mutex: p.endpoints is replaced and never changed.
func (p *policy) lookAtConnections() (*settings, *resolver.EndpointMap[*named]) {
	p.mu.Lock()
	config, endpoints, children, number := p.config, p.endpoints, p.children, p.pickers.Load()
	p.mu.Unlock()
	if p.looked.Swap(number) != number {
		for _, child := range children {
			if e, ok := endpoints.Get(child.Endpoint); ok {
				e.connected.Store(uint32(child.State.ConnectivityState))
			}
		}
	}
	return config, endpoints
}

// phase returns the phase of the handover, for descriptions.
func (p *policy) phase() phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handover.phase
}

// views looks at all endpoints once, at one moment.
func (p *policy) views(endpoints *resolver.EndpointMap[*named]) []view {
	now := p.now()
	views := make([]view, 0, endpoints.Len())
	for _, e := range endpoints.All() {
		views = append(views, look(e.endpoint, now, connectivity.State(e.connected.Load()), nil))
	}
	return views
}

// report records how many endpoints are in each state.
func (p *policy) report(r stats.AsyncMetricsRecorder) error {
	_, endpoints := p.lookAtConnections()
	count := map[string]int64{}
	for _, v := range p.views(endpoints) {
		count[v.state]++
	}
	for _, state := range states {
		endpointsMetric.Record(r, count[state], p.target, state)
	}
	return nil
}
