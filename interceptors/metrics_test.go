package interceptors_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	draining "github.com/turret-go/turret/drain"
	"github.com/turret-go/turret/fault"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/fakemeter"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/metrics"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// eventCounts counts the events of an Observe layer.
type eventCounts struct {
	mu   sync.Mutex
	seen map[string]float64 // by kind, layer and reason
	all  map[interceptors.EventKind]float64
}

func (c *eventCounts) observe() interceptors.Layer {
	c.seen, c.all = map[string]float64{}, map[interceptors.EventKind]float64{}
	return interceptors.Observe(func(_ context.Context, e interceptors.Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen[fmt.Sprint(e.Kind, " ", e.Reason)]++
		c.all[e.Kind]++
	})
}

// sums adds up the values of each instrument, apart by turret.stack and
// turret.reason.
func sums(t *testing.T, p *fakemeter.Provider) map[string]float64 {
	t.Helper()
	values, err := p.Collect()
	if err != nil {
		t.Error(err)
	}
	added := map[string]float64{}
	for key, v := range values {
		name, attributes, _ := strings.Cut(strings.TrimSuffix(key, "}"), "{")
		stack, reason := "", ""
		for a := range strings.SplitSeq(attributes, ",") {
			if s, ok := strings.CutPrefix(a, "turret.stack="); ok {
				stack = s + " "
			}
			if r, ok := strings.CutPrefix(a, "turret.reason="); ok {
				reason = " " + r
			}
		}
		added[stack+name+reason] += v
	}
	return added
}

// At rest the counters agree: metrics, Stats, events, and what a client and a
// server saw, for every kind of RPC.
func TestCountersAddUp(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var client, server eventCounts
			p := &fakemeter.Provider{}
			m := metrics.New(metrics.Config{MeterProvider: p})
			gate := limit.NewConcurrency(6, limit.Queue{Max: 3, Timeout: 300 * time.Millisecond})
			serverGate := limit.NewConcurrency(4, limit.Queue{})
			clientStack := interceptors.New(
				interceptors.Metrics(m), client.observe(), interceptors.Retry(retry.Config{MaxAttempts: 2, Budget: always, Backoff: fixed(time.Second)}),
				interceptors.Metrics(m), interceptors.Timeout(2*time.Second), interceptors.Admit(gate),
			)
			serverStack := interceptors.New(interceptors.Metrics(m), interceptors.Recover(silently), server.observe(), interceptors.Admit(serverGate))
			m.Watch("client", clientStack)
			m.Watch("server", serverStack)
			w := newWorld(t, worldOf{client: clientStack, server: serverStack})
			plans := []*echov1.Plan{nil, failsWith(codes.NotFound), failsWith(codes.Unavailable), durationPlan(5 * time.Second), durationPlan(100 * time.Millisecond)}
			const rounds = 8
			var running []*rpc
			for range rounds {
				for _, plan := range plans {
					running = append(running, w.start(t.Context(), k, plan))
				}
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			gate.SetMax(1)
			for range rounds { // one enters, three wait in vain, four find the line full
				running = append(running, w.start(t.Context(), k, durationPlan(time.Second)))
			}
			for _, r := range running {
				<-r.done
			}
			if err := w.settle(); err != nil {
				t.Fatal(err)
			}
			got := sums(t, p)
			stats, serverStats := gate.Stats(), serverGate.Stats()
			made := float64(len(running))
			same := func(what string, values ...float64) {
				t.Helper()
				if slices.Min(values) != slices.Max(values) {
					t.Errorf("%s: %v", what, values)
				}
			}
			same("RPCs", made, client.all[interceptors.EventEnd], float64(p.Durations("rpc.client.call.duration")))
			attempts := made + client.all[interceptors.EventRetry]
			same("attempts", attempts, float64(p.Durations("turret.client.attempt.duration")))
			same("attempts in the limit", attempts, float64(stats.Entered+stats.Full+stats.QueueFull+stats.QueueTimeout+stats.Cancelled))
			same("retries", client.all[interceptors.EventRetry], total(got, "client turret.retries"))
			same("timeouts", client.all[interceptors.EventTimeout], got["client turret.timeouts"])
			for reason, n := range map[string]uint64{"LIMIT_FULL": stats.Full, "QUEUE_FULL": stats.QueueFull, "QUEUE_TIMEOUT": stats.QueueTimeout} {
				same(reason, float64(n), client.seen["refused "+reason], got["client turret.refusals "+reason])
			}
			same("sent", float64(stats.Entered), got["client turret.gate.entered"])
			same("served", float64(serverStats.Entered+serverStats.Full), server.all[interceptors.EventEnd], float64(p.Durations("rpc.server.call.duration")))
			same("refused by the server", float64(serverStats.Full), server.seen["refused LIMIT_FULL"], got["server turret.refusals LIMIT_FULL"])
			same("under way", 0, got["turret.rpc.active"], got["client turret.gate.in_flight"], got["server turret.gate.in_flight"], got["client turret.gate.waiting"])
			same("time in line", stats.Waited.Seconds(), got["client turret.gate.wait"])
			if stats.QueueFull == 0 || stats.QueueTimeout == 0 || serverStats.Full == 0 || client.all[interceptors.EventTimeout] == 0 || client.all[interceptors.EventRetry] == 0 {
				t.Errorf("something did not happen: %+v, %+v, %v", stats, serverStats, client.seen)
			}
		})
	}
}

