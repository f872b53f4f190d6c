package balance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/fakeconn"
)

// A fleet is a policy whose RPCs the test plays.
type fleet struct {
	*testing.T

	conn   *fakeconn.ClientConn
	policy balancer.Balancer
	config balance.Config
}

func newFleet(t *testing.T, c balance.Config, endpoints []resolver.Endpoint) *fleet {
	t.Helper()
	if c.Seed == 0 {
		c.Seed = 1
	}
	text, _ := json.Marshal(c)
	conn, policy, err := fakeconn.Start(balance.Name, string(text), endpoints)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(policy.Close)
	return &fleet{t, conn, policy, c}
}

// resolve is a resolver update.
func (f *fleet) resolve(endpoints []resolver.Endpoint) {
	f.Helper()
	text, _ := json.Marshal(f.config)
	parsed, err := parser(f.T).ParseConfig(text)
	if err != nil {
		f.Fatal(err)
	}
	_ = f.policy.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: resolver.State{Endpoints: endpoints}, BalancerConfig: parsed,
	})
	f.conn.Settle()
}

type picked struct {
	address string
	conn    *fakeconn.SubConn
	done    func(balancer.DoneInfo)
}

func (f *fleet) tryPick(ctx context.Context) (picked, error) {
	state, _ := f.conn.State()
	r, err := state.Picker.Pick(balancer.PickInfo{FullMethodName: "/test.Test/Call", Ctx: ctx})
	if err != nil {
		return picked{}, err
	}
	c := r.SubConn.(*fakeconn.SubConn)
	return picked{c.Address, c, r.Done}, nil
}

func (f *fleet) pick() picked {
	f.Helper()
	p, err := f.tryPick(f.Context())
	if err != nil {
		f.Fatalf("Pick: %v", err)
	}
	return p
}

var (
	answered  = balancer.DoneInfo{BytesSent: true, BytesReceived: true}
	down      = balancer.DoneInfo{Err: status.Error(codes.Unavailable, "down"), BytesSent: true, BytesReceived: true}
	unused    = balancer.DoneInfo{}
	cutStream = balancer.DoneInfo{BytesSent: true} // how gRPC reports a failure that SendMsg noticed
)

func failed(code codes.Code) balancer.DoneInfo {
	return balancer.DoneInfo{Err: status.Error(code, ""), BytesSent: true, BytesReceived: true}
}

// serve makes n calls, 10 ms apart; each is answered as how says, after 1 ms.
// It returns how often each endpoint was picked.
func (f *fleet) serve(n int, how func(address string) balancer.DoneInfo) map[string]int {
	f.Helper()
	counts := map[string]int{}
	for range n {
		p := f.pick()
		counts[p.address]++
		time.Sleep(time.Millisecond)
		p.done(how(p.address))
		time.Sleep(9 * time.Millisecond)
	}
	return counts
}

func well(string) balancer.DoneInfo { return answered }

