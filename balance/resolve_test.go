package balance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/turrettest"
)

// A registry is a resolver that the test plays.
type registry struct {
	*manual.Resolver

	options resolver.BuildOptions
	asked   atomic.Int64 // how often to resolve again
	closed  int          // how often it was closed
	answers []error      // what UpdateState returned
}

func newRegistry() *registry {
	r := &registry{Resolver: manual.NewBuilderWithScheme("registry")}
	r.BuildCallback = func(_ resolver.Target, _ resolver.ClientConn, o resolver.BuildOptions) { r.options = o }
	r.UpdateStateCallback = func(err error) { r.answers = append(r.answers, err) }
	r.ResolveNowCallback = func(resolver.ResolveNowOptions) { r.asked.Add(1) }
	r.CloseCallback = func() { r.closed++ }
	return r
}

// find makes the registry find one endpoint for each address.
func (r *registry) find(addresses ...string) { r.UpdateState(found(addresses...)) }

func found(addresses ...string) resolver.State {
	s := resolver.State{Endpoints: []resolver.Endpoint{}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	return s
}

func resolve(t *testing.T, r *registry, c balance.ResolveConfig) *balance.Resolution {
	t.Helper()
	c.Builder = r
	source, err := balance.Resolve("registry:///orders.example:443", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source
}

// next returns the changes that source has without waiting, as "+a -b".
func next(t *testing.T, source *balance.Resolution) string {
	t.Helper()
	var all []string
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		c, err := source.Next(ctx)
		cancel()
		switch {
		case err != nil:
			if !errors.Is(err, context.DeadlineExceeded) {
				all = append(all, err.Error())
			}
			return strings.Join(all, " ")
		case c.Gone:
			all = append(all, "-"+c.Key)
		case c.Key != c.Service:
			t.Errorf("%q was inserted under %q", c.Service, c.Key)
		default:
			all = append(all, "+"+c.Key)
		}
	}
}

// Updates become insertions, in the resolver's order, and then removals.
func TestResolutionFollowsUpdates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		source := resolve(t, r, balance.ResolveConfig{})
		two := resolver.Endpoint{Addresses: []resolver.Address{{Addr: "e"}, {Addr: "[::1]:1"}}}
		for _, step := range []struct {
			state resolver.State
			want  string
		}{
			{found("b", "a", "b"), "+b +a"},
			{found("a", "b"), ""},
			{found("c", "a"), "+c -b"},
			{found("d"), "+d -a -c"},
			{found(), "-d"},
			{found(), ""},
			{resolver.State{Addresses: []resolver.Address{{Addr: "x"}, {Addr: "x"}, {Addr: "y"}}}, "+x +y"},
			{resolver.State{Endpoints: []resolver.Endpoint{{}, two}, Addresses: []resolver.Address{{Addr: "e"}, {Addr: "[::1]:1"}}}, "+e -x -y"},
		} {
			r.UpdateState(step.state)
			if got := next(t, source); got != step.want {
				t.Errorf("after %+v: %q, want %q", step.state, got, step.want)
			}
		}
		r.CC().NewAddress([]resolver.Address{{Addr: "z"}}) //nolint:staticcheck // old resolvers call it
		if got := next(t, source); got != "+z -e" {
			t.Errorf("after NewAddress: %q", got)
		}
	})
}

// A newer update replaces what Next has not returned yet.
func TestResolutionSkipsWhatIsOutdated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		source := resolve(t, r, balance.ResolveConfig{})
		r.find("a", "b", "c")
		if c, err := source.Next(t.Context()); err != nil || c.Key != "a" {
			t.Fatalf("Next: %v, %v, want a", c, err)
		}
		r.find("c", "d")
		if got := next(t, source); got != "+c +d -a" {
			t.Errorf("%q, want what differs from the one address that Next has returned", got)
		}
	})
}

