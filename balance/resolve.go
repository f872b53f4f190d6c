package balance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/misuse"
)

// ResolveConfig says how [Resolve] finds addresses. The zero value takes the
// resolver that is registered for the scheme of the target.
type ResolveConfig struct {
	// Builder makes the resolver. nil means the one that resolver.Register was
	// given for the scheme of the target. A target without the Builder's scheme is
	// taken for the endpoint in one.
	Builder resolver.Builder
	// Every is how often the resolver is asked to resolve again while nothing else
	// asks it to. gRPC's DNS resolver does so only if it is asked, and not within 30 s
	// of the last time; a resolver that watches a registry ignores it. 0 means 30 s;
	// at least 1 s. Negative: never.
	Every time.Duration
}

// Defaults of [ResolveConfig].
const (
	defaultEvery = 30 * time.Second
	leastEvery   = time.Second
)

// Validate returns a [turret.FieldError] if c cannot be used.
func (c ResolveConfig) Validate() error {
	if c.Every > 0 && c.Every < leastEvery {
		return invalid("Every", c.Every, fmt.Sprintf("at least %v (0 means %v, negative never)", leastEvery, defaultEvery))
	}
	return nil
}

// A Resolution is the [discover.Source] of the addresses that a resolver of gRPC
// finds for a target. Each address is its own key.
//
// An update of the resolver inserts the addresses that are new, in its order, and
// then removes those that it no longer contains. An address that is listed twice
// is one. An update without addresses removes all of them. A failure to resolve
// removes none: Err returns it, and the resolver tries again by itself. Of an
// endpoint with several addresses, as a dual-stack host may have, the first is
// taken.
//
// Nothing else of an update is used: neither attributes, weights and server names,
// nor a service config, which is logged once as ignored. A resolver whose
// addresses mean nothing without attributes (unix, xds) does not fit: list
// addresses of sockets with [discover.Addresses], and use [WithP2C] with xDS.
//
// [NewClientConn] over a Resolution asks for resolution when a connection is lost
// or cannot be made, as a connection of gRPC does, and lets RPCs that fail fast
// end while the first resolution fails.
//
// Use [Resolve]. A Resolution has no goroutine of its own. The methods may be called
// concurrently, but for Next, which one goroutine at a time may call.
type Resolution struct {
	target    string
	authority string
	every     time.Duration // 0: never

	// calls is held while a method of the resolver runs, so that none runs after
	// its Close. The resolver may call back meanwhile: that takes mu only.
	calls    sync.Mutex
	resolver resolver.Resolver // nil: closed

	mu      sync.Mutex
	newest  []string          // of the newest update, without duplicates
	changed bool              // newest has not been compared with there
	err     error             // of the newest resolution
	onError func(text string) // see notify; is called with mu held
	warned  bool              // that a service config is ignored

	news chan struct{} // holds one after an update
	done chan struct{} // closed by Close

	// Of Next.
	there   map[string]struct{} // what Next has inserted and not removed
	pending []discover.Change[string, string]
	again   time.Time // when to resolve again
}

// Resolve returns the addresses of target as a [discover.Source], for
// [NewClientConn] and [New]. target is what grpc.NewClient takes:
// "dns:///orders.example:443", or "orders.example:443", which means the same. The
// resolver works until Close, which the caller must call when the balancer over the
// source is closed.
//
// A connection to an address does not know the name that the address was found by.
// For TLS, and for the authority of RPCs, give NewClientConn the option
// grpc.WithAuthority with [Resolution.Authority].
//
// Resolve returns an error if no resolver is known for the target, or if it cannot
// be started. It panics with the error of c.Validate.
func Resolve(target string, c ResolveConfig) (*Resolution, error) {
	misuse.Check("balance: Resolve", c.Validate())
	parsed, builder, err := findResolver(target, c.Builder)
	if err != nil {
		return nil, err
	}
	r := &Resolution{
		target: parsed.URL.String(), authority: authorityOf(parsed, builder),
		news: make(chan struct{}, 1), done: make(chan struct{}),
		onError: func(string) {}, there: map[string]struct{}{},
	}
	if c.Every >= 0 {
		r.every = cmp.Or(c.Every, defaultEvery)
		r.again = time.Now().Add(r.every)
	}
	options := resolver.BuildOptions{DisableServiceConfig: true, Authority: r.authority}
	r.resolver, err = builder.Build(parsed, resolverClient{r}, options)
	if err != nil {
		return nil, fmt.Errorf("balance: Resolve: %s: %w", r.target, err)
	}
	return r, nil
}

