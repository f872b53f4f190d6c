package balance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/internal/onfinish"
)

// ClientConfig says what a [ClientConn] is made of. The zero value is a balancer
// with the default [Config] over bare connections.
type ClientConfig struct {
	// Balance says how endpoints are chosen.
	Balance Config
	// Stack is around every RPC, outside of the choice: each attempt of a Retry or
	// a Hedge in it chooses anew, and avoids the endpoints that were tried. nil:
	// none.
	Stack *interceptors.Stack
	// Endpoint makes the stack around the RPCs of one endpoint, inside of the
	// choice. It is called once for each address that is inserted, one at a time. A
	// new stack each time means limits, breakers and timeouts of each endpoint; the
	// endpoint is ready when its connection and its stack are. nil, and a nil
	// stack: none.
	Endpoint func(address string) *interceptors.Stack
	// Weight returns the weight of an address, as [WithWeight] has it. It is called
	// once for each address that is inserted, one at a time. nil: all have the same.
	Weight func(address string) uint32
	// WaitForReady makes RPCs wait for an endpoint that can be reached, unless they
	// say otherwise (grpc.WaitForReady). Default call options of a connection come
	// too late for that.
	WaitForReady bool
}

// Validate returns a [turret.FieldError] if c.Balance cannot be used.
func (c ClientConfig) Validate() error {
	return turret.FieldOf("balance", "Balance", c.Balance.Validate())
}

// A ClientConn is a grpc.ClientConnInterface, for generated stubs: a [Balancer]
// whose endpoints are connections with stacks of their own. All four methods of RPC
// pass through it. (For layers around all endpoints together, and xDS and service
// configs of gRPC, the policy of [WithP2C] is simpler.)
//
// # Endpoints
//
// Each address of the source has one grpc.ClientConn, which connects in the
// background and again when it was lost. It is chosen while it is connected and
// its stack is ready. An address that has left the source gets no further RPC; its
// connection is closed when the RPCs in flight on it are over. What is known of it,
// bans included, is kept for a minute, in case the address comes back. An address for
// which no grpc.ClientConn can be made is dropped.
//
// # RPCs
//
// A stream is in flight until it ends, and its life counts as no latency. As
// always with gRPC, a stream ends when RecvMsg says so or its context does.
//
// While no endpoint is ready an RPC waits. One that fails fast, as RPCs do unless
// grpc.WaitForReady or [ClientConfig] says otherwise, ends with UNAVAILABLE
// ([ErrUnreachable]) when the last attempt to connect has failed at every
// endpoint, and when all have left. Before the source has said anything, and while
// endpoints are connecting for the first time, or their stacks are not ready (a
// limit is full, a breaker open), all wait, until their context ends:
// DEADLINE_EXCEEDED or CANCELLED, with what is known about the endpoints in the
// text. Refusals are RESOURCE_EXHAUSTED ([ErrFull]) and UNAVAILABLE, as in package
// interceptors. An RPC that its endpoint's stack has refused, unsent, or that finds
// the connection lost, as when the server shuts down gracefully, is passed on to
// another endpoint, three times at most.
//
// The errors of RPCs that found no connection name the endpoint that failed last,
// and gRPC's reason: "no endpoint can be reached: 10.0.0.1:443: connection error:
// ... connection refused". Where the dial options or a resolver bring a service
// config of their own, and until a resolver has first found a name, gRPC does not
// tell the reason, and they do not; and an RPC that finds its endpoint's connection
// lost waits there for a new one.
//
// Use [NewClientConn]; the methods may be called concurrently.
type ClientConn struct {
	group group[any, *connection]

	config  ClientConfig
	options []grpc.DialOption
	face    *grpc.ClientConn // for interceptors to look at; it is never connected
	reach   *reachability
	resolve func() // of every connection

	// Through config.Stack, if there is one, and then invoke and newStream.
	unary    grpc.UnaryClientInterceptor
	stream   grpc.StreamClientInterceptor
	invoker  grpc.UnaryInvoker
	streamer grpc.Streamer

	work sync.WaitGroup // that watches connections and closes them

	mu     sync.Mutex
	open   map[*connection]struct{}
	closed bool
}