// What the resolver found while it was built is not lost.
func TestResolutionOfAnInitialState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		r.UpdateStateCallback = func(error) {} // comes on a goroutine of its own
		r.InitialState(found("a"))
		if got := next(t, resolve(t, r, balance.ResolveConfig{})); got != "+a" {
			t.Errorf("%q, want +a", got)
		}
	})
}

// Next waits for updates, for its context, and for Close.
func TestResolutionNextWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		source := resolve(t, r, balance.ResolveConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		type result struct {
			change discover.Change[string, string]
			err    error
		}
		var got []result
		ask := func() {
			go func() {
				c, err := source.Next(ctx)
				got = append(got, result{c, err})
			}()
			synctest.Wait()
		}
		ask()
		if len(got) > 0 {
			t.Fatalf("Next returned %v before there was an update", got)
		}
		r.find("a")
		synctest.Wait()
		ask()
		cancel()
		synctest.Wait()
		ctx = t.Context()
		ask()
		source.Close()
		synctest.Wait()
		if len(got) != 3 || got[0].change.Key != "a" || !errors.Is(got[1].err, context.Canceled) || !errors.Is(got[2].err, io.EOF) {
			t.Errorf("Next returned %v, want a, the context's error and EOF", got)
		}
	})
}

// A resolver's failure removes nothing, and an update without addresses is an error
// to the resolver, which then tries again.
func TestResolutionErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		source := resolve(t, r, balance.ResolveConfig{})
		if err := source.Err(); err != nil {
			t.Errorf("before the first resolution: %v", err)
		}
		r.find("a")
		lost := errors.New("the registry is down")
		r.CC().ReportError(lost)
		if got := next(t, source); got != "+a" || !errors.Is(source.Err(), lost) {
			t.Errorf("after an error: %q, Err %v", got, source.Err())
		}
		r.find("a")
		if err := source.Err(); err != nil {
			t.Errorf("after a success: Err %v", err)
		}
		r.find()
		if err := source.Err(); err == nil {
			t.Error("an update without addresses is no error")
		}
		if want := []error{nil, nil, balancer.ErrBadResolverState}; !slices.Equal(r.answers, want) {
			t.Errorf("the resolver was answered %v, want %v", r.answers, want)
		}
	})
}

// The resolver is asked again at intervals, and by ResolveNow, and not after Close.
func TestResolutionResolvesAgain(t *testing.T) {
	for _, tt := range []struct {
		every time.Duration
		want  int64 // within 95 s
	}{
		{0, 3}, {time.Second, 95}, {-1, 0},
	} {
		t.Run(fmt.Sprint(tt.every), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRegistry()
				source := resolve(t, r, balance.ResolveConfig{Every: tt.every})
				ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second+time.Millisecond)
				defer cancel()
				if _, err := source.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				if r.asked.Load() != tt.want {
					t.Errorf("asked %d times, want %d", r.asked.Load(), tt.want)
				}
				source.ResolveNow()
				source.Close()
				source.Close()
				source.ResolveNow()
				if r.asked.Load() != tt.want+1 || r.closed != 1 {
					t.Errorf("asked %d times, want %d; closed %d times, want once", r.asked.Load(), tt.want+1, r.closed)
				}
				r.find("late")
				if _, err := source.Next(t.Context()); !errors.Is(err, io.EOF) {
					t.Errorf("after Close: %v, want EOF", err)
				}
			})
		})
	}
}

// A service config is not asked for. One that comes all the same is ignored, and
// that is logged once.
func TestResolutionIgnoresServiceConfigs(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		source := resolve(t, r, balance.ResolveConfig{})
		if !r.options.DisableServiceConfig {
			t.Error("the resolver may ask for a service config")
		}
		for range 2 {
			s := found("a")
			s.ServiceConfig = r.CC().ParseServiceConfig(`{"loadBalancingConfig": [{"pick_first": {}}]}`)
			r.UpdateState(s)
		}
		s := found("a", "b")
		s.ServiceConfig = &serviceconfig.ParseResult{Err: errors.New("no JSON")}
		r.UpdateState(s)
		if got := next(t, source); got != "+a +b" || source.Err() != nil {
			t.Errorf("%q, Err %v", got, source.Err())
		}
	})
	if got := strings.Count(out.String(), "service config"); got != 1 {
		t.Errorf("%d lines were logged, want 1:\n%s", got, out.String())
	}
}

