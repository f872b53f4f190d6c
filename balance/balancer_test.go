package balance_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/fakeconn"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/ready"
	"github.com/turret-go/turret/turrettest"
)

type (
	service = turret.Service[string, string]
	change  = discover.Change[string, service]
	mock    = turrettest.Mock[string, string]
)

// A crowd is a Balancer over services that the test inserts and removes.
type crowd struct {
	*testing.T
	*balance.Balancer[string, string, string]

	changes chan change

	mu     sync.Mutex
	counts map[string]int // calls, by the name of the service
}

// newCrowd is to be called in a bubble.
func newCrowd(t *testing.T, c balance.Config) *crowd {
	c.Seed = cmp.Or(c.Seed, 1)
	changes := make(chan change)
	b := &crowd{T: t, changes: changes, counts: map[string]int{}}
	b.Balancer = balance.New(discover.Channel(changes), c, nil)
	t.Cleanup(b.Close)
	return b
}

func (c *crowd) insert(name string, s service) {
	c.changes <- discover.Insert(name, s)
	synctest.Wait()
}

func (c *crowd) remove(name string) {
	c.changes <- discover.Remove[service](name)
	synctest.Wait()
}

// mocks inserts services that the test answers for.
func (c *crowd) mocks(names ...string) map[string]*mock {
	all := map[string]*mock{}
	for _, name := range names {
		all[name] = turrettest.NewMock[string, string](c.T)
		c.insert(name, all[name])
	}
	return all
}

// counted inserts services that answer with their name, as do says.
func (c *crowd) counted(do func(name string) error, names ...string) {
	for _, name := range names {
		c.insert(name, turret.ServiceFunc(func(context.Context, string) (string, error) {
			c.mu.Lock()
			c.counts[name]++
			c.mu.Unlock()
			return name, do(name)
		}))
	}
}

func fine(string) error { return nil }

// used returns which services were called, and how often, since the last use of used.
func (c *crowd) used() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.counts = map[string]int{} }()
	return c.counts
}