// findResolver returns the builder for target, and target as the builder takes it.
// As in grpc.NewClient, what does not begin with a known scheme is the endpoint of
// a target of the default scheme.
func findResolver(target string, builder resolver.Builder) (resolver.Target, resolver.Builder, error) {
	scheme := "dns"
	known := resolver.Get
	if builder != nil {
		scheme = builder.Scheme()
		known = func(s string) resolver.Builder {
			if s == scheme {
				return builder
			}
			return nil
		}
	}
	if u, err := url.Parse(target); err == nil {
		if b := known(u.Scheme); b != nil {
			return resolver.Target{URL: *u}, b, nil
		}
	}
	u, err := url.Parse(scheme + ":///" + target)
	if err != nil {
		return resolver.Target{}, nil, fmt.Errorf("balance: Resolve: %w", err)
	}
	return resolver.Target{URL: *u}, known(scheme), nil
}

// authorityOf returns the authority that a connection of gRPC to target has by
// default.
func authorityOf(target resolver.Target, builder resolver.Builder) string {
	if b, ok := builder.(resolver.AuthorityOverrider); ok {
		return b.OverrideAuthority(target)
	}
	endpoint := target.Endpoint()
	if strings.HasPrefix(endpoint, ":") {
		return "localhost" + endpoint
	}
	return endpoint
}

// Authority returns the authority that grpc.NewClient would give RPCs to the
// target: "orders.example:443" for "dns:///orders.example:443".
func (r *Resolution) Authority() string { return r.authority }

// String returns the target.
func (r *Resolution) String() string { return r.target }

// Err returns the error of the newest resolution, which is an error too if it found
// no address. It returns nil if that one succeeded, and before the first one has
// ended.
func (r *Resolution) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// ResolveNow asks the resolver to resolve again. Resolvers may put that off, and do
// so if they were asked often. After Close it does nothing.
func (r *Resolution) ResolveNow() {
	r.calls.Lock()
	defer r.calls.Unlock()
	if r.resolver != nil {
		r.resolver.ResolveNow(resolver.ResolveNowOptions{})
	}
}

// notify calls f with what is wrong with the newest resolution, now and whenever
// there is another one; "" means nothing. f must not call r.
func (r *Resolution) notify(f func(text string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onError = f
	r.failLocked(r.err)
}

// Close stops the resolver and waits until it has stopped. Next then returns io.EOF:
// the addresses that there are stay. Closing again does nothing.
func (r *Resolution) Close() {
	r.calls.Lock()
	defer r.calls.Unlock()
	if r.resolver == nil {
		return
	}
	r.resolver.Close()
	r.resolver = nil
	close(r.done)
}

// Next waits for the next address that has come or gone: see [discover.Source]. It
// returns io.EOF after Close, and no other error than that of ctx.
func (r *Resolution) Next(ctx context.Context) (c discover.Change[string, string], err error) {
	for {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		select {
		case <-r.done:
			return c, io.EOF
		default:
		}
		r.compare()
		if len(r.pending) > 0 {
			c, r.pending = r.pending[0], r.pending[1:]
			r.took(c)
			return c, nil
		}
		r.wait(ctx)
	}
}

// compare makes the changes of the newest update pending, in place of those that
// were: Next has not returned them, so that there is what its caller knows.
func (r *Resolution) compare() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changed {
		return
	}
	r.changed = false
	r.pending = nil
	for _, address := range r.newest {
		if _, ok := r.there[address]; !ok {
			r.pending = append(r.pending, discover.Insert(address, address))
		}
	}
	wanted := make(map[string]struct{}, len(r.newest))
	for _, address := range r.newest {
		wanted[address] = struct{}{}
	}
	for _, address := range slices.Sorted(maps.Keys(r.there)) {
		if _, ok := wanted[address]; !ok {
			r.pending = append(r.pending, discover.Remove[string](address))
		}
	}
}

