package balance

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/load"
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

	base  time.Time
	fleet *load.Fleet
	kinds kinds

	mu        sync.Mutex
	config    *settings
	endpoints *resolver.EndpointMap[*endpoint]
	ready     int // endpoints in the newest snapshot
	out       int // endpoints with a circuit that is not closed
}

func newPolicy(cc balancer.ClientConn, opts balancer.BuildOptions) *policy {
	p := &policy{
		ClientConn: cc,
		target:     opts.Target.String(),
		base:       time.Now(),
		fleet:      load.NewFleet(),
		endpoints:  resolver.NewEndpointMap[*endpoint](),
	}
	p.child = endpointsharding.NewBalancer(p, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return p
}

func (p *policy) now() int64 { return int64(time.Since(p.base)) }

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
func (p *policy) reconcile(c Config, named []resolver.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.config == nil || p.config.Config != c
	if changed {
		p.config = &settings{c, randomness(c.Seed)}
	}
	kept := resolver.NewEndpointMap[*endpoint]()
	all := make([]*endpoint, 0, len(named))
	for _, e := range named {
		if _, twice := kept.Get(e); twice || len(e.Addresses) == 0 {
			continue
		}
		known, ok := p.endpoints.Get(e)
		if !ok || changed {
			known = p.newEndpoint(e.Addresses[0].Addr)
		}
		kept.Set(e, known)
		all = append(all, known)
	}
	for e, known := range p.endpoints.All() {
		if now, ok := kept.Get(e); !ok || now != known {
			p.forgetLocked(known)
		}
	}
	p.endpoints = kept
	// Pickers list endpoints in this order, not in that of a map, so that the
	// same random words make the same picks.
	slices.SortFunc(all, func(a, b *endpoint) int { return strings.Compare(a.address, b.address) })
	for i, e := range all {
		e.order = i
	}
}

func (p *policy) forgetLocked(e *endpoint) {
	e.gone = true
	if e.out {
		e.out = false
		p.out--
	}
}

// UpdateState is called by the child when a connection changes.
func (p *policy) UpdateState(s balancer.State) {
	children := endpointsharding.ChildStatesFromPicker(s.Picker)
	switch {
	case s.ConnectivityState == connectivity.Ready:
		s.Picker = &picker{policy: p, children: children}
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

// heed does what the end of a call means to a circuit of e.
func (p *policy) heed(now int64, e *endpoint, c *breaker.Circuit, v breaker.Verdict) {
	switch v {
	case breaker.Unchanged:
		return
	case breaker.Due:
		if !p.ban(now, e, c) {
			return
		}
	case breaker.Recovered:
		p.mayUse(e)
		return
	case breaker.Reopened:
	}
	cause := "failures"
	if c == e.slowness {
		cause = "latency"
	}
	bansMetric.Record(p.MetricsRecorder(), 1, p.target, cause)
}

// ban opens a circuit of e, unless too many endpoints are out already.
func (p *policy) ban(now int64, e *endpoint, c *breaker.Circuit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.gone || !e.out && float64(p.out+1) > e.config.MaxBanned*float64(p.ready) {
		return false
	}
	if !c.Trip(now) {
		return false
	}
	if !e.out {
		e.out = true
		p.out++
	}
	return true
}

// mayUse counts e among those in use again once both of its circuits are closed.
func (p *policy) mayUse(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.out && e.failures.IsClosed() && e.slowness.IsClosed() {
		e.out = false
		p.out--
	}
}

// settings are a configuration at work. They are immutable.
type settings struct {
	Config

	random func() uint64 // may be called concurrently
}

// randomness returns a source of random words that may be called concurrently.
func randomness(seed uint64) func() uint64 {
	if seed == 0 {
		return rand.Uint64
	}
	// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
	// generators, 2014), which needs no lock.
	var state atomic.Uint64
	state.Store(seed)
	return func() uint64 {
		z := state.Add(0x9e3779b97f4a7c15)
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
}