// sick fails the calls of the first endpoint.
func sick(d balancer.DoneInfo) func(string) balancer.DoneInfo {
	return func(a string) balancer.DoneInfo {
		if a == first {
			return d
		}
		return answered
	}
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

const first = "e00000"

// Ties favour no index: idle endpoints that are alike have even shares.
func TestTies(t *testing.T) {
	for _, c := range []balance.Config{{}, {Load: balance.LoadPending}, {Choices: 3}} {
		bubble(t, func(t *testing.T) {
			f := newFleet(t, c, fakeconn.Endpoints(10))
			const calls = 20_000
			for a, n := range f.serve(calls, well) {
				if n < 0.9*calls/10 || n > 1.1*calls/10 {
					t.Errorf("%+v: %s had %d of %d calls", c, a, n, calls)
				}
			}
		})
	}
}

// The same seed makes the same picks, whatever the order in which the resolver
// names the endpoints.
func TestDeterministic(t *testing.T) {
	var runs [2]string
	for i := range runs {
		bubble(t, func(t *testing.T) {
			endpoints := fakeconn.Endpoints(10)
			rand.New(rand.NewPCG(1, uint64(i))).Shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
			f := newFleet(t, balance.Config{Seed: 7}, endpoints)
			for range 200 {
				p := f.pick()
				runs[i] += p.address
				time.Sleep(time.Millisecond)
				p.done(answered)
			}
		})
	}
	if runs[0] != runs[1] {
		t.Errorf("two runs with one seed differ:\n%s\n%s", runs[0], runs[1])
	}
}

// A row of failures bans, probes find out, a success ends it; with the answers
// that are none of the endpoint's fault nothing of it happens.
func TestFailuresBan(t *testing.T) {
	hollow, err := status.New(codes.Unavailable, "").WithDetails(&errdetails.RetryInfo{})
	if err != nil {
		t.Fatal(err)
	}
	bans := map[string]balancer.DoneInfo{
		"UNAVAILABLE":       down,
		"DEADLINE_EXCEEDED": failed(codes.DeadlineExceeded),
		"a cut stream":      cutStream,
		"no stream at all":  {Err: status.Error(codes.Unavailable, "connection lost")},
		"no delay":          {Err: hollow.Err(), BytesSent: true, BytesReceived: true}, // as interceptors.Classify has it
	}
	for name, d := range bans {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t, balance.Config{}, fakeconn.Endpoints(10))
				if n := f.serve(5000, sick(d))[first]; n < 3 || n > 9 {
					t.Errorf("%d of 5000 calls in 50 s went to it, want 3 and a few probes", n)
				}
				f.serve(3500, well) // until the probe that succeeds
				if n := f.serve(1000, well)[first]; n < 70 || n > 130 {
					t.Errorf("%d of 1000 calls after it has healed, want 100", n)
				}
			})
		})
	}
	harmless := map[string]balancer.DoneInfo{
		"NOT_FOUND":         failed(codes.NotFound),
		"PERMISSION_DENIED": failed(codes.PermissionDenied),
		"unused":            unused,
	}
	for name, d := range harmless {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t, balance.Config{}, fakeconn.Endpoints(10))
				if n := f.serve(1000, sick(d))[first]; n < 60 {
					t.Errorf("%d of 1000 calls, want 100", n)
				}
			})
		})
	}
}

// What our own caller cancels is not the endpoint's fault; what it calls
// cancelled by itself is.
func TestCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(2))
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		count := func(ctx context.Context) (n int) {
			for range 1000 {
				p, err := f.tryPick(ctx)
				if err != nil {
					t.Fatal(err)
				}
				d := answered
				if p.address == first {
					n++
					d = failed(codes.Canceled)
				}
				time.Sleep(time.Millisecond)
				p.done(d)
			}
			return n
		}
		if n := count(cancelled); n < 400 {
			t.Errorf("cancelled by the caller: %d of 1000 calls, want half", n)
		}
		if n := count(t.Context()); n > 50 {
			t.Errorf("cancelled by the endpoint: %d of 1000 calls, want next to none", n)
		}
	})
}

// An endpoint that asks to be left alone is.
func TestPushback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(3))
		f.serve(100, well)
		for {
			if p := f.pick(); p.address == first {
				p.done(balancer.DoneInfo{
					Err: status.Error(codes.ResourceExhausted, "full"), BytesSent: true, BytesReceived: true,
					Trailer: metadata.Pairs("grpc-retry-pushback-ms", "60000"),
				})
				break
			} else {
				p.done(answered)
			}
		}
		if n := f.serve(100, well)[first]; n != 0 {
			t.Errorf("%d of 100 calls in the next second", n)
		}
	})
}

