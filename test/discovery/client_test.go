package discovery

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A kind is a way to balance over what a resolver finds.
type kind string

const (
	policy     kind = "WithP2C"       // the policy, in a channel of gRPC
	clientConn kind = "NewClientConn" // over balance.Resolve
)

// bothKinds runs a test with each kind, at the same time: most of it is waiting. Nothing
// may be left of it.
func bothKinds(t *testing.T, f func(t *testing.T, k kind)) {
	t.Helper()
	leavesNothing(t)
	for _, k := range []kind{policy, clientConn} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

// forLong bans an endpoint for longer than a test runs. Latency bans none: the
// machine may stand still.
var forLong = balance.Config{
	Failures: balance.Failures{BanFor: 24 * time.Hour, MaxBanFor: 24 * time.Hour},
	Outliers: balance.Outliers{Consecutive: -1},
}

// A client calls what a resolver finds, all the time, and notes how that goes.
type client struct {
	*journal

	t      *testing.T
	target string
	conn   grpc.ClientConnInterface
	found  *updates
	worked [4]atomic.Int64 // calls that have ended, of each goroutine that calls

	stop    context.CancelFunc
	working sync.WaitGroup
	release func() // closes conn
}

// dial returns a client of kind k over what builder finds for target. It connects,
// and calls nothing before start.
func dial(t *testing.T, k kind, target string, builder resolver.Builder, options ...grpc.DialOption) *client {
	t.Helper()
	c := &client{t: t, target: target, found: &updates{Builder: builder}, journal: newJournal()}
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(c.journal),
		// No attempt to connect is given up because the machine stands still.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
			MinConnectTimeout: patience,
		}),
	}, options...)
	var err error
	if k == policy {
		err = c.dialPolicy(options)
	} else {
		err = c.dialClientConn(options)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(balance.Watch(c.changed))
	t.Cleanup(c.close)
	return c
}

func (c *client) dialPolicy(options []grpc.DialOption) error {
	conn, err := grpc.NewClient(c.target, append([]grpc.DialOption{
		balance.WithP2C(forLong), grpc.WithResolvers(c.found),
	}, options...)...)
	if err != nil {
		return err
	}
	c.conn, c.release = conn, func() { _ = conn.Close() }
	conn.Connect()
	return nil
}

func (c *client) dialClientConn(options []grpc.DialOption) error {
	source, err := balance.Resolve(c.target, balance.ResolveConfig{Builder: c.found, Every: -1})
	if err != nil {
		return err
	}
	conn, err := balance.NewClientConn(source, balance.ClientConfig{Balance: forLong}, options...)
	if err != nil {
		source.Close()
		return err
	}
	c.conn, c.release = conn, func() {
		_ = conn.Close()
		source.Close()
	}
	return nil
}

// start begins to call. The calls have these options. (A call that begins before the
// first resolution ends with it, if that fails.)
func (c *client) start(options ...grpc.CallOption) {
	var ctx context.Context
	ctx, c.stop = context.WithCancel(c.t.Context())
	for i := range c.worked {
		c.working.Go(func() { c.work(ctx, &c.worked[i], options) })
	}
}

// work calls until ctx ends, with a pause between calls.
func (c *client) work(ctx context.Context, worked *atomic.Int64, options []grpc.CallOption) {
	echo := echov1.NewEchoServiceClient(c.conn)
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		c.call(ctx, echo, options)
		worked.Add(1)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// call makes one call. What the end of the test cancels is not noted.
func (c *client) call(ctx context.Context, echo echov1.EchoServiceClient, options []grpc.CallOption) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var at peer.Peer
	_, err := echo.Unary(limited, new(echov1.UnaryRequest), append(slices.Clip(options), grpc.Peer(&at))...)
	if ctx.Err() == nil {
		c.ended(&at, err)
	}
}

// close ends the calls and closes the connection. Closing again does nothing.
func (c *client) close() {
	if c.stop != nil {
		c.stop()
	}
	c.working.Wait()
	if c.release != nil {
		c.release()
		c.release = nil
	}
}

// turnOver waits until calls that began after it was called have ended, in each
// goroutine that calls.
func (c *client) turnOver() {
	c.t.Helper()
	var before [len(c.worked)]int64
	for i := range c.worked {
		before[i] = c.worked[i].Load()
	}
	eventually(c.t, "new calls have ended", func() bool {
		for i := range c.worked {
			if c.worked[i].Load() < before[i]+2 { // the first may have begun before
				return false
			}
		}
		return true
	})
}

// states returns the states of the endpoints, by their addresses. A ClientConn says
// those of the endpoints that are ready.
func (c *client) states() map[string]string {
	all := map[string]string{}
	for _, child := range c.describe().Children {
		if child.Kind != "endpoint" {
			continue
		}
		for _, f := range child.Figures {
			if f.Name == "state" {
				all[child.Name] = f.Text
			}
		}
	}
	return all
}

// setting returns a setting of the balancer as a text.
func (c *client) setting(name string) string {
	for _, f := range c.describe().Figures {
		if f.Name == name {
			return cmp.Or(f.Text, strconv.FormatFloat(f.Value, 'g', -1, 64))
		}
	}
	return ""
}

// describe returns what the balancer says of itself, or nothing while there is none.
func (c *client) describe() turret.Node {
	if d, ok := c.conn.(*balance.ClientConn); ok {
		return turret.Describe(d, 1000)
	}
	for target, d := range balance.Channels() {
		if target == c.target {
			return turret.Describe(d, 1000)
		}
	}
	return turret.Node{}
}

