// Package sim runs balancing scenarios with real gRPC servers, clients and
// policies in virtual time, over in-memory connections.
//
// The load is open: calls come when they come, whether or not the ones before
// have ended. Arrival, client and work of each call come from one seeded
// generator and travel in the request, so that every policy is given the same
// calls.
package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A Policy is a way to balance.
type Policy struct {
	Name string
	// Config returns the service config of one client.
	Config func(client int, seed uint64) string
	// Server options that the policy needs, such as load reports.
	Server func() []grpc.ServerOption
	// Install, if not nil, is called for each server: it returns options, and what
	// to register.
	Install func() (options []grpc.ServerOption, register func(grpc.ServiceRegistrar))
	// Handler, if not nil, is called in each call at the server.
	Handler func(ctx context.Context, took time.Duration)
	// Stats, if not nil, is installed at every client.
	Stats stats.Handler
	// Dial, if not nil, returns further options of each client.
	Dial func() []grpc.DialOption
	// Before runs before anything is dialed.
	Before func()
}

// A Call is what became of one call.
type Call struct {
	At      time.Duration
	Took    time.Duration
	Failed  bool
	Dropped bool // cancelled by its own caller
	Client  int
}

// BinWidth is the width of the bins of Result.Arrivals.
const BinWidth = 100 * time.Millisecond

// A Result is what came of a run.
type Result struct {
	Calls    []Call
	Arrivals [][]int32 // calls that reached a backend, by backend and time
	Onset    time.Duration
}

// warmup is how long the clients have to connect before the load begins.
const warmup = time.Second

// Epoch is when the runs happen: in go-zero's clock, which begins a year before
// the process did, the bubble's own epoch would be negative.
var Epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// Run runs one scenario with one policy and one seed. It must be called
// outside of a synctest bubble, and makes one.
func Run(t *testing.T, s *Scenario, p *Policy, seed uint64) (r *Result) {
	if p.Before != nil {
		p.Before()
	}
	synctest.Test(t, func(*testing.T) { r = run(s, p, seed) })
	return r
}

type world struct {
	scenario *Scenario
	policy   *Policy
	begin    time.Time
	result   *Result
	backends []*server
	clients  []*client
}

type client struct {
	conn     *grpc.ClientConn
	resolver *manual.Resolver
}

func run(s *Scenario, p *Policy, seed uint64) *Result {
	time.Sleep(time.Until(Epoch))
	w := &world{scenario: s, policy: p, begin: time.Now().Add(warmup), result: new(Result)}
	w.serve(s.Backends(rand.New(rand.NewPCG(seed, 1))))
	w.dial(seed)
	time.Sleep(time.Until(w.begin))

	var all sync.WaitGroup
	if s.Updates > 0 {
		all.Go(w.update)
	}
	w.load(rand.New(rand.NewPCG(seed, 2)), &all)
	all.Wait()

	for _, c := range w.clients {
		_ = c.conn.Close()
	}
	for _, b := range w.backends {
		b.grpc.Stop()
		w.result.Arrivals = append(w.result.Arrivals, b.arrivals)
	}
	// Handlers that sleep past their caller's deadline must end inside the
	// bubble.
	time.Sleep(time.Minute)
	synctest.Wait()
	return w.result
}

func (w *world) now() time.Duration { return time.Since(w.begin) }

func address(i int) string { return fmt.Sprintf("b%03d", i) }

// serve starts the servers.
func (w *world) serve(backends []*Backend) {
	for _, b := range backends {
		s := newServer(w, b)
		w.backends = append(w.backends, s)
		go func() { _ = s.grpc.Serve(s.listener) }()
	}
}

// dial connects the clients.
func (w *world) dial(seed uint64) {
	listeners := map[string]*bufconn.Listener{}
	for i, b := range w.backends {
		listeners[address(i)] = b.listener
	}
	for i := range w.scenario.Clients {
		r := manual.NewBuilderWithScheme("sim")
		r.InitialState(w.endpoints(0))
		opts := []grpc.DialOption{
			grpc.WithResolvers(r),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(_ context.Context, a string) (net.Conn, error) { return listeners[a].Dial() }),
			grpc.WithDefaultServiceConfig(w.policy.Config(i, seed)),
			grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
			grpc.WithReadBufferSize(1 << 10), grpc.WithWriteBufferSize(1 << 10),
		}
		if w.policy.Stats != nil {
			opts = append(opts, grpc.WithStatsHandler(w.policy.Stats))
		}
		if w.policy.Dial != nil {
			opts = append(opts, w.policy.Dial()...)
		}
		conn, err := grpc.NewClient("sim:///fleet", opts...)
		if err != nil {
			panic(err)
		}
		conn.Connect()
		w.clients = append(w.clients, &client{conn, r})
	}
}

