package balance_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// longBans bans the first endpoint that fails for much longer than a test runs.
var longBans = balance.Config{Failures: balance.Failures{BanFor: 24 * time.Hour, MaxBanFor: 24 * time.Hour}}

// TestBansSurviveConfigChanges changes each field of the configuration: a banned
// endpoint stays banned, as a control plane changes all clients at once.
func TestBansSurviveConfigChanges(t *testing.T) {
	for name, change := range map[string]func(*balance.Config){
		"choices":      func(c *balance.Config) { c.Choices = 3 },
		"limit":        func(c *balance.Config) { c.Limit = 10 },
		"max banned":   func(c *balance.Config) { c.MaxBanned = 0.9 },
		"on full":      func(c *balance.Config) { c.OnFull = balance.Use },
		"on banned":    func(c *balance.Config) { c.OnBanned = balance.Refuse },
		"fail over":    func(c *balance.Config) { c.OnBanned = balance.FailOver },
		"slow start":   func(c *balance.Config) { c.SlowStart = time.Minute },
		"decay":        func(c *balance.Config) { c.Decay = time.Second },
		"load":         func(c *balance.Config) { c.Load = balance.LoadPending },
		"penalty":      func(c *balance.Config) { c.Penalty = time.Second },
		"seed":         func(c *balance.Config) { c.Seed = 7 },
		"failures":     func(c *balance.Config) { c.Failures.Consecutive = 9 },
		"window":       func(c *balance.Config) { c.Failures.Window = time.Minute },
		"outliers":     func(c *balance.Config) { c.Outliers.Consecutive = 9 },
		"no bans":      func(c *balance.Config) { c.Failures.Consecutive, c.Failures.Ratio = -1, -1 },
		"ban duration": func(c *balance.Config) { c.Failures.BanFor = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				endpoints := fakeconn.Endpoints(4)
				f := newFleet(t, longBans, endpoints)
				f.serve(500, sick(down))
				inside := f.pick()
				change(&f.config)
				f.resolve(endpoints)
				if n := f.serve(500, well)[first]; n != 0 {
					t.Errorf("%d calls to a banned endpoint after the change", n)
				}
				inside.done(answered) // began before the change
			})
		})
	}
}

// TestLimitChangesUnderCalls has calls that entered before there was a limit, and
// with another one: each gives back what it took.
func TestLimitChangesUnderCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoints := fakeconn.Endpoints(1)
		f := newFleet(t, balance.Config{}, endpoints)
		before := []picked{f.pick(), f.pick()}
		limit := func(n int) {
			f.config.Limit = n
			f.resolve(endpoints)
		}
		limit(1)
		inside := f.pick()
		if _, err := f.tryPick(t.Context()); err == nil {
			t.Error("a second call under a limit of 1")
		}
		limit(0)
		unlimited := f.pick()
		limit(1)
		for _, p := range append(before, inside, unlimited) {
			p.done(answered)
		}
		f.pick()
		if _, err := f.tryPick(t.Context()); err == nil {
			t.Error("a second call under a limit of 1, after calls that were not counted have ended")
		}
	})
}

// TestEndpointComesBack has a banned endpoint that the resolver leaves out for a
// while. Its past stays for a minute.
func TestEndpointComesBack(t *testing.T) {
	for _, tt := range []struct {
		away   time.Duration
		banned bool
	}{{time.Second, true}, {59 * time.Second, true}, {61 * time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			endpoints := fakeconn.Endpoints(4)
			f := newFleet(t, longBans, endpoints)
			f.serve(500, sick(down))
			f.resolve(endpoints[1:])
			time.Sleep(tt.away)
			f.resolve(endpoints)
			if n := f.serve(1000, well)[first]; (n == 0) != tt.banned {
				t.Errorf("%d calls to an endpoint that was banned and away for %v", n, tt.away)
			}
		})
	}
}

// TestBansSurviveShortLists has a resolver that finds fewer endpoints for a moment, or
// none: those that come back are as banned as they were.
func TestBansSurviveShortLists(t *testing.T) {
	for name, lists := range map[string][][]int{
		"none":             {{}},
		"none, twice":      {{}, {}},
		"one":              {{9}},
		"one, then none":   {{9}, {}},
		"none, then one":   {{}, {9}},
		"others":           {{8, 9}, {6, 7}, {4, 5}, {2, 3}},
		"in another order": {{9, 8, 7, 6, 5, 4, 3, 2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				endpoints := fakeconn.Endpoints(10)
				f := newFleet(t, longBans, endpoints)
				f.serve(500, sick(down))
				for _, list := range lists {
					var short []resolver.Endpoint
					for _, i := range list {
						short = append(short, endpoints[i])
					}
					f.resolve(short)
					time.Sleep(time.Second)
				}
				f.resolve(endpoints)
				if n := f.serve(1000, well)[first]; n != 0 {
					t.Errorf("%d calls to an endpoint that was banned", n)
				}
			})
		})
	}
}

// TestDepartedAreBounded has 1,000 endpoints leave at once, and again and again:
// at most as many are remembered as there were endpoints at once.
func TestDepartedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := fakeconn.Endpoints(1000)
		f := newFleet(t, longBans, all[:4])
		f.serve(500, sick(down))
		// Three other endpoints at a time, within a minute.
		for at := 10; at+3 < len(all); at += 3 {
			f.resolve(all[at : at+3])
			time.Sleep(10 * time.Millisecond)
		}
		f.resolve(all[:4])
		if n := f.serve(1000, well)[first]; n == 0 {
			t.Error("an endpoint is remembered, though many others have left after it")
		}
	})
}

// TestStalePicker has a picker that is used for the first time after a newer one:
// what was ready long ago must not count as ready now. The bound on bans shows
// it: with one endpoint of four ready, none may be banned.
func TestStalePicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(4))
		old, _ := f.conn.State()
		conns := map[string]*fakeconn.SubConn{}
		for len(conns) < 4 {
			p := f.pick()
			conns[p.address] = p.conn
			p.done(answered)
		}
		for address, c := range conns {
			if address != first {
				c.Become(connectivity.TransientFailure)
			}
		}
		f.conn.Settle()
		f.pick().done(answered) // the newest picker has its snapshot
		r, err := old.Picker.Pick(balancer.PickInfo{FullMethodName: "/test.Test/Call", Ctx: t.Context()})
		if err == nil {
			r.Done(answered)
		}
		bans := 0
		defer balance.Watch(func(tr balance.Transition) {
			if tr.Banned {
				bans++
			}
		})()
		for range 20 {
			if p, err := f.tryPick(t.Context()); err == nil {
				p.done(down)
			}
		}
		if bans != 0 {
			t.Errorf("%d bans of the only endpoint that is ready", bans)
		}
	})
}

// TestParentWithoutConfig is a parent policy that gives its children no
// configuration: they use the defaults.
func TestParentWithoutConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoints := fakeconn.Endpoints(2)
		f := newFleet(t, balance.Config{Limit: 1}, endpoints)
		err := f.policy.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{Endpoints: endpoints}})
		if err != nil {
			t.Fatalf("without a configuration: %v", err)
		}
		f.conn.Settle()
		for range 10 {
			f.pick() // there is no limit
		}
	})
}