func TestResolveTargets(t *testing.T) {
	overrides := authorityBuilder{newRegistry()}
	for _, tt := range []struct {
		target          string
		builder         resolver.Builder
		want, authority string
	}{
		{"registry:///orders.example:443", newRegistry(), "registry:///orders.example:443", "orders.example:443"},
		{"orders.example:443", newRegistry(), "registry:///orders.example:443", "orders.example:443"},
		{"dns:///orders.example", newRegistry(), "registry:///dns:///orders.example", "dns:///orders.example"},
		{"registry://host/x", overrides, "registry://host/x", "over.example"},
		{"registry:///:443", newRegistry(), "registry:///:443", "localhost:443"},
		{"127.0.0.1:443", nil, "dns:///127.0.0.1:443", "127.0.0.1:443"},
		{"dns:///127.0.0.1:443", nil, "dns:///127.0.0.1:443", "127.0.0.1:443"},
		{"passthrough:///orders.example:443", nil, "passthrough:///orders.example:443", "orders.example:443"},
	} {
		r, err := balance.Resolve(tt.target, balance.ResolveConfig{Builder: tt.builder})
		if err != nil {
			t.Errorf("%s: %v", tt.target, err)
			continue
		}
		if r.String() != tt.want || r.Authority() != tt.authority {
			t.Errorf("%s: target %q, authority %q, want %q, %q", tt.target, r, r.Authority(), tt.want, tt.authority)
		}
		r.Close()
	}
}

type authorityBuilder struct{ *registry }

func (authorityBuilder) OverrideAuthority(resolver.Target) string { return "over.example" }

// failingBuilder is a resolver that cannot be started.
type failingBuilder struct{}

var errBuild = errors.New("no registry here")

func (failingBuilder) Scheme() string { return "registry" }

func (failingBuilder) Build(resolver.Target, resolver.ClientConn, resolver.BuildOptions) (resolver.Resolver, error) {
	return nil, errBuild
}

func TestResolveErrors(t *testing.T) {
	if _, err := balance.Resolve("registry:///x", balance.ResolveConfig{Builder: failingBuilder{}}); !errors.Is(err, errBuild) || !strings.Contains(err.Error(), "registry:///x") {
		t.Errorf("a resolver that cannot be started: %v", err)
	}
	if _, err := balance.Resolve("%zz", balance.ResolveConfig{}); err == nil {
		t.Error("no error for a target that cannot be parsed")
	}
	for _, every := range []time.Duration{0, -1, time.Second} {
		if err := (balance.ResolveConfig{Every: every}).Validate(); err != nil {
			t.Error(err)
		}
	}
	err := balance.ResolveConfig{Every: 1}.Validate()
	if _, ok := errors.AsType[*turret.FieldError](err); !ok {
		t.Fatalf("Every of 1 ns: %v, want a FieldError", err)
	}
	defer func() {
		want := "balance: Resolve: Every is 1ns, must be at least 1s (0 means 30s, negative never)"
		if got := fmt.Sprint(recover()); got != want {
			t.Errorf("panic %q, want %q", got, want)
		}
	}()
	_, _ = balance.Resolve("x", balance.ResolveConfig{Every: 1})
}

// The servers of a ClientConn come and go with the resolver's updates.
func TestClientConnOverResolution(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		s := newSiteOver(t, resolve(t, r, balance.ResolveConfig{}), balance.ClientConfig{})
		s.start("a", "b")
		r.find("a")
		for range 10 {
			if err := s.unary(); err != nil {
				t.Fatal(err)
			}
		}
		r.find("b")
		synctest.Wait()
		s.log()
		for range 10 {
			if err := s.unary(); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.log(); slices.Contains(got, "a") || s.open("a") != 0 {
			t.Errorf("RPCs came to %v after a had gone; %d connections to it are open", got, s.open("a"))
		}
	})
}