func (c *crowd) call(n int) {
	c.Helper()
	for range n {
		if _, err := c.Call(c.Context(), "call"); err != nil {
			c.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// begin makes a call in the background. It returns its end: nil while it runs.
func (c *crowd) begin(ctx context.Context) (end func() *ended) {
	var mu sync.Mutex
	var got *ended
	go func() {
		res, err := c.Call(ctx, "call")
		mu.Lock()
		defer mu.Unlock()
		got = &ended{res, err}
	}()
	synctest.Wait()
	return func() *ended {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

type ended struct {
	res string
	err error
}

// Over one endpoint a Balancer keeps every rule of a layer.
func TestBalancerIsALayer(t *testing.T) {
	turrettest.TestLayer(t, func(t *testing.T) turret.Layer[string, string] {
		return func(inner service) service {
			b := balance.New(discover.List(inner), balance.Config{}, nil)
			t.Cleanup(b.Close)
			synctest.Wait() // until it is known whether the endpoint is ready
			return b
		}
	}, turrettest.LayerTraits[string, string]{})
}

// Endpoints that are alike have even shares, one that fails is banned.
func TestBalancerChooses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{Seed: 1})
		sick := false
		c.counted(func(name string) error {
			if sick && name == "a" {
				return errors.New("sick")
			}
			return nil
		}, "a", "b", "c", "d")
		c.call(4000)
		for name, n := range c.used() {
			if n < 800 || n > 1200 {
				t.Errorf("%s had %d of 4000 calls", name, n)
			}
		}
		sick = true
		failed := 0
		for range 4000 {
			if _, err := c.Call(t.Context(), "call"); err != nil {
				failed++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if failed < 3 || failed > 10 {
			t.Errorf("%d of 4000 calls failed in 40 s, want 3 and a few probes", failed)
		}
		if s := c.Stats(); s.Banned != 1 || s.Bans < 2 || s.Ready != 4 {
			t.Errorf("%+v, want one that is banned, and was more than once", s)
		}
	})
}

// The policy of gRPC and the Balancer are one mechanism: with the same seed they
// choose the same endpoints, through failures, bans, limits and slow start.
func TestSameChoicesAsThePolicy(t *testing.T) {
	for _, config := range []balance.Config{
		{},
		{Load: balance.LoadPending, Limit: 2},
		{Choices: 3, Load: balance.LoadPeakEWMA},
		{Limit: 1, OnFull: balance.Use, OnBanned: balance.Refuse, MaxBanned: 1},
	} {
		config.Seed = 11
		var policy, generic string
		bubble(t, func(t *testing.T) { policy = choicesOfPolicy(t, config) })
		bubble(t, func(t *testing.T) { generic = choicesOfBalancer(t, config) })
		if policy != generic {
			t.Errorf("%+v: the policy chose\n%s\nthe Balancer\n%s", config, policy, generic)
		}
	}
}

// sequence begins and ends a thousand calls, of which those of one endpoint fail,
// and returns the endpoints that were chosen.
func sequence(begin func() (name string, end func(ok bool), err error)) (names string) {
	var inside []func(bool)
	for i := range 1000 {
		name, end, err := begin()
		names += name + " "
		if err == nil {
			inside = append(inside, func(ok bool) { end(ok && name != first) })
		}
		time.Sleep(time.Duration(i%7) * time.Millisecond)
		for len(inside) > i%4 {
			inside[0](true)
			inside = inside[1:]
		}
	}
	for _, end := range inside {
		end(true)
	}
	return names
}

// choicesOfPolicy is the sequence of the policy.
func choicesOfPolicy(t *testing.T, config balance.Config) string {
	f := newFleet(t, config, fakeconn.Endpoints(5))
	return sequence(func() (string, func(bool), error) {
		p, err := f.tryPick(t.Context())
		return p.address, func(ok bool) {
			p.done(map[bool]balancer.DoneInfo{true: answered, false: down}[ok])
		}, err
	})
}

// choicesOfBalancer is the sequence of a Balancer.
func choicesOfBalancer(t *testing.T, config balance.Config) string {
	c := newCrowd(t, config)
	var names []string
	for _, e := range fakeconn.Endpoints(5) {
		names = append(names, e.Addresses[0].Addr)
	}
	all := map[string]*mock{}
	for _, name := range names {
		all[name] = turrettest.NewMock[string, string](t)
		all[name].Allow(0)
		c.insert(name, all[name])
	}
	for _, name := range slices.Backward(names) { // the order in which they become ready does not matter
		all[name].Allow(-1)
		synctest.Wait()
	}
	return sequence(func() (string, func(bool), error) {
		got := c.begin(t.Context())
		if e := got(); e != nil {
			return "", nil, e.err
		}
		for _, name := range names {
			if r, ok := all[name].TryNext(); ok {
				return name, func(ok bool) {
					if ok {
						r.Respond("")
					} else {
						r.Fail(errors.New("down"))
					}
					synctest.Wait()
				}, nil
			}
		}
		t.Fatal("the call is nowhere")
		return "", nil, nil
	})
}

// An endpoint that is not ready gets no calls until it is. One whose readiness
// fails for good is dropped, even if its calls would succeed.
func TestBalancerReadiness(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		all := c.mocks("a", "b")
		all["a"].Allow(0)
		for range 20 {
			end := c.begin(t.Context())
			all["b"].Next(t.Context()).Respond("b")
			if e := end(); e == nil || e.err != nil {
				t.Fatalf("%+v, want the answer of b", e)
			}
		}
		if s := c.Stats(); s.Ready != 1 || s.Pending != 1 {
			t.Fatalf("%+v, want one that is ready and one pending", s)
		}
		all["b"].Allow(0)
		end := c.begin(t.Context())
		if e := end(); e != nil {
			t.Fatalf("%+v with nobody ready, want it to wait", e)
		}
		all["a"].Allow(1)
		all["a"].Next(t.Context()).Respond("a")
		if e := end(); e == nil || e.res != "a" {
			t.Fatalf("%+v, want the answer of a", e)
		}
		all["a"].Fail(errors.New("broken"))
		if err := turret.ReadyNow[string, string](c); err == nil { // Ready finds out
			t.Error("ready with one that is broken and one that has no room")
		}
		if s := c.Stats(); s.Ready+s.Pending != 1 {
			t.Fatalf("%+v, want a to be dropped", s)
		}
	})
}

// A call that finds no endpoint waits until its context ends, and its error has the
// reason.
func TestBalancerWithoutEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		wait := func(want string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := c.Call(ctx, "")
			readiness := c.Ready(ctx)
			for _, err := range []error{err, readiness} {
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, turret.ErrNotReady) || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want the context's error, and %q", err, want)
				}
			}
			if waited := time.Since(start); waited != time.Second {
				t.Errorf("waited for %v, want a second", waited)
			}
		}
		wait("no service is ready, 0 pending")
		m := c.mocks("a")["a"]
		m.Fail(errors.New("connection refused"))
		synctest.Wait()
		if _, err := c.Call(endedContext(t), ""); !errors.Is(err, context.Canceled) { // Ready finds out
			t.Errorf("with a context that has ended: %v", err)
		}
		wait("the last one that failed: a: connection refused")
		time.AfterFunc(time.Minute, func() { c.changes <- discover.Insert("b", turret.ServiceFunc(repeated)) })
		if got, err := c.Call(t.Context(), "hello"); got != "hello" || err != nil {
			t.Errorf("%q, %v, want the answer of the one that has come", got, err)
		}
	})
}