// No more than MaxBanned are banned at a time, and a call is sent somewhere when
// all are.
func TestAllFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(10))
		counts := f.serve(1000, func(string) balancer.DoneInfo { return down })
		few := 0
		for _, n := range counts {
			if n < 20 {
				few++
			}
		}
		if len(counts) != 10 || few > 5 {
			t.Errorf("%d of 10 endpoints had next to no calls, want at most 5: %v", few, counts)
		}
	})
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{MaxBanned: 1, OnBanned: balance.Refuse}, fakeconn.Endpoints(3))
		for range 9 {
			if p, err := f.tryPick(t.Context()); err == nil {
				p.done(down)
			}
		}
		_, err := f.tryPick(t.Context())
		wantRefusal(t, err, codes.Unavailable, turret.ReasonCircuitOpen, balance.ErrBanned)
	})
}

func wantRefusal(t *testing.T, err error, code codes.Code, reason string, sentinel error) {
	t.Helper()
	r, ok := errors.AsType[*turret.Refusal](err)
	if !ok || r.Reason != reason || !errors.Is(err, sentinel) || !errors.Is(err, turret.ErrNotReady) {
		t.Fatalf("error %v, want a refusal %s", err, reason)
	}
	if _, isStatus := err.(interface{ GRPCStatus() *status.Status }); !isStatus || status.Code(err) != code {
		t.Fatalf("code %v, want %v", status.Code(err), code)
	}
}

func TestLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{Limit: 2}, fakeconn.Endpoints(3))
		inside := map[string]int{}
		var all []picked
		for range 6 {
			p := f.pick()
			inside[p.address]++
			all = append(all, p)
		}
		if len(inside) != 3 || inside[first] != 2 {
			t.Fatalf("in flight: %v, want 2 each", inside)
		}
		_, err := f.tryPick(t.Context())
		wantRefusal(t, err, codes.ResourceExhausted, turret.ReasonLimitFull, balance.ErrFull)
		all[3].done(answered)
		if p := f.pick(); p.address != all[3].address {
			t.Errorf("room at %s, but picked %s", all[3].address, p.address)
		}
	})
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{Limit: 1, OnFull: balance.Use}, fakeconn.Endpoints(2))
		for range 4 {
			f.pick()
		}
	})
}

// A pick that the child or the connection refuses gives everything back.
func TestUnusedPicks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{Limit: 1}, fakeconn.Endpoints(2))
		for range 100 {
			f.pick().done(unused)
		}
		f.pick()
		f.pick()
	})
}

// An attempt avoids the endpoints that its RPC has tried, while there are others.
func TestTriedEndpointsAreAvoided(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(4))
		for range 100 {
			ctx, _ := attempts.NewContext(t.Context(), attempts.Unary)
			seen := map[string]bool{}
			for range 4 {
				p, err := f.tryPick(ctx)
				if err != nil || seen[p.address] {
					t.Fatalf("picked %q (%v) after %v", p.address, err, seen)
				}
				seen[p.address] = true
				p.done(answered)
			}
			if _, err := f.tryPick(ctx); err != nil {
				t.Fatalf("all were tried: %v", err)
			}
		}
	})
}

// A call that failed once does not probe.
func TestRetriesDoNotProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(3))
		f.serve(500, sick(down))
		time.Sleep(time.Minute) // the ban is over
		for range 100 {
			ctx, record := attempts.NewContext(t.Context(), attempts.Unary)
			record.Add(attempts.NewID())
			p, err := f.tryPick(ctx)
			if err != nil || p.address == first {
				t.Fatalf("picked %q (%v)", p.address, err)
			}
			p.done(answered)
		}
	})
}