// RPCs that fail fast do not wait for a resolver that finds nothing, and say why;
// the others wait until it does.
func TestClientConnWhileResolutionFails(t *testing.T) {
	for name, fail := range map[string]func(r *registry){
		"the registry is down":              func(r *registry) { r.CC().ReportError(errors.New("the registry is down")) },
		"the resolver has found no address": func(r *registry) { r.find() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRegistry()
				s := newSiteOver(t, resolve(t, r, balance.ResolveConfig{}), balance.ClientConfig{})
				s.start("a")
				rpc := turret.ServiceFunc(func(_ context.Context, o grpc.CallOption) (struct{}, error) { return struct{}{}, s.unary(o) })
				fast := turrettest.Go(t.Context(), rpc, grpc.WaitForReady(false))
				synctest.Wait()
				if fast.Over() {
					t.Fatal("an RPC ended before the first resolution did")
				}
				fail(r)
				synctest.Wait()
				_, err := fast.Result()
				if status.Code(err) != codes.Unavailable || !errors.Is(err, balance.ErrUnreachable) ||
					!strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "registry:///orders.example:443") {
					t.Errorf("an RPC that fails fast: %v, want UNAVAILABLE that says why", err)
				}
				slow := turrettest.Go(t.Context(), rpc, grpc.WaitForReady(true))
				synctest.Wait()
				r.find("a")
				synctest.Wait()
				if _, err := slow.Result(); err != nil {
					t.Errorf("an RPC that waits: %v", err)
				}
				if err := s.unary(); err != nil {
					t.Errorf("after the resolver has found a server: %v", err)
				}
			})
		})
	}
}

// A connection that is lost, and one that cannot be made, are reasons to resolve
// again.
func TestClientConnAsksToResolveAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRegistry()
		s := newSiteOver(t, resolve(t, r, balance.ResolveConfig{Every: -1}), balance.ClientConfig{})
		s.start("a")
		r.find("a")
		synctest.Wait()
		if r.asked.Load() != 0 {
			t.Errorf("asked %d times while all was well", r.asked.Load())
		}
		s.stop("a")
		if r.asked.Load() == 0 {
			t.Error("the resolver was not asked when the connection was lost")
		}
		r.find("a", "b")
		synctest.Wait()
		before := r.asked.Load()
		time.Sleep(10 * time.Second)
		if r.asked.Load() == before {
			t.Error("the resolver was not asked while no connection can be made")
		}
	})
}

// FuzzResolution replays the changes of random updates, which must lead to the
// newest update whenever all of them have been taken.
func FuzzResolution(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 7, 255, 16, 8})
	f.Add([]byte{255, 3, 129, 0, 0, 3, 200})
	f.Fuzz(func(t *testing.T, steps []byte) {
		r := newRegistry()
		source, err := balance.Resolve("x", balance.ResolveConfig{Builder: r, Every: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		there, newest := map[string]bool{}, map[string]bool{}
		take := func(most int) (all bool) {
			for range most {
				if maps.Equal(there, newest) {
					return true
				}
				c, err := source.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if c.Gone != there[c.Key] {
					t.Fatalf("change %+v, but there is %v", c, there)
				}
				if there[c.Key] = !c.Gone; c.Gone {
					delete(there, c.Key)
				}
			}
			return maps.Equal(there, newest)
		}
		for _, step := range steps {
			var addresses []string
			newest = map[string]bool{}
			for bit := range 6 {
				if step&(1<<bit) != 0 {
					a := string(rune('a' + bit))
					addresses, newest[a] = append(addresses, a, a), true
				}
			}
			r.find(addresses...)
			take(int(step >> 6))
		}
		if !take(13) {
			t.Fatalf("there is %v, want %v", there, newest)
		}
	})
}