// await waits until the endpoints are these, and connected.
func (c *client) await(fleet ...*server) {
	c.t.Helper()
	want := slices.Sorted(slices.Values(addresses(fleet...)))
	eventually(c.t, fmt.Sprintf("the endpoints are %v", want), func() bool {
		states := c.states()
		for _, s := range states {
			if s != "in_use" && s != "banned" {
				return false
			}
		}
		return slices.Equal(slices.Sorted(maps.Keys(states)), want)
	})
}

// ban makes s fail until it is banned, and no call is on its way to it any more.
func (c *client) ban(s *server) {
	c.t.Helper()
	s.sick.Store(true)
	eventually(c.t, s.address+" is banned", func() bool { return c.states()[s.address] == "banned" })
	c.turnOver()
}

// stillBanned fails the test unless s is banned, and was not banned anew: it had this
// many bans.
func (c *client) stillBanned(s *server, bans int) {
	c.t.Helper()
	if state, now := c.states()[s.address], c.bans(s); state != "banned" || now != bans {
		c.t.Errorf("the banned endpoint is %s, with %d bans, want banned, with %d", state, now, bans)
	}
}

// A journal is what a client has noted.
type journal struct {
	mu     sync.Mutex
	calls  map[string]int // that have ended, by address
	opened map[string]int // connections, by address
	closed map[string]int
	banned map[string]int // how often, by address
	failed []string
}

func newJournal() *journal {
	return &journal{calls: map[string]int{}, opened: map[string]int{}, closed: map[string]int{}, banned: map[string]int{}}
}

// ended notes the end of a call. Failures of servers that are sick are none of the
// client's.
func (j *journal) ended(at *peer.Peer, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	address := ""
	if at.Addr != nil {
		address = at.Addr.String()
	}
	j.calls[address]++
	if err != nil && status.Code(err) != codes.DataLoss {
		j.failed = append(j.failed, fmt.Sprintf("at %q: %v", address, err))
	}
}

// changed notes that an endpoint was banned. (It may be one of another client, with
// another address.)
func (j *journal) changed(t balance.Transition) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t.Banned {
		j.banned[t.Endpoint]++
	}
}

// bans returns how often s was banned. An endpoint that is forgotten and fails again
// is banned again.
func (j *journal) bans(s *server) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.banned[s.address]
}

// callsTo returns how many calls to s have ended.
func (j *journal) callsTo(s *server) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.calls[s.address]
}

// failures returns the calls that have failed and were not said to be sick, since
// it was called last.
func (j *journal) failures() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := j.failed
	j.failed = nil
	return all
}

// noneFailed fails the test if a call has failed.
func (c *client) noneFailed() {
	c.t.Helper()
	if all := c.failures(); len(all) > 0 {
		c.t.Errorf("%d calls have failed:\n%s", len(all), strings.Join(all[:min(len(all), 10)], "\n"))
	}
}

// keptConnections fails the test if there was more than one connection to one of
// these servers, or if one was closed.
func (c *client) keptConnections(fleet ...*server) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range fleet {
		if opened, closed := c.opened[s.address], c.closed[s.address]; opened != 1 || closed != 0 {
			c.t.Errorf("%d connections to %s were opened and %d closed, want 1 and 0", opened, s.address, closed)
		}
	}
}

// TagConn, HandleConn, TagRPC and HandleRPC make a journal a stats.Handler.
func (j *journal) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, remoteKey{}, info.RemoteAddr.String())
}

type remoteKey struct{}

// HandleConn notes connections.
func (j *journal) HandleConn(ctx context.Context, s stats.ConnStats) {
	address, ok := ctx.Value(remoteKey{}).(string)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		j.opened[address]++
	case *stats.ConnEnd:
		j.closed[address]++
	}
}

// TagRPC does nothing.
func (*journal) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC does nothing.
func (*journal) HandleRPC(context.Context, stats.RPCStats) {}

// updates is a resolver.Builder around another, which notes what its resolvers say.
type updates struct {
	resolver.Builder

	mu     sync.Mutex
	built  []resolver.Resolver
	states int // updates
	empty  int // updates without endpoints
	errors int // failures to resolve
}

// Build builds the resolver.
func (u *updates) Build(target resolver.Target, cc resolver.ClientConn, options resolver.BuildOptions) (resolver.Resolver, error) {
	r, err := u.Builder.Build(target, &noting{cc, u}, options)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.built = append(u.built, r)
	return r, nil
}

// resolveNow asks for resolution, as gRPC does when a connection is lost.
func (u *updates) resolveNow() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.built {
		r.ResolveNow(resolver.ResolveNowOptions{})
	}
}

// withoutEndpoints returns how many updates had no endpoint.
func (u *updates) withoutEndpoints() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.empty
}

// count returns how many updates there were, and how many failures to resolve.
func (u *updates) count() (states, errors int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.states, u.errors
}

// noting is the resolver.ClientConn of a resolver whose updates are noted, each after
// it has arrived.
type noting struct {
	resolver.ClientConn

	u *updates
}

// UpdateState passes an update on.
func (n *noting) UpdateState(s resolver.State) error {
	err := n.ClientConn.UpdateState(s)
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	n.u.states++
	if len(s.Endpoints)+len(s.Addresses) == 0 {
		n.u.empty++
	}
	return err
}

// ReportError passes a failure on.
func (n *noting) ReportError(err error) {
	n.ClientConn.ReportError(err)
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	n.u.errors++
}

// another waits until there was an update after f was called.
func (c *client) another(f func()) {
	c.t.Helper()
	before, _ := c.found.count()
	f()
	eventually(c.t, "the resolver has sent an update", func() bool {
		now, _ := c.found.count()
		return now > before
	})
}
