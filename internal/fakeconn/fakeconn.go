// Package fakeconn is the host of a balancing policy without a network: its
// connections become ready as soon as the policy connects them, and a test or
// a benchmark makes the RPCs.
package fakeconn

import (
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
)

// A ClientConn is what gRPC shows to a policy. It calls the policy's listeners
// one at a time, as gRPC does, when Settle is called.
type ClientConn struct {
	balancer.ClientConn // nil: what a policy must not call panics

	stats.UnimplementedMetricsRecorder

	inBulk bool

	mu      sync.Mutex
	state   balancer.State
	updates int
	made    int // connections
	queue   []func()
	refused map[string]bool // addresses that cannot be connected
}

// NewSubConn makes a connection.
func (c *ClientConn) NewSubConn(a []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	return &SubConn{Address: a[0].Addr, conn: c, listen: o.StateListener}, nil
}

// UpdateState takes the policy's new picker.
func (c *ClientConn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	c.updates++
}

// Made returns how many connections were made.
func (c *ClientConn) Made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// ResolveNow does nothing.
func (c *ClientConn) ResolveNow(resolver.ResolveNowOptions) {}

// Target returns a target.
func (c *ClientConn) Target() string { return "fake:///fleet" }

// MetricsRecorder returns a recorder that records nothing.
func (c *ClientConn) MetricsRecorder() stats.MetricsRecorder { return c }

// State returns the policy's last state, and how many there were.
func (c *ClientConn) State() (s balancer.State, updates int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.updates
}

// Settle calls listeners until no call is due.
func (c *ClientConn) Settle() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.mu.Unlock()
			return
		}
		next := c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
		c.mu.Unlock()
		next()
	}
}

func (c *ClientConn) later(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, f)
}

// A SubConn is a connection.
type SubConn struct {
	balancer.SubConn

	Address string
	conn    *ClientConn
	listen  func(balancer.SubConnState)
}

// Connect makes it ready.
func (s *SubConn) Connect() {
	if s.conn.inBulk {
		s.conn.Settle() // those before it
	}
	s.Become(connectivity.Connecting)
	s.conn.mu.Lock()
	refused := s.conn.refused[s.Address]
	s.conn.mu.Unlock()
	if refused {
		s.Become(connectivity.TransientFailure)
		return
	}
	s.Become(connectivity.Ready)
}

// Refuse loses the connection; from now on every attempt to connect to its
// address fails.
func (s *SubConn) Refuse() {
	s.conn.mu.Lock()
	if s.conn.refused == nil {
		s.conn.refused = map[string]bool{}
	}
	s.conn.refused[s.Address] = true
	s.conn.mu.Unlock()
	s.Become(connectivity.Idle)
}

// Become moves it to another state.
func (s *SubConn) Become(state connectivity.State) {
	s.conn.later(func() { s.listen(balancer.SubConnState{ConnectivityState: state}) })
}

// Shutdown ends it.
func (s *SubConn) Shutdown() { s.Become(connectivity.Shutdown) }

// RegisterHealthListener reports the endpoint as healthy.
func (s *SubConn) RegisterHealthListener(f func(balancer.SubConnState)) {
	s.conn.later(func() { f(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

// GetOrBuildProducer builds nothing: there is no server to ask.
func (s *SubConn) GetOrBuildProducer(balancer.ProducerBuilder) (balancer.Producer, func()) {
	return nil, func() {}
}

// Endpoints returns n endpoints with addresses that sort in order.
func Endpoints(n int) []resolver.Endpoint {
	all := make([]resolver.Endpoint, n)
	for i := range all {
		all[i] = resolver.Endpoint{Addresses: []resolver.Address{{Addr: fmt.Sprintf("e%05d", i)}}}
	}
	return all
}

// Start builds a policy with a parsed config and lets all endpoints connect.
func Start(name string, config string, endpoints []resolver.Endpoint) (*ClientConn, balancer.Balancer, error) {
	return new(ClientConn).start(name, config, endpoints)
}

// StartInBulk is Start for thousands of endpoints: each becomes ready when the
// next one connects, during the resolver's update, so that policies which then put
// off their pickers do.
func StartInBulk(name string, config string, endpoints []resolver.Endpoint) (*ClientConn, balancer.Balancer, error) {
	return (&ClientConn{inBulk: true}).start(name, config, endpoints)
}

func (c *ClientConn) start(name string, config string, endpoints []resolver.Endpoint) (*ClientConn, balancer.Balancer, error) {
	builder := balancer.Get(name)
	if builder == nil {
		return nil, nil, fmt.Errorf("no policy %q", name)
	}
	state := balancer.ClientConnState{ResolverState: resolver.State{Endpoints: endpoints}}
	for _, e := range endpoints { // for policies built on balancer/base
		state.ResolverState.Addresses = append(state.ResolverState.Addresses, e.Addresses...)
	}
	if p, ok := builder.(balancer.ConfigParser); ok {
		parsed, err := p.ParseConfig([]byte(config))
		if err != nil {
			return nil, nil, err
		}
		state.BalancerConfig = parsed
	}
	policy := builder.Build(c, balancer.BuildOptions{})
	if err := policy.UpdateClientConnState(state); err != nil {
		return nil, nil, err
	}
	policy.ExitIdle()
	c.Settle()
	return c, policy, nil
}