// endpoints returns what the resolver names at a time.
func (w *world) endpoints(at time.Duration) resolver.State {
	named := make([]int, 0, len(w.backends))
	if w.scenario.Named != nil {
		named = w.scenario.Named(at)
	} else {
		for i := range w.backends {
			named = append(named, i)
		}
	}
	var s resolver.State
	for _, i := range named {
		a := resolver.Address{Addr: address(i)}
		s.Addresses = append(s.Addresses, a) // for policies built on balancer/base
		e := resolver.Endpoint{Addresses: []resolver.Address{a}}
		if w.scenario.Locality != nil {
			e = setPath(e, []string{w.scenario.Locality(i)})
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// update lets the resolvers name other backends from time to time.
func (w *world) update() {
	for at := w.scenario.Updates; at < w.scenario.Duration; at += w.scenario.Updates {
		time.Sleep(at - w.now())
		for _, c := range w.clients {
			c.resolver.UpdateState(w.endpoints(at))
		}
	}
}

// load makes the calls.
func (w *world) load(r *rand.Rand, all *sync.WaitGroup) {
	s := w.scenario
	calls := make([]Call, 0, int(1.1*s.Rate*s.Duration.Seconds())+1000)
	at := 0.0
	for {
		at += r.ExpFloat64() / s.Rate
		begin := time.Duration(at * float64(time.Second))
		if begin >= s.Duration || len(calls) == cap(calls) {
			break
		}
		c, work := r.IntN(s.Clients), s.Work(r)
		time.Sleep(begin - w.now())
		calls = append(calls, Call{At: begin, Client: c})
		record := &calls[len(calls)-1]
		all.Go(func() { w.call(record, work) })
	}
	w.result.Calls = calls
}

func (w *world) call(c *Call, work Work) {
	ctx, cancel := context.WithTimeout(context.Background(), w.scenario.Timeout)
	defer cancel()
	if work.Cancel > 0 {
		t := time.AfterFunc(work.Cancel, cancel)
		defer t.Stop()
		c.Dropped = true
	}
	code := uint64(work.Service) << 1
	if work.NotFound {
		code |= 1
	}
	in := wrapperspb.UInt64(code)
	start := time.Now()
	err := w.clients[c.Client].conn.Invoke(ctx, "/sim.Sim/"+work.Method, in, new(wrapperspb.UInt64Value))
	c.Took = time.Since(start)
	if code := status.Code(err); code != codes.OK && code != codes.NotFound && !c.Dropped {
		c.Failed = true
		c.Took = w.scenario.Timeout
	}
}

// server is a Backend at work.
type server struct {
	*Backend
	world    *world
	grpc     *grpc.Server
	listener *bufconn.Listener
	workers  chan struct{}
	arrivals []int32
}

func newServer(w *world, b *Backend) *server {
	s := &server{Backend: b, world: w, listener: bufconn.Listen(16 << 10)}
	s.arrivals = make([]int32, w.scenario.Duration/BinWidth+20)
	if b.Workers > 0 {
		s.workers = make(chan struct{}, b.Workers)
	}
	opts := []grpc.ServerOption{grpc.ReadBufferSize(1 << 10), grpc.WriteBufferSize(1 << 10)}
	if w.policy.Server != nil {
		opts = append(opts, w.policy.Server()...)
	}
	register := func(grpc.ServiceRegistrar) {}
	if w.policy.Install != nil {
		var more []grpc.ServerOption
		more, register = w.policy.Install()
		opts = append(opts, more...)
	}
	s.grpc = grpc.NewServer(opts...)
	register(s.grpc)
	s.grpc.RegisterService(&description, s)
	return s
}

var description = grpc.ServiceDesc{
	ServiceName: "sim.Sim",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "A", Handler: handle}, {MethodName: "B", Handler: handle}},
}

//nolint:revive // the form of gRPC's generated handlers
func handle(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.UInt64Value)
	if err := decode(in); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, _ any) (any, error) { return srv.(*server).answer(ctx, in.GetValue()) }
	if interceptor == nil {
		return call(ctx, in)
	}
	return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/sim.Sim/A"}, call)
}

var errDown = status.Error(codes.Unavailable, "down")

func (s *server) answer(ctx context.Context, code uint64) (any, error) {
	arrived := s.world.now()
	if bin := arrived / BinWidth; bin >= 0 && int(bin) < len(s.arrivals) {
		atomic.AddInt32(&s.arrivals[bin], 1)
	}
	switch {
	case within(s.Fails, arrived):
		time.Sleep(time.Millisecond)
		return nil, errDown
	case within(s.Holes, arrived):
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.workers != nil {
		select {
		case s.workers <- struct{}{}:
			defer func() { <-s.workers }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	service := time.Duration(code >> 1)
	if s.Slow != nil {
		service = time.Duration(float64(service) * s.Slow(s.world.now()))
	}
	s.work(service)
	if s.world.policy.Handler != nil {
		s.world.policy.Handler(ctx, s.world.now()-arrived)
	}
	if code&1 == 1 {
		return nil, status.Error(codes.NotFound, "not found")
	}
	return wrapperspb.UInt64(0), nil
}

// work takes a service time, during which pauses may come.
func (s *server) work(left time.Duration) {
	for {
		now := s.world.now()
		next := time.Duration(-1)
		for _, p := range s.Pauses {
			if now < p.To {
				if now >= p.From {
					time.Sleep(p.To - now)
					now = p.To
					continue
				}
				next = p.From
				break
			}
		}
		if next < 0 || now+left <= next {
			time.Sleep(left)
			return
		}
		time.Sleep(next - now)
		left -= next - now
	}
}

// key makes a seed of one client.
func key(seed uint64, client int) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(client))
	return seed*1_000_003 + uint64(client) + 1
}