// The end of a stream is what its sender says, for gRPC may say nil of one that
// failed; and the hours that it was open are no latency.
func TestStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{Load: balance.LoadPending}, fakeconn.Endpoints(2))
		open := func() (picked, *attempts.Record) {
			ctx, record := attempts.NewContext(t.Context(), attempts.Stream)
			p, err := f.tryPick(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return p, record
		}
		a, _ := open()
		b, _ := open()
		if a.address == b.address {
			t.Errorf("both streams went to %s: what is open is not counted", a.address)
		}
		a.done(answered)
		b.done(answered)
		for range 20 {
			p, record := open()
			p.done(answered) // so says gRPC
			if p.address == first {
				record.End(errors.New("it failed"))
			} else {
				record.End(nil)
			}
		}
		if n := f.serve(100, well)[first]; n != 0 {
			t.Errorf("%d of 100 calls went to the endpoint whose streams fail", n)
		}
	})
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(2))
		f.serve(1000, well)
		for range 10 {
			ctx, record := attempts.NewContext(t.Context(), attempts.Stream)
			p, _ := f.tryPick(ctx)
			time.Sleep(time.Hour)
			p.done(answered)
			record.End(nil)
		}
		counts := f.serve(1000, well)
		if counts[first] < 400 || counts[first] > 600 {
			t.Errorf("after long streams: %v, want halves", counts)
		}
	})
}

// What fails or is slow is banned; what is merely different is not.
func TestOutliersBan(t *testing.T) {
	latency := func(slow time.Duration) int {
		n := 0
		bubble(t, func(t *testing.T) {
			f := newFleet(t, balance.Config{}, fakeconn.Endpoints(5))
			for range 5000 {
				p := f.pick()
				took := 10 * time.Millisecond
				if p.address == first {
					n++
					took = slow
				}
				time.AfterFunc(took, func() { p.done(answered) })
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(time.Minute)
		})
		return n
	}
	if n := latency(100 * time.Millisecond); n > 25 {
		t.Errorf("ten times slower: %d of 5000 calls in 50 s, want some 3 and probes", n)
	}
	if n := latency(11 * time.Millisecond); n < 500 {
		t.Errorf("a tenth slower: %d of 5000 calls, want some 1000", n)
	}
}

// State outlives pickers, lost connections and resolver updates; what is removed
// gets no pick.
func TestStateSurvives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		endpoints := fakeconn.Endpoints(4)
		f := newFleet(t, balance.Config{Failures: balance.Failures{BanFor: time.Minute}}, endpoints)
		var conn *fakeconn.SubConn
		for conn == nil {
			if p := f.pick(); p.address == first {
				conn = p.conn
				p.done(down)
			} else {
				p.done(answered)
			}
		}
		f.serve(500, sick(down))
		conn.Become(connectivity.Idle) // lost; it connects again by itself
		f.conn.Settle()
		synctest.Wait()
		f.conn.Settle()
		f.resolve(endpoints)
		if n := f.serve(50, well)[first]; n != 0 {
			t.Errorf("%d calls to a banned endpoint after its connection came back", n)
		}
		f.resolve(endpoints[1:])
		for range 2 {
			if n := f.serve(500, well)[first]; n != 0 {
				t.Errorf("%d calls to a removed endpoint", n)
			}
			time.Sleep(time.Hour)
		}
		f.resolve(endpoints)
		f.serve(300, well) // its slow start
		if n := f.serve(1000, well)[first]; n < 150 {
			t.Errorf("%d of 1000 calls to an endpoint that is named again, want 250", n)
		}
	})
}

// Duplicates count once; without endpoints there is a clear error, and another
// configuration applies to the endpoints that are there.
func TestOddUpdates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := fakeconn.Endpoints(2)
		f := newFleet(t, balance.Config{}, []resolver.Endpoint{e[0], e[1], e[0], e[1], {}, e[0]})
		if counts := f.serve(1000, well); counts[first] < 400 || counts[first] > 600 {
			t.Errorf("shares %v, want halves", counts)
		}
		f.resolve(nil)
		_, err := f.tryPick(t.Context())
		if r, ok := errors.AsType[*turret.Refusal](err); !ok || r.Reason != turret.ReasonNoEndpoint {
			t.Errorf("without endpoints: %v", err)
		}
		f.config.Limit = 1
		f.resolve(e)
		f.pick()
		f.pick()
		if _, err := f.tryPick(t.Context()); !errors.Is(err, balance.ErrFull) {
			t.Errorf("the new limit is not kept: %v", err)
		}
	})
}

