package metrics_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/fakemeter"
	"github.com/turret-go/turret/metrics"
)

// describer is a Describer made of a function.
type describer func(d *turret.Description)

func (f describer) Describe(d *turret.Description) { f(d) }

// blocked does not answer until it is free.
type blocked struct{ free chan struct{} }

func (b *blocked) Describe(*turret.Description) { <-b.free }

// collect returns what is exported under names that begin with turret, without what
// every Meter exports.
func collect(t *testing.T, p *fakemeter.Provider) map[string]float64 {
	t.Helper()
	values, err := p.Collect()
	if err != nil {
		t.Error(err)
	}
	for key := range values {
		if strings.HasPrefix(key, "turret.metrics.left_out") && values[key] == 0 {
			delete(values, key)
		}
	}
	return values
}

func wantValues(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for key, v := range want {
		if g, ok := got[key]; !ok || g != v {
			t.Errorf("%s is %v (%v), want %v", key, g, ok, v)
		}
	}
	for key, v := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s is %v, want none", key, v)
		}
	}
}

func TestWatchExportsTheCatalogue(t *testing.T) {
	p := &fakemeter.Provider{}
	gate := func(kind string, refused uint64) describer {
		return func(d *turret.Description) {
			d.Is(kind, kind)
			d.Setting("max", "{call}", 5)
			d.Gauge("in_flight", "{call}", 3)
			d.Count("refused", "{call}", "LIMIT_FULL", refused)
			d.Total("wait", "s", "", 0.5)
		}
	}
	stack := describer(func(d *turret.Description) {
		d.Is("stack", "stack")
		d.Inside(gate("concurrency_limit", 7))
		d.Inside(gate("concurrency_limit", 2)) // has no name either: added up
		d.Inside(describer(func(d *turret.Description) { d.Named("named"); d.Forward(gate("rate_limit", 1)) }))
		d.Inside(describer(func(d *turret.Description) {
			d.Is("breaker", "")
			d.State("state", "half_open")
			d.Count("transitions", "{transition}", "open", 4)
		}))
		d.Inside(describer(func(d *turret.Description) {
			d.Is("retry_budget", "")
			d.Gauge("left", "{retry}", 8)
			d.Count("refused", "{retry}", "", 9)
		}))
		d.Inside(describer(func(d *turret.Description) { d.Is("endpoint", ""); d.Inside(gate("rate_limit", 100)) }))
		d.Inside(describer(func(d *turret.Description) { d.Is("shadow", ""); d.Inside(gate("rate_limit", 6)) }))
		d.Inside(describer(func(d *turret.Description) {
			d.Is("mine", "")
			d.Gauge("depth", "m", 2)
			d.Gauge("Not a name", "m", 2)
			d.Setting("size", "m", 2)
			d.State("state", "well")
		}))
	})
	stop := metrics.New(metrics.Config{MeterProvider: p}).Watch("front", stack)
	const limit = "{turret.gate.kind=concurrency_limit,turret.layer=concurrency_limit,turret.stack=front}"
	const rate = "{turret.gate.kind=rate_limit,turret.layer=named,turret.stack=front}"
	wantValues(t, collect(t, p), map[string]float64{
		"turret.gate.max" + limit: 10, "turret.gate.in_flight" + limit: 6, "turret.gate.wait" + limit: 1,
		"turret.gate.max" + rate: 5, "turret.gate.in_flight" + rate: 3, "turret.gate.wait" + rate: 0.5,
		"turret.refusals{turret.layer=concurrency_limit,turret.reason=LIMIT_FULL,turret.stack=front}": 9,
		"turret.refusals{turret.layer=named,turret.reason=LIMIT_FULL,turret.stack=front}":             1,
		"turret.breaker.state{turret.layer=breaker,turret.stack=front,turret.state=half_open}":        1,
		"turret.breaker.transitions{turret.layer=breaker,turret.stack=front,turret.to=open}":          4,
		"turret.retry.budget.left{turret.layer=retry_budget,turret.stack=front}":                      8,
		"turret.retry.budget.refused{turret.layer=retry_budget,turret.stack=front}":                   9,
		"turret.shadow.in_flight{turret.layer=shadow,turret.stack=front}":                             3,
		"turret.shadow.refused{turret.layer=shadow,turret.reason=LIMIT_FULL,turret.stack=front}":      6,
		"turret.shadow.wait{turret.layer=shadow,turret.stack=front}":                                  0.5,
		"turret.mine.depth{turret.layer=mine,turret.stack=front}":                                     2,
	})
	if got := p.Units["turret.mine.depth"]; got != "m" {
		t.Errorf("the unit of turret.mine.depth is %q", got)
	}
	stop()
	stop()
	wantValues(t, collect(t, p), nil)
}

// counting is a gate that stands in several places.
type counting struct{ entered uint64 }

func (c *counting) Describe(d *turret.Description) {
	d.Is("concurrency_limit", "")
	d.Count("entered", "{call}", "", c.entered)
}

// What stands in several places of a tree is exported once, what several Watches
// have by each of them.
func TestWatchCountsWhatIsSharedOnce(t *testing.T) {
	p := &fakemeter.Provider{}
	m := metrics.New(metrics.Config{MeterProvider: p})
	gate, other := &counting{3}, &counting{4}
	stack := describer(func(d *turret.Description) {
		d.Is("stack", "")
		d.Inside(describer(func(d *turret.Description) { d.Named("first"); d.Forward(gate) }))
		d.Inside(describer(func(d *turret.Description) { d.Is("for", ""); d.Inside(gate); d.Inside(other) }))
	})
	m.Watch("a", stack)
	m.Watch("b", gate)
	wantValues(t, collect(t, p), map[string]float64{
		"turret.gate.entered{turret.gate.kind=concurrency_limit,turret.layer=first,turret.stack=a}":             3,
		"turret.gate.entered{turret.gate.kind=concurrency_limit,turret.layer=concurrency_limit,turret.stack=a}": 4,
		"turret.gate.entered{turret.gate.kind=concurrency_limit,turret.layer=concurrency_limit,turret.stack=b}": 3,
	})
}

