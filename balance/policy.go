package balance

import (
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret/internal/tried"
)

// policy is the balancer.Balancer of one channel. It keeps what is known of the
// endpoints; its child keeps one pick_first for each of them, with their
// connections.
//
// gRPC calls UpdateClientConnState, ResolverError, ExitIdle and Close one at a
// time; the child calls UpdateState on any goroutine with a lock of its own
// held, so nothing here may call the child with mu held.
type policy struct {
	balancer.ClientConn
	child  balancer.Balancer
	target string

	methods *methods

	pool

	// Guarded by pool.mu.
	config    *settings
	endpoints *resolver.EndpointMap[*named]
}

// named is an endpoint that the resolver names.
type named struct {
	*endpoint

	address string
	order   int  // by address
	ready   bool // in the newest snapshot
}

func newPolicy(cc balancer.ClientConn, opts balancer.BuildOptions) *policy {
	p := &policy{
		ClientConn: cc,
		target:     opts.Target.String(),
		methods:    newMethods(),
		endpoints:  resolver.NewEndpointMap[*named](),
	}
	p.init(p.banned, p.panicked)
	p.child = endpointsharding.NewBalancer(p, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return p
}

// UpdateClientConnState takes over the endpoints and the configuration. With
// another configuration all endpoints begin anew.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, ok := s.BalancerConfig.(*parsed)
	if !ok {
		return balancer.ErrBadResolverState
	}
	p.reconcile(c.withDefaults(), s.ResolverState.Endpoints)
	// The children know nothing of our configuration. The health listener is
	// how health checks and outlier detection take an endpoint out.
	return p.child.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

// reconcile makes p.endpoints hold exactly the endpoints that the resolver
// names, and keeps what is known of those that it named before.
func (p *policy) reconcile(c Config, endpoints []resolver.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.config == nil || p.config.Config != c
	if changed {
		p.config = newSettings(c)
	}
	kept := resolver.NewEndpointMap[*named]()
	all := make([]*named, 0, len(endpoints))
	for _, e := range endpoints {
		if _, twice := kept.Get(e); twice || len(e.Addresses) == 0 {
			continue
		}
		known, ok := p.endpoints.Get(e)
		if !ok || changed {
			known = &named{endpoint: newEndpoint(&p.pool, p.config), address: e.Addresses[0].Addr}
		}
		kept.Set(e, known)
		all = append(all, known)
	}
	for e, known := range p.endpoints.All() {
		if now, ok := kept.Get(e); !ok || now != known {
			p.forgetLocked(known.endpoint)
		}
	}
	p.endpoints = kept
	// Pickers list endpoints in this order, not in that of a map, so that the
	// same random words make the same picks.
	slices.SortFunc(all, func(a, b *named) int { return strings.Compare(a.address, b.address) })
	for i, e := range all {
		e.order = i
	}
}

// UpdateState is called by the child when a connection changes.
func (p *policy) UpdateState(s balancer.State) {
	children := endpointsharding.ChildStatesFromPicker(s.Picker)
	switch {
	case s.ConnectivityState == connectivity.Ready:
		s.Picker = &picker{policy: p, states: children}
	case len(children) == 0:
		s.Picker = noEndpoint{}
	}
	p.ClientConn.UpdateState(s)
}

// noEndpoint is the picker of a channel whose resolver names no endpoint.
type noEndpoint struct{}

func (noEndpoint) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, errNoEndpoint
}

// ResolverError keeps the endpoints that we have.
func (p *policy) ResolverError(err error) { p.child.ResolverError(err) }

// ExitIdle connects.
func (p *policy) ExitIdle() { p.child.ExitIdle() }

// UpdateSubConnState is never called: the children listen for themselves.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// Close closes the connections.
func (p *policy) Close() { p.child.Close() }

// A picker chooses among the endpoints that were ready at one moment. What is
// known of the endpoints is shared with the pickers before and after it.
//
// Its snapshot is made at its first pick, not when a connection changes: while
// 1,000 endpoints connect, nearly all pickers are replaced unused.
type picker struct {
	policy *policy

	once   sync.Once
	states []endpointsharding.ChildState
	snapshot
	children []balancer.Picker // of the choices
}

func (p *picker) build() {
	p.snapshot, p.children = p.policy.snapshot(p.states)
	p.states = nil
}

// Pick chooses an endpoint for one attempt of an RPC.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	p.once.Do(p.build)
	if len(p.choices) == 0 { // all removed; the picker that knows comes at once
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	now := p.policy.now()
	record := tried.FromContext(info.Ctx)
	chosen, pass, err := p.choose(now, record)
	if err != nil {
		return balancer.PickResult{}, err
	}
	result, err := p.children[chosen.index].Pick(info)
	if err != nil {
		chosen.cancel(now, pass)
		return result, err
	}
	record.Add(chosen.id)
	result.Done = startCall(p.policy, chosen.endpoint, now, pass, info, record, result.Done)
	return result, nil
}

// snapshot returns the ready endpoints and their pickers. An endpoint that was
// not ready in the last snapshot begins its slow start.
func (p *policy) snapshot(states []endpointsharding.ChildState) (snapshot, []balancer.Picker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ordered := make([]choice, p.endpoints.Len())
	pickers := make([]balancer.Picker, len(ordered))
	weights := make([]float64, len(ordered))
	for _, child := range states {
		e, ok := p.endpoints.Get(child.Endpoint)
		if !ok {
			continue // removed since
		}
		ready := child.State.ConnectivityState == connectivity.Ready
		if ready && !e.ready {
			e.warmUp(p.now())
		}
		if e.ready = ready; ready {
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
	p.ready = len(ready)
	s := snapshot{choices: ready, config: p.config}
	if weights = weights[:len(ready)]; !alike(weights) {
		s.weights = newAlias(weights)
	}
	return s, pickers[:len(ready)]
}

// alike reports whether all weights are equal.
func alike(weights []float64) bool {
	for _, w := range weights {
		if w != weights[0] {
			return false
		}
	}
	return true
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
	panicsMetric = stats.RegisterInt64Count(stats.MetricDescriptor{
		Name:        "turret.p2c.panics",
		Description: "Calls that were sent to a banned endpoint because no other was found.",
		Unit:        "{call}",
		Labels:      []string{"grpc.target"},
	})
)

// banned counts an endpoint that was banned.
func (p *policy) banned(cause string) {
	bansMetric.Record(p.MetricsRecorder(), 1, p.target, cause)
}

// panicked counts a call that is sent to a banned endpoint.
func (p *policy) panicked() { panicsMetric.Record(p.MetricsRecorder(), 1, p.target) }