func repeated(_ context.Context, req string) (string, error) { return req, nil }

func endedContext(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// When no endpoint is left and none will come, calls that wait and later ones fail
// at once, for good.
func TestBalancerOver(t *testing.T) {
	broken := errors.New("broken")
	fails := func() service {
		return readiness{turret.ServiceFunc(repeated), func(context.Context) error { return broken }}
	}
	tests := map[string]struct {
		source discover.Source[int, service]
		want   string
		is     error
	}{
		"all have failed":      {discover.List(fails()), "there is no endpoint, the last one failed: 0: broken", broken},
		"there were none":      {discover.List[service](), "there is no endpoint, and there will be none", nil},
		"discovery has failed": {failing{context.DeadlineExceeded}, "there is no endpoint, discovery has failed: " + context.DeadlineExceeded.Error(), nil},
		"discovery panics":     {failing{nil}, "there is no endpoint, discovery has failed: panicked, see the log", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := balance.New(tt.source, balance.Config{}, nil)
				defer b.Close()
				_, err := b.Call(t.Context(), "") // it may come too early, and waits then
				r, ok := errors.AsType[*turret.Refusal](err)
				if !ok || r.Reason != turret.ReasonNoEndpoint || r.Kind != turret.KindUnavailable || err.Error() != "balance: "+tt.want {
					t.Errorf("Call: %v, want a refusal: balance: %s", err, tt.want)
				}
				err = b.Ready(t.Context())
				if !turret.IsFinal(err) || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, balance.ErrNoEndpoint) {
					t.Errorf("Ready: %v, want a final error: %s", err, tt.want)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("Ready: %v does not match %v", err, tt.is)
				}
			})
		})
	}
}

// While endpoints are left, a failed source fails no call.
func TestBalancerOutlivesItsSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := turrettest.NewMock[string, string](t)
		b := balance.New(discover.Source[int, service](&oneThenFails{m, io.ErrUnexpectedEOF}), balance.Config{}, nil)
		defer b.Close()
		synctest.Wait()
		if err := b.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.Allow(0)
		err := b.Ready(endedContext(t))
		if err := turret.ReadyNow(b); !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("Ready: %v, want not ready", err)
		}
		if !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Ready: %v, want the failure of the source", err)
		}
	})
}

// oneThenFails is a source of one service that then fails.
type oneThenFails struct {
	s   service
	err error
}

func (f *oneThenFails) Next(context.Context) (c discover.Change[int, service], err error) {
	if f.s == nil {
		return c, f.err
	}
	s := f.s
	f.s = nil
	return discover.Insert(0, s), nil
}

type failing struct{ err error }

func (f failing) Next(context.Context) (c discover.Change[int, service], err error) {
	if f.err == nil {
		panic("a fault of the source")
	}
	return c, f.err
}

type readiness struct {
	service

	ready func(ctx context.Context) error
}

func (r readiness) Ready(ctx context.Context) error { return r.ready(ctx) }