func TestWatchRefusesANameInUse(t *testing.T) {
	m := metrics.New(metrics.Config{MeterProvider: &fakemeter.Provider{}})
	nothing := describer(func(*turret.Description) {})
	stop := m.Watch("a", nothing)
	for _, f := range []func(){
		func() { m.Watch("a", nothing) },
		func() { m.Watch("", nothing) },
		func() { m.Watch("b", nil) },
	} {
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.HasPrefix(err.Error(), "metrics: Meter.Watch: ") {
					t.Errorf("panicked with %v", err)
				}
			}()
			f()
		}()
	}
	stop()
	m.Watch("a", nothing)()
}

// A Describer that panics, blocks or lists a million children does not keep the
// others from being exported.
func TestWatchSurvivesDescribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakemeter.Provider{}
		m := metrics.New(metrics.Config{MeterProvider: p})
		free, bad := make(chan struct{}), false
		fine := describer(func(d *turret.Description) { d.Is("timeout", ""); d.Count("timeouts", "{call}", "", 1) })
		m.Watch("bad", describer(func(d *turret.Description) {
			d.Is("stack", "")
			d.Inside(fine)
			if !bad {
				return
			}
			d.Inside(describer(func(*turret.Description) { panic("boom") }))
			d.Inside(&blocked{free})
			for i := range 1_000_000 {
				d.Inside(describer(func(d *turret.Description) {
					d.Is("timeout", "")
					d.Named(fmt.Sprint(i))
					d.Count("timeouts", "{call}", "", 1)
					d.Count("refused", "{call}", "A", 1)
					d.Count("refused", "{call}", "B", 1)
				}))
			}
		}))
		bad = true
		values := collect(t, p)
		if values["turret.timeouts{turret.layer=timeout,turret.stack=bad}"] != 1 {
			t.Error("what is well is missing")
		}
		left := values["turret.metrics.left_out{turret.stack=bad}"]
		if len(values) > 2001 || left == 0 {
			t.Errorf("%d series, and %v left out", len(values), left)
		}
		close(free)
		synctest.Wait()
	})
}

func TestMethodsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		config metrics.Config
		want   int
	}{
		"by their number": {metrics.Config{MaxMethods: 20}, 21},
		"by default":      {metrics.Config{}, 201},
		"by being known":  {metrics.Config{Methods: func(m string) bool { return m == "/s/7" }}, 2},
		"by both":         {metrics.Config{Methods: func(m string) bool { return m < "/s/5" }, MaxMethods: 3}, 4},
		"by their length": {metrics.Config{MaxMethods: 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := &fakemeter.Provider{}
			c.config.MeterProvider = p
			m := metrics.New(c.config)
			for i := range 10_000 {
				s := m.Series(metrics.Call{Method: fmt.Sprintf("/s/%d", i), Server: true})
				s.Begin()
				s.End(t.Context(), time.Millisecond, "OK")
			}
			long := m.Series(metrics.Call{Method: "/s/" + strings.Repeat("x", 2000), Server: true})
			long.Begin()
			if got := p.Series(); got != c.want {
				t.Errorf("%d series, want %d", got, c.want)
			}
			if got := p.Durations("rpc.server.call.duration"); got != 10_000 {
				t.Errorf("%d durations", got)
			}
			values := collect(t, p)
			if got := values["turret.rpc.active{rpc.method=_OTHER,rpc.system.name=grpc,turret.side=server}"]; got != 1 {
				t.Errorf("%v active, want 1", got)
			}
		})
	}
}

// A client that dials without end has series without targets in the end, and the
// meter does not grow.
func TestTargetsAreBounded(t *testing.T) {
	p := &fakemeter.Provider{}
	m := metrics.New(metrics.Config{MeterProvider: p, MaxMethods: 5})
	for i := range 3000 {
		for j := range 5 {
			s := m.Series(metrics.Call{Method: fmt.Sprint("/s/", j), Target: fmt.Sprintf("dns:///h%d:443", i), Attempt: j%2 == 0})
			s.Begin()
			s.End(t.Context(), time.Millisecond, "OK")
		}
	}
	if got := p.Series(); got > 8*3*6 {
		t.Errorf("%d series", got)
	}
	if got := p.Durations("rpc.client.call.duration") + p.Durations("turret.client.attempt.duration"); got != 15_000 {
		t.Errorf("%d durations", got)
	}
}

func TestSeriesAllocateNothing(t *testing.T) {
	m := metrics.New(metrics.Config{MeterProvider: &fakemeter.Provider{}})
	call := metrics.Call{Method: "/s/m", Target: "dns:///a:1"}
	ctx := t.Context()
	for _, code := range []string{"OK", "NOT_FOUND"} {
		if got := testing.AllocsPerRun(1000, func() {
			s := m.Series(call)
			s.Begin()
			s.End(ctx, time.Millisecond, code)
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", code, got)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	for field, c := range map[string]metrics.Config{
		"MaxMethods": {MaxMethods: -1},
		"Buckets":    {Buckets: []float64{2, 1}},
	} {
		err, ok := errors.AsType[*turret.FieldError](c.Validate())
		if !ok || err.Field != field || err.Package != "metrics" {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (metrics.Config{Buckets: []float64{0.5, 1}}).Validate(); err != nil {
		t.Error(err)
	}
}
