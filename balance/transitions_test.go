package balance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/fakeconn"
)

// watch collects transitions until the test ends. Those of tests that run beside
// it have other endpoints or targets; these tests do not run in parallel.
func watch(t *testing.T) *[]balance.Transition {
	t.Helper()
	var all []balance.Transition
	t.Cleanup(balance.Watch(func(tr balance.Transition) { all = append(all, tr) }))
	return &all
}

func TestTransitionsHaveTheirEvidence(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config balance.Config
		play   func(f *fleet)
		want   balance.Transition
		why    string
	}{
		{
			"row", longBans, func(f *fleet) { f.serve(500, sick(down)) },
			balance.Transition{Cause: "failures", Row: 3},
			"3 failures in a row",
		},
		{
			"share",
			balance.Config{Failures: balance.Failures{Consecutive: -1, MinCalls: 2, BanFor: time.Hour, MaxBanFor: time.Hour}},
			func(f *fleet) { f.serve(500, sick(down)) },
			balance.Transition{Cause: "failures", Failed: 2, Calls: 2},
			"2 of 2 calls failed",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				all := watch(t)
				f := newFleet(t, tt.config, fakeconn.Endpoints(4))
				tt.play(f)
				if len(*all) != 1 {
					t.Fatalf("%d transitions, want one ban: %+v", len(*all), *all)
				}
				got := (*all)[0]
				if got.BanFor <= 0 || got.Typical <= 0 || got.When.IsZero() {
					t.Errorf("the ban is %+v, want a duration, a typical latency and a time", got)
				}
				tt.want.Banned, tt.want.Endpoint, tt.want.Target = true, first, ":///"
				tt.want.BanFor, tt.want.Typical, tt.want.When = got.BanFor, got.Typical, got.When
				if got != tt.want {
					t.Errorf("the ban is %+v, want %+v", got, tt.want)
				}
				if got.Why() != tt.why {
					t.Errorf("why: %s, want %s", got.Why(), tt.why)
				}
			})
		})
	}
}

func TestTransitionsOfABanAndItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := watch(t)
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(4))
		f.serve(600, sick(down)) // banned, and probes that fail
		bans := slices.Clone(*all)
		f.serve(1000, well)
		if len(bans) < 2 || bans[0].Probe || !bans[1].Probe || !bans[1].Banned || bans[1].BanFor <= bans[0].BanFor {
			t.Fatalf("bans %+v, want one by failures and then one longer by a probe", bans)
		}
		if bans[1].Row != 0 || bans[1].Why() != "the probe failed" {
			t.Errorf("the second ban is %+v, %q, want the probe as its evidence", bans[1], bans[1].Why())
		}
		last := (*all)[len(*all)-1]
		if len(*all) != len(bans)+1 || last.Banned || last.Endpoint != first || last.Why() != "the probe succeeded" {
			t.Errorf("then %+v, want one return", (*all)[len(bans):])
		}
	})
}

func TestWatchStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		stop := balance.Watch(func(balance.Transition) { calls++ })
		stop()
		stop()
		newFleet(t, longBans, fakeconn.Endpoints(4)).serve(200, sick(down))
		if calls != 0 {
			t.Errorf("%d transitions after stop", calls)
		}
	})
}

func TestLogTransitions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		defer balance.LogTransitions(slog.New(slog.NewJSONHandler(&out, nil)))()
		f := newFleet(t, balance.Config{Failures: balance.Failures{BanFor: time.Second, MaxBanFor: time.Second}}, fakeconn.Endpoints(4))
		f.serve(500, sick(down))
		f.serve(1000, well)
		var lines []struct {
			Level, Msg string
			Endpoint   struct {
				Target, Address, Cause, Why string
				Row                         int
			}
		}
		for d := json.NewDecoder(&out); d.More(); {
			var line struct {
				Level, Msg string
				Endpoint   struct {
					Target, Address, Cause, Why string
					Row                         int
				}
			}
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		if len(lines) != 3 || lines[0].Level != "WARN" || lines[1].Level != "WARN" || lines[2].Level != "INFO" {
			t.Fatalf("%d lines, want a ban, a probe that failed, and the end: %+v", len(lines), lines)
		}
		if e := lines[0].Endpoint; e.Address != first || e.Row != 3 || e.Why != "3 failures in a row" || e.Target == "" {
			t.Errorf("the warning says %+v", e)
		}
	})
}