// NewClientConn returns a [ClientConn] over the addresses of source, which it
// reads until the source ends or the ClientConn is closed. An address is what a
// dialer takes ("10.0.0.1:443"), or a target of gRPC ("unix:///run/echo.sock").
// [Resolve] makes a source of what gRPC's resolvers find, and discover.Addresses one
// of addresses that do not change.
//
// options are those of every connection; interceptors among them run outside the
// endpoint's stack and inside the choice. One that returns a stream of its own
// without opening gRPC's is not seen to end, and keeps its place at the endpoint:
// make it a layer instead (interceptors.FromStreamClient).
//
// NewClientConn returns the error of grpc.NewClient if it does not like the options.
// It panics if source is nil, or with the error of c.Validate.
func NewClientConn[K comparable](source discover.Source[K, string], c ClientConfig, options ...grpc.DialOption) (*ClientConn, error) {
	if source == nil {
		misuse.Check("balance: NewClientConn", invalid("source", nil, "non-nil"))
	}
	misuse.Check("balance: NewClientConn", c.Validate())
	cc := &ClientConn{config: c, options: options, reach: newReachability(), open: map[*connection]struct{}{}, resolve: func() {}}
	cc.invoker, cc.streamer = cc.invoke, cc.newStream
	if c.Stack != nil {
		cc.unary, cc.stream = c.Stack.UnaryClient(), c.Stack.StreamClient()
	}
	cc.group.init(c.Balance, (*connection).leave, cc.retire)
	cc.group.whyLost = cc.reach.why
	cc.group.past = &past{departed: map[string]departure{}}
	face, err := grpc.NewClient("passthrough:///balance", options...)
	if err != nil {
		return nil, err
	}
	cc.face = face
	if r, ok := any(source).(*Resolution); ok {
		cc.resolve = r.ResolveNow
		r.notify(cc.reach.reportSource)
	}
	cc.group.read(addresses[K]{source, cc.connect})
	return cc, nil
}

// addresses are the members for a source of addresses, under keys of any type.
type addresses[K comparable] struct {
	source  discover.Source[K, string]
	connect func(address string) *member[*connection]
}

func (a addresses[K]) Next(ctx context.Context) (c discover.Change[any, *member[*connection]], err error) {
	change, err := a.source.Next(ctx)
	if err != nil {
		return c, err
	}
	c.Key, c.Gone = change.Key, change.Gone
	if !c.Gone {
		c.Service = a.connect(change.Service)
	}
	return c, nil
}

// connect makes the member of an address.
func (c *ClientConn) connect(address string) *member[*connection] {
	var stack *interceptors.Stack
	if c.config.Endpoint != nil {
		stack = c.config.Endpoint(address)
	}
	made := dial(address, stack, c.reach, c.options)
	if c.config.Weight != nil {
		made.weight = c.config.Weight(address)
	}
	m := c.group.newMember(made, address)
	made.endpoint, made.resolve = m.endpoint, c.resolve
	if made.err == nil {
		c.mu.Lock()
		c.open[made] = struct{}{}
		c.mu.Unlock()
		c.work.Go(made.watch)
	}
	return m
}

// retire closes the connection of an endpoint that has left and is idle. It is not
// done here: gRPC may be telling of the end of the last stream, with a lock held.
func (c *ClientConn) retire(made *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[made]; !ok || c.closed {
		return
	}
	delete(c.open, made)
	c.work.Go(func() { _ = made.conn.Close() })
}

// Invoke is one unary RPC.
func (c *ClientConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if c.unary != nil {
		return c.unary(ctx, method, args, reply, c.face, c.invoker, opts...)
	}
	return c.invoke(ctx, method, args, reply, c.face, opts...)
}

// NewStream opens a stream.
func (c *ClientConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if c.stream != nil {
		return c.stream(ctx, desc, c.face, method, c.streamer, opts...)
	}
	return c.newStream(ctx, desc, c.face, method, opts...)
}

// invoke is a unary RPC inside of the stack around all endpoints.
func (c *ClientConn) invoke(ctx context.Context, method string, args, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) (err error) {
	opts, onFinish := onfinish.Take(opts)
	err = errAbandoned // unless it returns
	defer func() { onfinish.Tell(onFinish, err) }()
	for range sends {
		m, v, refused := c.enter(ctx, opts, false)
		if refused != nil {
			return withStatus(refused)
		}
		err = c.send(ctx, m, v, method, args, reply, opts)
		if err == nil || !maySendAgain(ctx, err) {
			break
		}
	}
	return err
}

// An attempt is a unary RPC at one endpoint. The trailer may say when to come back.
type attempt struct {
	trailer metadata.MD
	few     [4]grpc.CallOption
}

func (c *ClientConn) send(ctx context.Context, m *member[*connection], v visit, method string, args, reply any, opts []grpc.CallOption) error {
	err := errAbandoned // unless Invoke returns
	// One allocation has the trailer and room for the options.
	a := new(attempt)
	defer func() { c.exit(ctx, m, v, err, a.trailer) }()
	opts = append(append(a.few[:0], opts...), grpc.Trailer(&a.trailer))
	err = m.service.conn.Invoke(ctx, method, args, reply, opts...)
	return err
}