// closing is a mock that counts how often it is closed.
type closing struct {
	*mock

	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

// Calls in flight outlive the removal of their endpoint, which gets no other call
// and is closed when the last one is over; a replaced one serves until the new one
// is ready.
func TestBalancerRemoval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		old := &closing{turrettest.NewMock[string, string](t), 0}
		c.insert("a", old)
		first, second := c.begin(t.Context()), c.begin(t.Context())
		next := &closing{turrettest.NewMock[string, string](t), 0}
		next.Allow(0)
		c.insert("a", next)
		third := c.begin(t.Context())
		requests := []*turrettest.Request[string, string]{old.Next(t.Context()), old.Next(t.Context()), old.Next(t.Context())}
		next.Allow(-1)
		synctest.Wait()
		fourth := c.begin(t.Context())
		next.Next(t.Context()).Respond("new")
		if e := fourth(); e == nil || e.res != "new" {
			t.Errorf("after the replacement: %+v, want the answer of the new one", e)
		}
		for i, end := range []func() *ended{first, second, third} {
			if old.closed > 0 {
				t.Error("closed while calls are in flight")
			}
			requests[i].Respond("old")
			if e := end(); e == nil || e.res != "old" {
				t.Errorf("call %d: %+v, want the answer of the old one", i, e)
			}
		}
		if old.closed != 1 {
			t.Errorf("the old one was closed %d times", old.closed)
		}
		c.remove("a")
		if next.closed != 1 {
			t.Errorf("the one that was removed was closed %d times", next.closed)
		}
		c.remove("a")
		c.remove("b")
		if e := c.begin(endedContext(t))(); e == nil || !errors.Is(e.err, turret.ErrNotReady) {
			t.Errorf("with nobody left: %+v", e)
		}
	})
}

// A panic and a Goexit in an endpoint reach the caller, are failures, and leave
// nothing behind.
func TestBalancerPanics(t *testing.T) {
	for name, end := range map[string]func(){
		"panic":  func() { panic("a fault") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCrowd(t, balance.Config{Limit: 1, MaxBanned: 1})
				c.insert("a", turret.ServiceFunc(func(context.Context, string) (string, error) {
					end()
					return "", nil
				}))
				for i := range 3 {
					returned := false
					done := make(chan any)
					go func() {
						defer func() { done <- recover() }()
						_, err := c.Call(t.Context(), "")
						returned = true
						t.Errorf("call %d returned %v", i, err)
					}()
					if p := <-done; returned || name == "panic" && p != "a fault" {
						t.Errorf("call %d: %v", i, p)
					}
				}
				if s := c.Stats(); s.Bans != 1 {
					t.Errorf("%+v, want a ban after three failures", s)
				}
				time.Sleep(time.Hour)
				c.remove("a")
				c.counted(fine, "b")
				c.call(3)
			})
		})
	}
}

// A panic of a service's Close ends neither the call that was the last one on the
// service nor the source: for a service that is removed, that is replaced, and that
// is left at the end.
func TestBalancerClosePanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		for range 2 {
			c.insert("a", badClose{turret.ServiceFunc(func(context.Context, string) (string, error) {
				c.remove("a")
				return "", nil
			})})
			c.call(1)
			c.insert("b", badClose{turret.ServiceFunc(func(context.Context, string) (string, error) { return "", nil })})
			c.call(1)
			c.remove("b")
			c.insert("b", badClose{turret.ServiceFunc(func(context.Context, string) (string, error) { return "", nil })})
			c.insert("b", badClose{turret.ServiceFunc(func(context.Context, string) (string, error) { return "", nil })})
		}
		c.call(1)
	})
}

type badClose struct{ service }

func (badClose) Close() { panic("a fault") }

// A panic in Ready, when an endpoint is asked before a call, gives back what the
// call has taken.
func TestBalancerReadyPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		fault := false
		c := newCrowd(t, balance.Config{Limit: 1})
		c.insert("a", readiness{turret.ServiceFunc(repeated), func(context.Context) error {
			if fault {
				panic("a fault")
			}
			return nil
		}})
		fault = true
		for range 3 {
			func() {
				defer func() {
					if p := recover(); p != "a fault" {
						t.Errorf("panic %v", p)
					}
				}()
				_, _ = c.Call(t.Context(), "")
			}()
		}
		fault = false
		c.call(1)
	})
}

