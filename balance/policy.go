package balance

import (
	"slices"
	"strings"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
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

	kinds *kinds

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
		kinds:      newKinds(),
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