func TestChannelsAreDescribed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		endpoints := fakeconn.Endpoints(4)
		f := newFleet(t, longBans, endpoints)
		var conn *fakeconn.SubConn
		for conn == nil {
			p := f.pick()
			if p.address == "e00002" {
				conn = p.conn
			}
			p.done(answered)
		}
		f.serve(500, sick(down))
		conn.Refuse()
		f.conn.Settle()
		synctest.Wait() // it connects again by itself
		f.conn.Settle()
		f.pick() // in flight
		node := channel(t, 2)
		if node.Kind != "p2c" || node.Name != ":///" || len(node.Children) != 2 || node.More != 2 {
			t.Fatalf("described as %+v", node)
		}
		for name, want := range map[string]float64{
			"endpoints_banned": 1, "endpoints_unreachable": 1, "endpoints_in_use": 2, "endpoints_on_trial": 0, "bans": 1,
		} {
			if got := figure(node, name); got.Value != want {
				t.Errorf("%s is %v, want %v", name, got.Value, want)
			}
		}
		banned := node.Children[0]
		if banned.Name != first || figure(banned, "state").Text != "banned" || figure(banned, "why").Text != "3 failures in a row" ||
			figure(banned, "failures").Value != 3 || figure(banned, "calls").Value < 3 {
			t.Errorf("first is %+v, want the endpoint that is banned", banned)
		}
		if second := node.Children[1]; second.Name != "e00002" || figure(second, "state").Text != "unreachable" {
			t.Errorf("second is %+v, want the endpoint that cannot be reached", second)
		}
		f.policy.Close()
		for target := range balance.Channels() {
			t.Errorf("%s is listed after its policy was closed", target)
		}
	})
}

// channel describes the only channel that there is.
func channel(t *testing.T, most int) turret.Node {
	t.Helper()
	for _, d := range balance.Channels() {
		return turret.Describe(d, most)
	}
	t.Fatal("no channel is listed")
	return turret.Node{}
}

func figure(n turret.Node, name string) turret.Figure {
	i := slices.IndexFunc(n.Figures, func(f turret.Figure) bool { return f.Name == name })
	if i < 0 {
		return turret.Figure{Text: "there is no " + name}
	}
	return n.Figures[i]
}

// TestDescribingManyEndpoints holds what it costs to look at 10,000 endpoints, and
// that picks go on meanwhile.
func TestDescribingManyEndpoints(t *testing.T) {
	all := fakeconn.Endpoints(10_000)
	_, policy, err := fakeconn.StartInBulk(balance.Name, `{}`, all)
	if err != nil {
		t.Fatal(err)
	}
	defer policy.Close()
	d := policy.(turret.Describer)
	turret.Describe(d, 50)
	if n := testing.AllocsPerRun(5, func() { turret.Describe(d, 50) }); n > 400+50*5 {
		t.Errorf("a description allocates %v times", n)
	}
	if node := turret.Describe(d, 50); len(node.Children) != 50 || node.More != 9950 {
		t.Errorf("%d children and %d more, want 50 and 9950", len(node.Children), node.More)
	}
}

// TestDescribeBalancer has one endpoint.
func TestDescribeBalancer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		services := make(chan discover.Change[string, turret.Service[int, int]], 1)
		services <- discover.Insert("a", turret.ServiceFunc(func(_ context.Context, n int) (int, error) { return n, nil }))
		b := balance.New(discover.Channel(services), balance.Config{}, nil)
		defer b.Close()
		if _, err := b.Call(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		node := turret.Describe(b, 0)
		if node.Kind != "balancer" || len(node.Children) != 1 || node.Children[0].Name != "a" || figure(node.Children[0], "calls").Value != 1 {
			t.Errorf("described as %+v", node)
		}
	})
}