// What callers cancel says nothing against an endpoint; what classify says does.
func TestBalancerClassifies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		changes := make(chan change)
		var outcome turret.Outcome
		b := balance.New(discover.Channel(changes), balance.Config{MaxBanned: 1}, func(_ context.Context, req, res string, err error) turret.Outcome {
			if req != "ping" || res != "pong" || err != nil {
				t.Errorf("classify was asked about %q, %q, %v", req, res, err)
			}
			return outcome
		})
		defer b.Close()
		changes <- discover.Insert("a", turret.ServiceFunc(func(context.Context, string) (string, error) { return "pong", nil }))
		for _, tt := range []struct {
			outcome turret.Outcome
			bans    uint64
		}{{turret.Success, 0}, {turret.Ignored, 0}, {turret.Overload, 0}, {turret.Failure, 1}} {
			outcome = tt.outcome
			for range 5 {
				_, _ = b.Call(t.Context(), "ping")
			}
			if s := b.Stats(); s.Bans != tt.bans {
				t.Errorf("after five of %v: %+v, want %d bans", tt.outcome, s, tt.bans)
			}
		}
	})
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{MaxBanned: 1})
		m := c.mocks("a")["a"]
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			end := c.begin(ctx)
			m.Next(t.Context())
			cancel()
			if e := end(); e == nil || !errors.Is(e.err, context.Canceled) {
				t.Errorf("%+v, want the context's error", e)
			}
		}
		if s := c.Stats(); s.Bans != 0 {
			t.Errorf("%+v after calls that were cancelled", s)
		}
	})
}

// Config.Limit bounds the calls at an endpoint; Ready waits for room, and calls
// are refused or crowd, as OnFull says.
func TestBalancerLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{Limit: 2})
		m := c.mocks("a")["a"]
		first, second := c.begin(t.Context()), c.begin(t.Context())
		_, err := c.Call(t.Context(), "")
		if r, ok := errors.AsType[*turret.Refusal](err); !ok || r.Reason != turret.ReasonLimitFull || !errors.Is(err, balance.ErrFull) {
			t.Errorf("the third: %v, want it to be refused", err)
		}
		if err := turret.ReadyNow[string, string](c); !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, balance.ErrFull) {
			t.Errorf("Ready: %v, want not ready", err)
		}
		var mu sync.Mutex
		waiting := 3
		for range 3 {
			go func() {
				if err := c.Ready(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				waiting--
			}()
		}
		synctest.Wait()
		start := time.Now()
		m.Next(t.Context()).Respond("")
		synctest.Wait()
		mu.Lock()
		if waiting != 0 || time.Since(start) != 0 {
			t.Errorf("%d still wait for the room that there is, after %v", waiting, time.Since(start))
		}
		mu.Unlock()
		m.Next(t.Context()).Respond("")
		if first() == nil || second() == nil {
			t.Error("the calls have not ended")
		}
	})
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{Limit: 1, OnFull: balance.Use})
		m := c.mocks("a")["a"]
		c.begin(t.Context())
		c.begin(t.Context())
		if err := turret.ReadyNow[string, string](c); err != nil {
			t.Errorf("Ready: %v, want it to be ready", err)
		}
		m.Next(t.Context()).Respond("")
		m.Next(t.Context()).Respond("")
	})
}

// With OnBanned a Balancer refuses while all endpoints are banned, and is ready
// again when the ban is over.
func TestBalancerBanned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{MaxBanned: 1, OnBanned: balance.Refuse})
		sick := true
		c.counted(func(string) error {
			if sick {
				return errors.New("sick")
			}
			return nil
		}, "a", "b")
		for range 6 {
			_, _ = c.Call(t.Context(), "")
		}
		if _, err := c.Call(t.Context(), ""); !errors.Is(err, balance.ErrBanned) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("%v, want it to be refused", err)
		}
		if err := turret.ReadyNow[string, string](c); !errors.Is(err, balance.ErrBanned) {
			t.Errorf("Ready: %v, want not ready", err)
		}
		sick = false
		start := time.Now()
		if err := c.Ready(t.Context()); err != nil || time.Since(start) < time.Second || time.Since(start) > 5*time.Second {
			t.Errorf("Ready: %v after %v, want it to wait for the end of a ban", err, time.Since(start))
		}
		c.call(1)
	})
}