// One endpoint is used whatever it does.
func TestOneEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, balance.Config{}, fakeconn.Endpoints(1))
		if n := f.serve(100, func(string) balancer.DoneInfo { return down })[first]; n != 100 {
			t.Errorf("%d of 100 calls", n)
		}
	})
}

// A new endpoint is not flooded while it gets warm.
func TestSlowStart(t *testing.T) {
	share := func(c balance.Config) int {
		n := 0
		bubble(t, func(t *testing.T) {
			e := fakeconn.Endpoints(5)
			f := newFleet(t, c, e[1:])
			f.serve(1000, well)
			f.resolve(e)
			n = f.serve(100, well)[first]
		})
		return n
	}
	if n := share(balance.Config{SlowStart: -1}); n < 10 || n > 40 {
		t.Errorf("without slow start: %d of the first 100 calls, want 20", n)
	}
	if n := share(balance.Config{SlowStart: 10 * time.Second}); n > 5 {
		t.Errorf("%d of the first 100 calls, want next to none", n)
	}
}

func TestWeights(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := fakeconn.Endpoints(3)
		for i := range e {
			e[i] = weight.Set(e[i], weight.EndpointInfo{Weight: []uint32{1, 2, 5}[i]})
		}
		f := newFleet(t, balance.Config{Load: balance.LoadPending}, e)
		counts, random := map[string]int{}, rand.New(rand.NewPCG(1, 2))
		var inside []picked
		for range 40_000 { // 80 in flight
			p := f.pick()
			counts[p.address]++
			if inside = append(inside, p); len(inside) > 80 {
				i := random.IntN(len(inside))
				inside[i].done(answered)
				inside[i] = inside[len(inside)-1]
				inside = inside[:len(inside)-1]
			}
		}
		for i, want := range []float64{1. / 8, 2. / 8, 5. / 8} {
			if got := float64(counts[fmt.Sprintf("e%05d", i)]) / 40_000; got < 0.85*want || got > 1.15*want {
				t.Errorf("endpoint %d has a share of %.3f, want %.3f", i, got, want)
			}
		}
	})
}

// Picking does not allocate, nor do the ends of calls.
func TestAllocations(t *testing.T) {
	f := newFleet(t, balance.Config{}, fakeconn.Endpoints(10))
	state, _ := f.conn.State()
	info := balancer.PickInfo{FullMethodName: "/test.Test/Call", Ctx: t.Context()}
	if n := testing.AllocsPerRun(1000, func() {
		r, _ := state.Picker.Pick(info)
		r.Done(answered)
	}); n > 1 {
		t.Errorf("a pick allocates %v times, want at most 1", n)
	}
}

// Ten thousand endpoints connect, are used, and half of them leave.
func TestManyEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := fakeconn.Endpoints(10_000)
		conn, policy, err := fakeconn.StartInBulk(balance.Name, `{"load":"pending","seed":1}`, all)
		if err != nil {
			t.Fatal(err)
		}
		defer policy.Close()
		f := &fleet{t, conn, policy, balance.Config{Load: balance.LoadPending, Seed: 1}}
		var inFlight []picked // so each has at most a few
		for range 2 * len(all) {
			inFlight = append(inFlight, f.pick())
		}
		counts := map[string]int{}
		for _, p := range inFlight {
			counts[p.address]++
			p.done(answered)
		}
		if most := slices.Max(slices.Collect(maps.Values(counts))); len(counts) < 9000 || most > 5 {
			t.Errorf("%d of %d endpoints had calls, one of them %d", len(counts), len(all), most)
		}
		f.resolve(all[:5000])
		for address := range f.serve(2000, well) {
			if address >= all[5000].Addresses[0].Addr {
				t.Errorf("%s was picked after it had left", address)
			}
		}
	})
}