// total adds up the values whose keys begin with prefix.
func total(values map[string]float64, prefix string) float64 {
	sum := 0.0
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(key, prefix) {
			sum += values[key]
		}
	}
	return sum
}

// A panic or Goexit that passes is an end with INTERNAL, and nothing stays active.
func TestMetricsOfAPanic(t *testing.T) {
	p := &fakemeter.Provider{}
	m := metrics.New(metrics.Config{MeterProvider: p})
	stack := interceptors.New(interceptors.Recover(silently), interceptors.Metrics(m), explodes)
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	if err := invoke(t.Context(), stack, nil, invoker); err == nil {
		t.Error("no error")
	}
	if got := p.Durations("rpc.client.call.duration"); got != 1 {
		t.Errorf("%d durations", got)
	}
	if got := sums(t, p)["turret.rpc.active"]; got != 0 {
		t.Errorf("%v active", got)
	}
	if got := turret.Describe(stack, 0).Children[1].Kind; got != "metrics" {
		t.Errorf("described as %s", got)
	}
}

// What a Drainer and an injector say has instruments.
func TestMetricsOfDrainAndFaults(t *testing.T) {
	p := &fakemeter.Provider{}
	m := metrics.New(metrics.Config{MeterProvider: p})
	injector := fault.New()
	stack := interceptors.New(draining.New(draining.Config{}).Layer(), interceptors.Inject(injector))
	defer m.Watch("server", stack)()
	if err := injector.Set(fault.Rule{ErrShare: 1}, time.Minute); err != nil {
		t.Fatal(err)
	}
	handler := func(context.Context, any) (any, error) { return new(response), nil }
	if _, err := stack.UnaryServer()(t.Context(), new(request), &grpc.UnaryServerInfo{FullMethod: "/a/b"}, handler); err == nil {
		t.Error("no fault")
	}
	values, err := p.Collect()
	if err != nil {
		t.Error(err)
	}
	for _, key := range []string{
		"turret.drain.phase{turret.layer=drain,turret.stack=server,turret.state=serving}",
		"turret.faults{turret.layer=fault,turret.reason=FAULT_INJECTED,turret.stack=server}",
	} {
		if values[key] != 1 {
			t.Errorf("%s is %v, want 1: %v", key, values[key], values)
		}
	}
	if v, ok := values["turret.faults{turret.layer=fault,turret.reason=DELAYED,turret.stack=server}"]; !ok || v != 0 {
		t.Errorf("delays: %v, %v", v, ok)
	}
}

// Registered is asked about methods that a server without it would not serve.
func TestRegistered(t *testing.T) {
	calls := 0
	server := grpc.NewServer()
	echov1.RegisterEchoServiceServer(server, echov1.UnimplementedEchoServiceServer{})
	registered := interceptors.Registered(func() *grpc.Server { calls++; return server })
	for method, want := range map[string]bool{
		echov1.EchoService_Unary_FullMethodName: true, echov1.EchoService_BidiStream_FullMethodName: true, "/a/b": false, "": false,
	} {
		if got := registered(method); got != want {
			t.Errorf("%s: %v", method, got)
		}
	}
	if calls != 1 {
		t.Errorf("the server was asked %d times", calls)
	}
}