// An endpoint that refuses, because another call was quicker, is passed over; what
// was sent is not sent again.
func TestBalancerPassesRefusalsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{MaxBanned: 1})
		full := &turret.Refusal{Layer: "limit", Reason: turret.ReasonLimitFull, Err: limit.ErrFull}
		c.counted(func(name string) error {
			if name == "a" {
				return full
			}
			return nil
		}, "a", "b")
		for range 200 {
			if got, err := c.Call(t.Context(), ""); err != nil && !errors.Is(err, limit.ErrFull) || err == nil && got != "b" {
				t.Fatalf("%q, %v", got, err)
			}
			record, _ := attempts.NewContext(t.Context(), attempts.Unary)
			if got, err := c.Call(record, ""); err != nil || got != "b" {
				t.Fatalf("with a record: %q, %v, want the answer of b", got, err)
			}
		}
		c.remove("b")
		c.used()
		if _, err := c.Call(t.Context(), ""); !errors.Is(err, limit.ErrFull) {
			t.Errorf("%v, want the refusal of the last endpoint", err)
		}
		if n := c.used()["a"]; n != 4 {
			t.Errorf("the call was sent %d times, want 4", n)
		}
		if _, err := c.Call(endedContext(t), ""); !errors.Is(err, limit.ErrFull) || c.used()["a"] != 1 {
			t.Errorf("with a context that has ended: %v, want one refusal", err)
		}
		if s := c.Stats(); s.Bans != 0 {
			t.Errorf("%+v: a refusal counts for nothing", s)
		}
	})
	for _, sent := range []error{errors.New("failed"), turret.Sent(turret.ErrNotReady)} {
		bubble(t, func(t *testing.T) {
			c := newCrowd(t, balance.Config{})
			c.counted(func(string) error { return sent }, "a", "b")
			if _, err := c.Call(t.Context(), ""); !errors.Is(err, sent) {
				t.Errorf("%v, want %v", err, sent)
			}
			if n := c.used(); n["a"]+n["b"] != 1 {
				t.Errorf("%v: sent %v", sent, n)
			}
		})
	}
}

// A call that carries a record of what was tried goes elsewhere.
func TestBalancerAvoidsTried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{MaxBanned: -1})
		c.counted(fine, "a", "b", "c", "d", "e")
		for range 100 {
			ctx, _ := attempts.NewContext(t.Context(), attempts.Unary)
			for range 5 {
				if _, err := c.Call(ctx, ""); err != nil {
					t.Fatal(err)
				}
			}
			if n := c.used(); len(n) != 5 {
				t.Fatalf("five attempts went to %v", n)
			}
		}
	})
}

// One that has come gets warm first, and one that has no room for a while stays
// warm.
func TestBalancerSlowStart(t *testing.T) {
	share := func(c balance.Config) (atFirst, afterwards int) {
		bubble(t, func(t *testing.T) {
			b := newCrowd(t, c)
			b.counted(func(string) error {
				time.Sleep(time.Millisecond)
				return nil
			}, "b", "c", "d", "e")
			b.call(1000)
			full := limit.NewConcurrency(1, limit.Queue{})
			b.insert("a", turret.Gated[string, string](full, nil)(turret.ServiceFunc(func(context.Context, string) (string, error) {
				b.mu.Lock()
				b.counts["a"]++
				b.mu.Unlock()
				time.Sleep(time.Millisecond)
				return "a", nil
			})))
			b.used()
			b.call(100)
			atFirst = b.used()["a"]
			b.call(2000)
			full.SetMax(0)
			b.call(10)
			full.SetMax(1)
			b.used()
			b.call(100)
			afterwards = b.used()["a"]
		})
		return atFirst, afterwards
	}
	if n, later := share(balance.Config{SlowStart: -1}); n < 10 || later < 10 {
		t.Errorf("without slow start: %d of the first 100 calls, and %d later, want 20", n, later)
	}
	if n, later := share(balance.Config{SlowStart: 10 * time.Second}); n > 5 || later < 10 {
		t.Errorf("%d of the first 100 calls, want next to none, and %d later, want 20", n, later)
	}
}

// Endpoints that have left do not count for the share that may be banned.
func TestBalancerBansAfterRemoval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{MaxBanned: 0.25})
		sick := func(string) error { return errors.New("sick") }
		c.counted(sick, "a")
		c.counted(func(string) error {
			time.Sleep(time.Millisecond)
			return nil
		}, "b", "c", "d")
		for n := range 3 {
			for i := 0; c.Stats().Bans <= uint64(n) && i < 100_000; i++ {
				_, _ = c.Call(t.Context(), "")
				time.Sleep(10 * time.Millisecond)
			}
			if s := c.Stats(); s.Banned != 1 {
				t.Fatalf("%+v, want one that is banned", s)
			}
			c.remove("a")
			if s := c.Stats(); s.Banned != 0 {
				t.Fatalf("%+v after its removal", s)
			}
			c.counted(sick, "a")
		}
	})
}