// took notes what Next returns.
func (r *Resolution) took(c discover.Change[string, string]) {
	if c.Gone {
		delete(r.there, c.Key)
	} else {
		r.there[c.Key] = struct{}{}
	}
}

// wait waits for an update, for Close, for ctx, and at most until it is time to
// resolve again.
// It may return for no reason: Next looks again.
func (r *Resolution) wait(ctx context.Context) {
	var due <-chan time.Time
	if r.every > 0 {
		timer := time.NewTimer(time.Until(r.again))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-r.news:
	case <-r.done:
	case <-ctx.Done():
	case <-due:
		r.again = time.Now().Add(r.every)
		r.ResolveNow()
	}
}

// errNoAddress is the error of an update without addresses. A name that DNS does
// not know is one.
var errNoAddress = errors.New("the resolver has found no address")

// resolverClient is what a Resolution is to its resolver.
type resolverClient struct{ r *Resolution }

// UpdateState takes an update. An update without addresses is an error, as it is to
// the balancers of gRPC: resolvers that do not watch try again soon.
func (c resolverClient) UpdateState(s resolver.State) error {
	r := c.r
	found := addressesOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest, r.changed = found, true
	r.noteLocked(s)
	select {
	case r.news <- struct{}{}:
	default: // one is there already, and makes Next look at the newest
	}
	if len(found) == 0 {
		r.failLocked(errNoAddress)
		return balancer.ErrBadResolverState
	}
	r.failLocked(nil)
	return nil
}

// noteLocked logs, once, that a service config is ignored: its timeouts and
// retries would be missed.
func (r *Resolution) noteLocked(s resolver.State) {
	if s.ServiceConfig == nil || r.warned {
		return
	}
	r.warned = true
	slog.Default().Warn("balance: the service config of a resolver is ignored", "target", r.target)
}

// failLocked makes err the error of the newest resolution; nil if it succeeded. It
// requires mu.
func (r *Resolution) failLocked(err error) {
	r.err = err
	text := ""
	if err != nil {
		text = r.target + ": " + err.Error()
	}
	r.onError(text)
}

// ReportError takes a failure to resolve.
// The resolver tries again by itself, and so nothing is asked for here.
func (c resolverClient) ReportError(err error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.failLocked(err)
}

// NewAddress is UpdateState for old resolvers.
func (c resolverClient) NewAddress(addresses []resolver.Address) {
	_ = c.UpdateState(resolver.State{Addresses: addresses})
}

// ParseServiceConfig returns an empty result, which is not an error: some resolvers
// would report one as a failure to resolve.
func (resolverClient) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return new(serviceconfig.ParseResult)
}

// addressesOf returns the first address of each endpoint, without duplicates.
func addressesOf(s resolver.State) []string {
	var all []string
	seen := map[string]struct{}{}
	add := func(address string) {
		if _, ok := seen[address]; !ok {
			seen[address] = struct{}{}
			all = append(all, address)
		}
	}
	for _, e := range s.Endpoints {
		if len(e.Addresses) > 0 {
			add(e.Addresses[0].Addr)
		}
	}
	if s.Endpoints == nil { // an old resolver
		for _, a := range s.Addresses {
			add(a.Addr)
		}
	}
	return all
}