// newStream opens a stream inside of the stack around all endpoints.
func (c *ClientConn) newStream(ctx context.Context, desc *grpc.StreamDesc, _ *grpc.ClientConn, method string, opts ...grpc.CallOption) (stream grpc.ClientStream, err error) {
	opts, onFinish := onfinish.Take(opts)
	var p *passage
	err = errAbandoned // unless it is opened
	defer func() {
		if err != nil {
			onfinish.Tell(onFinish, err)
			return
		}
		p.keep()
	}()
	for range sends {
		m, v, refused := c.enter(ctx, opts, true)
		if refused != nil {
			return nil, withStatus(refused)
		}
		p = &passage{c: c, ctx: ctx, member: m, visit: v, onFinish: onFinish}
		stream, err = p.open(desc, method, opts)
		if err == nil || !maySendAgain(ctx, err) {
			break
		}
	}
	return stream, err
}

// enter is the group's, for an RPC with these options.
func (c *ClientConn) enter(ctx context.Context, opts []grpc.CallOption, stream bool) (*member[*connection], visit, error) {
	waits := c.config.WaitForReady
	for _, o := range opts {
		if o, ok := o.(grpc.FailFastCallOption); ok {
			waits = !o.FailFast
		}
	}
	if waits {
		return c.group.enter(ctx, nil, stream)
	}
	return c.group.enter(ctx, c.reach, stream)
}

// A passage is a stream on its way through an endpoint.
// It enters the endpoint when the stream is opened, and leaves it once, at the end that
// is reported first: by gRPC, by the endpoint's stack, or by open.
type passage struct {
	visit

	c      *ClientConn
	ctx    context.Context
	member *member[*connection]
	once   sync.Once

	// The caller's functions, called once when the stream that the caller got has
	// ended, which may be before it was opened.
	onFinish []func(error)
	err      error
	facts    atomic.Int32 // of these two
}

// OnFinish is the one event that gRPC reports for every end of a stream, those without
// a RecvMsg included.
func (p *passage) open(desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (stream grpc.ClientStream, err error) {
	failure := errAbandoned // unless NewStream returns
	defer func() {
		if failure != nil {
			p.end(failure)
		}
	}()
	opts = append(opts, grpc.OnFinish(p.end)) // a copy: see onfinish.Take
	stream, err = p.member.service.conn.NewStream(p.ctx, desc, method, opts...)
	failure = err
	return stream, err
}

// end takes the end of the stream, from gRPC or the endpoint's stack, or from open
// if it was not opened.
func (p *passage) end(err error) {
	p.once.Do(func() {
		p.c.exit(p.ctx, p.member, p.visit, err, nil)
		p.err = err
		p.learn()
	})
}

// keep says that the stream is the caller's.
func (p *passage) keep() { p.learn() }

// Both facts must be there: the end of the stream, and that the caller has got the
// stream. Before that the stream may be passed on to another endpoint, and its end is not
// the caller's.
func (p *passage) learn() {
	if p.facts.Add(1) == 2 {
		onfinish.Tell(p.onFinish, p.err)
	}
}

// errAbandoned is the end of an RPC that a panic or a Goexit has ended.
var errAbandoned = errors.New("balance: the RPC did not return")

// exit is the group's, for an RPC that has ended with err.
func (c *ClientConn) exit(ctx context.Context, m *member[*connection], v visit, err error, trailer metadata.MD) {
	o, retryAfter := outcome(ctx, &balancer.DoneInfo{Err: err, Trailer: trailer, BytesSent: true, BytesReceived: true}, m.config.Load().classify)
	c.group.exit(m, v, o, retryAfter)
}

// Ready waits until an RPC would find room in the stack around all endpoints, and
// an endpoint; see [turret.Service].
func (c *ClientConn) Ready(ctx context.Context) error {
	if c.config.Stack != nil {
		if err := c.config.Stack.Ready(ctx); err != nil {
			return err
		}
	}
	return c.group.Ready(ctx)
}

// Stats returns what the ClientConn knows of its endpoints at this moment.
func (c *ClientConn) Stats() Stats { return c.group.stats() }

// String returns the [Stats] in words.
func (c *ClientConn) String() string { return c.group.String() }

// Close closes all connections, which ends the RPCs in flight, and waits until the
// goroutines of the ClientConn have ended. RPCs that wait for an endpoint, and
// those that come, end with UNAVAILABLE. Closing again does nothing. It returns
// nil.
func (c *ClientConn) Close() error {
	c.group.close()
	c.mu.Lock()
	c.closed = true
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for made := range open {
		_ = made.conn.Close()
	}
	c.work.Wait()
	_ = c.face.Close()
	return nil
}

var _ grpc.ClientConnInterface = (*ClientConn)(nil)

// Describe describes the stack around all endpoints, and the endpoints, with the
// stack of each.
func (c *ClientConn) Describe(d *turret.Description) {
	d.Is("clientconn", "ClientConn")
	if c.config.Stack != nil {
		d.Inside(c.config.Stack)
	}
	c.group.describe(d, func(made *connection) any {
		if made.stack == nil {
			return nil
		}
		return made.stack
	})
}