// Endpoints with a limit of their own and no line are used to the full: no call is
// refused while there is room somewhere, and callers wait in line when there is
// none.
func TestBalancerOverLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		var mu sync.Mutex
		inside, most := map[string]int{}, 0
		for _, name := range []string{"a", "b", "c"} {
			gate := turret.Gated[string, string](limit.NewConcurrency(2, limit.Queue{}), nil)
			c.insert(name, gate(turret.ServiceFunc(func(context.Context, string) (string, error) {
				mu.Lock()
				inside[name]++
				most = max(most, inside["a"]+inside["b"]+inside["c"])
				if inside[name] > 2 {
					t.Errorf("%d calls at %s", inside[name], name)
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				inside[name]--
				return name, nil
			})))
		}
		var all sync.WaitGroup
		start := time.Now()
		for range 60 {
			all.Go(func() {
				if _, err := c.Call(t.Context(), ""); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); most != 6 || took > 11*time.Second {
			t.Errorf("60 calls of a second took %v with %d at a time, want 10 s with 6", took, most)
		}
	})
}

// Many that wait for one place get it one after the other, with no pause between
// them, and without asking for it all the time.
func TestBalancerLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const callers = 300
		c := newCrowd(t, balance.Config{})
		var asked atomic.Int64
		gate := limit.NewConcurrency(1, limit.Queue{})
		one := turret.Gated[string, string](gate, nil)(turret.ServiceFunc(func(context.Context, string) (string, error) {
			time.Sleep(time.Second)
			return "", nil
		}))
		c.insert("a", readiness{one, func(ctx context.Context) error {
			asked.Add(1)
			return one.Ready(ctx)
		}})
		var all sync.WaitGroup
		start := time.Now()
		for range callers {
			all.Go(func() {
				if _, err := c.Call(t.Context(), ""); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != callers*time.Second {
			t.Errorf("%d calls of a second took %v", callers, took)
		}
		if n := asked.Load(); n > 20*callers {
			t.Errorf("%d calls have asked %d times for readiness", callers, n)
		}
	})
}

// Close ends what waits, and the goroutines; calls in flight go on.
func TestBalancerClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		m := &closing{turrettest.NewMock[string, string](t), 0}
		c.insert("a", m)
		inFlight := c.begin(t.Context())
		m.Allow(0)
		waiting, second := c.begin(t.Context()), c.begin(t.Context())
		c.Close()
		c.Close()
		for _, end := range []func() *ended{waiting, second, c.begin(t.Context())} {
			e := end()
			if e == nil || !errors.Is(e.err, ready.ErrClosed) || !errors.Is(e.err, turret.ErrNotReady) {
				t.Errorf("%+v, want a refusal that matches ready.ErrClosed", e)
			}
		}
		if err := c.Ready(t.Context()); !turret.IsFinal(err) || !errors.Is(err, ready.ErrClosed) {
			t.Errorf("Ready: %v, want a final error", err)
		}
		if m.closed != 0 {
			t.Error("the endpoint was closed with a call in flight")
		}
		m.Next(t.Context()).Respond("late")
		if e := inFlight(); e == nil || e.res != "late" || m.closed != 1 {
			t.Errorf("%+v, closed %d times, want the answer and then the end", e, m.closed)
		}
	})
}

func TestStatsInWords(t *testing.T) {
	got := fmt.Sprint(balance.Stats{Ready: 2, Pending: 1, Banned: 1, Bans: 4, Panics: 7})
	if want := "3 endpoints, 2 ready, 1 banned; 4 bans, 7 calls sent to banned ones"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
}

// A service under two keys is two endpoints.
func TestBalancerDuplicates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := turrettest.NewMock[string, string](t)
		b := balance.New(discover.List[service](m, m, m), balance.Config{}, nil)
		defer b.Close()
		synctest.Wait()
		if s := b.Stats(); s.Ready != 3 || b.String() != "balance over "+s.String() {
			t.Errorf("%+v, %v, want three endpoints", s, b)
		}
	})
}

// Ten thousand endpoints come, serve, lose one half and go.
func TestBalancerManyEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 10_000
		changes := make(chan discover.Change[int, service], n)
		counts := make([]int, n)
		for i := range n {
			changes <- discover.Insert(i, turret.ServiceFunc(func(context.Context, string) (string, error) {
				counts[i]++
				return "", nil
			}))
		}
		b := balance.New(discover.Channel(changes), balance.Config{Load: balance.LoadPending}, nil)
		defer b.Close()
		synctest.Wait()
		call := func(calls int) {
			t.Helper()
			for range calls {
				if _, err := b.Call(t.Context(), ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		call(3 * n)
		used := 0
		for _, n := range counts {
			if n > 0 {
				used++
			}
		}
		if used < n*9/10 {
			t.Errorf("%d of %d endpoints were used", used, n)
		}
		for i := range n / 2 {
			changes <- discover.Remove[service](i)
		}
		synctest.Wait()
		clear(counts)
		call(n)
		if i := slices.IndexFunc(counts, func(n int) bool { return n > 0 }); i < n/2 {
			t.Errorf("endpoint %d was used, which has gone", i)
		}
	})
}

// When all of many endpoints but one are lost at once, the next call finds it at
// once.
func TestBalancerLosesMost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 2000
		lost := make(chan struct{})
		services := make([]service, n)
		for i := range services {
			services[i] = readiness{turret.ServiceFunc(repeated), func(ctx context.Context) error {
				select {
				case <-lost:
					<-ctx.Done()
					return ctx.Err()
				default:
					return nil
				}
			}}
		}
		services[n-7] = turret.ServiceFunc(func(context.Context, string) (string, error) { return "the one", nil })
		b := balance.New(discover.List(services...), balance.Config{Seed: 1}, nil) // which does not draw the one
		defer b.Close()
		synctest.Wait()
		if _, err := b.Call(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		close(lost)
		start := time.Now()
		if got, err := b.Call(t.Context(), ""); got != "the one" || err != nil || time.Since(start) != 0 {
			t.Errorf("%q, %v after %v", got, err, time.Since(start))
		}
		if s := b.Stats(); s.Ready != 1 || s.Pending != n-1 {
			t.Errorf("%+v, want one that is ready", s)
		}
	})
}

// A service whose Ready succeeds with a wait and fails without one neither keeps a
// goroutine busy nor delays a call beyond its context.
func TestBalancerOverALiar(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, balance.Config{})
		var asked atomic.Int64
		c.insert("a", readiness{turret.ServiceFunc(repeated), func(ctx context.Context) error {
			asked.Add(1)
			return liar(ctx)
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Call(ctx, ""); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("Call: %v", err)
		}
		if _, err := c.Call(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Call with an ended context: %v", err)
		}
		if err := c.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ready: %v", err)
		}
		if n := asked.Load(); n > 50_000 {
			t.Errorf("it was asked %d times in a second", n)
		}
	})
}

func liar(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return turret.NotReady(ctx.Err())
}

func TestBalancerBadInput(t *testing.T) {
	for want, f := range map[string]func(){
		"balance: New: source is nil, must be non-nil": func() { balance.New[int, string, string](nil, balance.Config{}, nil) },
		"balance: New: Choices is 1, must be between 2 and 10 (0 means 2)": func() {
			balance.New(discover.List[service](), balance.Config{Choices: 1}, nil)
		},
		"balance: NewClientConn: source is nil, must be non-nil": func() { _, _ = balance.NewClientConn[int](nil, balance.ClientConfig{}) },
		"balance: NewClientConn: Balance.Limit is -1, must be at least 0 (0 means none)": func() {
			_, _ = balance.NewClientConn(discover.List[string](), balance.ClientConfig{Balance: balance.Config{Limit: -1}})
		},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != want {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
}

func TestBalancerAllocations(t *testing.T) {
	b := balance.New(discover.List(turret.ServiceFunc(repeated), turret.ServiceFunc(repeated), turret.ServiceFunc(repeated)), balance.Config{Limit: 10}, nil)
	defer b.Close()
	for b.Stats().Ready < 3 {
		runtime.Gosched()
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Call(context.Background(), "") }); n > 0 {
		t.Errorf("a call allocates %v times, want 0", n)
	}
}
