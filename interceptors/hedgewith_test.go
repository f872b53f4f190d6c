package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

// This file has hedges beside other layers, events, panics, and many at once.

// A Retry outside repeats what all attempts have failed at; one inside repeats
// each attempt, with its own reply and variables.
func TestHedgeAndRetry(t *testing.T) {
	again := func() interceptors.Layer {
		return interceptors.Retry(retry.Config{MaxAttempts: 3, Backoff: fixed(10 * hms), Budget: always})
	}
	lost := unavailable("lost")
	for _, tt := range []struct {
		name    string
		outside bool
		acts    []act
		after   time.Duration
		from    string
		came    int
		code    codes.Code
	}{
		{
			"Retry outside", true,
			[]act{{delay: 60 * hms, err: lost}, {delay: 20 * hms, err: lost}, {delay: time.Hour}, {delay: 5 * hms}},
			(70 + 10 + 50 + 5) * hms, "after 3", 4, codes.OK,
		},
		{
			"Retry outside hears of the hedge's pushback", true,
			[]act{{delay: 60 * hms, err: lost}, {delay: 20 * hms, err: lost, pushback: "-1"}, {}},
			70 * hms, "after 1", 2, codes.Unavailable,
		},
		{
			"Retry inside, in the hedge", false,
			[]act{{delay: time.Hour}, {delay: 5 * hms, err: lost}, {delay: 5 * hms, err: lost}, {delay: 5 * hms}},
			(50 + 5 + 10 + 5 + 10 + 5) * hms, "after 3", 4, codes.OK,
		},
		{
			"Retry inside, in both", false,
			[]act{{delay: 60 * hms, err: lost}, {delay: 15 * hms, err: lost}, {delay: time.Hour}, {delay: 5 * hms}},
			(50 + 15 + 10 + 5) * hms, "after 3", 4, codes.OK,
		},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			layers := []interceptors.Layer{again(), interceptors.Hedge(steadyHedge(1))}
			if !tt.outside {
				slices.Reverse(layers)
			}
			st := &stage{acts: tt.acts}
			w := newWorld(t, worldOf{client: interceptors.New(layers...), server: interceptors.New(turret.Wrap(setting), st.layer())})
			r := w.do(t.Context(), interceptors.KindUnary, nil)
			if err := r.wants(tt.code, ""); err != nil || r.took != tt.after || len(st.came) != tt.came {
				t.Errorf("%v (%v) after %v, %d attempts; want %v after %v, %d", err, r.err, r.took, len(st.came), tt.code, tt.after, tt.came)
			}
			if got := r.trailer.Get("trailer"); !slices.Equal(got, []string{tt.from}) {
				t.Errorf("the trailer is %v, want that of %q", r.trailer, tt.from)
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A Timeout inside bounds each attempt, one outside all of them.
func TestHedgeAndTimeout(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers []interceptors.Layer
		after  time.Duration
		code   codes.Code
		reason string
	}{
		{"outside", []interceptors.Layer{interceptors.Timeout(80 * hms), interceptors.Hedge(steadyHedge(1))}, 80 * hms, codes.DeadlineExceeded, "TIMEOUT"},
		{"inside", []interceptors.Layer{interceptors.Hedge(steadyHedge(1)), interceptors.Timeout(80 * hms)}, 130 * hms, codes.DeadlineExceeded, "TIMEOUT"},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			st := &stage{acts: []act{{delay: time.Hour}}}
			w := newWorld(t, worldOf{client: interceptors.New(tt.layers...), server: interceptors.New(st.layer())})
			r := w.do(t.Context(), interceptors.KindUnary, nil)
			if err := r.wants(tt.code, tt.reason); err != nil || r.took != tt.after || !errors.Is(r.err, timeout.ErrTimeout) {
				t.Errorf("%v (%v) after %v, want %v after %v", err, r.err, r.took, tt.code, tt.after)
			}
			if err := w.settle(); err != nil || len(st.came) != 2 {
				t.Errorf("%v, %d attempts", err, len(st.came))
			}
		})
	}
}

// A hedge that waits in a line inside leaves it when there is an answer, and an
// attempt that was refused is no answer.
func TestHedgeAndLimit(t *testing.T) {
	inBubble(t, "line", func(t *testing.T) {
		gate := limit.NewConcurrency(1, limit.Queue{Max: 5})
		w := newWorld(t, worldOf{
			client: interceptors.New(interceptors.Hedge(steadyHedge(2)), interceptors.Admit(gate)),
			server: interceptors.New((&stage{acts: []act{{delay: 200 * hms}}}).layer()),
		})
		r := w.start(t.Context(), interceptors.KindUnary, nil)
		time.Sleep(150 * hms)
		synctest.Wait()
		if got := gate.Stats().Waiting; got != 2 {
			t.Errorf("%d hedges wait, want 2", got)
		}
		<-r.done
		if got := gate.Stats(); r.err != nil || r.took != 200*hms || got.Waiting != 0 || got.InFlight != 0 {
			t.Errorf("%v after %v, %+v", r.err, r.took, got)
		}
	})
	inBubble(t, "refusal", func(t *testing.T) {
		w := newWorld(t, worldOf{
			client: interceptors.New(interceptors.Hedge(steadyHedge(2)), interceptors.ConcurrencyLimit(1, limit.Queue{})),
			server: interceptors.New((&stage{acts: []act{{delay: time.Second}}}).layer()),
		})
		if r := w.do(t.Context(), interceptors.KindUnary, nil); r.wants(codes.OK, "") != nil || r.took != time.Second {
			t.Errorf("%v after %v", r.err, r.took)
		}
	})
}

// Observers outside get each hedge, and each refusal once.
func TestHedgeEvents(t *testing.T) {
	for _, tt := range []struct {
		name string
		lets []bool // attempts through a gate inside Hedge, in their order
		want []string
	}{
		{"hedges", []bool{true, true, true}, []string{"hedge hedge 1", "hedge hedge 2"}},
		{"a hedge is refused", []bool{true, false, true}, []string{"hedge hedge 1", "refused letting ENOUGH 1", "hedge hedge 2"}},
		{"the first is refused", []bool{false}, []string{"refused letting ENOUGH 0"}},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var told []string
			n := 0
			w := newWorld(t, worldOf{
				client: interceptors.New(
					interceptors.Observe(func(_ context.Context, e interceptors.Event) {
						if e.Kind == interceptors.EventEnd {
							return
						}
						mu.Lock()
						defer mu.Unlock()
						told = append(told, strings.TrimSpace(fmt.Sprint(e.Kind, " ", e.Layer, " ", e.Reason)+" "+fmt.Sprint(e.RPC.Attempt)))
					}),
					interceptors.Hedge(steadyHedge(2)),
					turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						mu.Lock()
						lets := tt.lets[min(n, len(tt.lets)-1)]
						n++
						mu.Unlock()
						if !lets {
							return nil, &turret.Refusal{Layer: "letting", Reason: "ENOUGH", Err: errMine}
						}
						return inner.Call(ctx, rpc)
					}),
				),
				server: interceptors.New((&stage{acts: []act{{delay: time.Hour}, {delay: time.Hour}, {}}}).layer()),
			})
			ctx, cancel := context.WithTimeout(t.Context(), 140*hms)
			defer cancel()
			w.do(ctx, interceptors.KindUnary, nil)
			for i := range told {
				told[i] = strings.Join(strings.Fields(told[i]), " ")
			}
			if !slices.Equal(told, tt.want) {
				t.Errorf("told of %q, want %q", told, tt.want)
			}
		})
	}
}

// The first attempt waits in a line, is refused, and a hedge answers: the refusal
// does not leave the Hedge, and is reported there.
func TestHedgeTellsOfARefusalThatItHides(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		var mu sync.Mutex
		var told []interceptors.EventKind
		var attempts atomic.Int64
		w := newWorld(t, worldOf{
			client: interceptors.New(
				interceptors.Observe(func(_ context.Context, e interceptors.Event) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, e.Kind)
				}),
				interceptors.Named("mine", interceptors.Hedge(steadyHedge(1))),
				turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					if attempts.Add(1) == 1 {
						time.Sleep(60 * hms)
						return nil, &turret.Refusal{Layer: "letting", Reason: "ENOUGH", Err: errMine}
					}
					return inner.Call(ctx, rpc)
				}),
			),
			server: interceptors.New((&stage{acts: []act{{delay: 50 * hms}}}).layer()),
		})
		r := w.do(t.Context(), interceptors.KindUnary, nil)
		if want := []interceptors.EventKind{interceptors.EventHedge, interceptors.EventRefused, interceptors.EventEnd}; r.wants(codes.OK, "") != nil || !slices.Equal(told, want) {
			t.Errorf("%v, told of %v, want %v", r.err, told, want)
		}
	})
}

// A panic in an attempt reaches the caller, and a Recover outside.
func TestHedgePanics(t *testing.T) {
	second := func() interceptors.Layer {
		return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			if rpc.Attempt > 0 {
				panic("in the hedge")
			}
			return inner.Call(ctx, rpc)
		})
	}
	for _, recovered := range []bool{false, true} {
		inBubble(t, fmt.Sprint("recovered: ", recovered), func(t *testing.T) {
			layers := []interceptors.Layer{interceptors.Hedge(steadyHedge(1)), second()}
			if recovered {
				layers = slices.Insert(layers, 0, calm)
			}
			finished := 0
			st := &stage{acts: []act{{delay: time.Hour}}}
			w := newWorld(t, worldOf{client: interceptors.New(layers...), server: interceptors.New(st.layer())})
			r := w.do(t.Context(), interceptors.KindUnary, nil, grpc.OnFinish(func(error) { finished++ }))
			if recovered && r.wants(codes.Internal, "") != nil || !recovered && r.panicked != "in the hedge" || r.took != 50*hms {
				t.Errorf("%v, panicked with %v, after %v", r.err, r.panicked, r.took)
			}
			if err := w.settle(); err != nil || finished != 1 {
				t.Errorf("%v, OnFinish called %d times", err, finished)
			}
		})
	}
}

// The caller's own end is the RPC's, with its code.
func TestHedgeIsCancelled(t *testing.T) {
	for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded} {
		inBubble(t, code.String(), func(t *testing.T) {
			st := &stage{acts: []act{{delay: time.Hour}}}
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Hedge(steadyHedge(1))), server: interceptors.New(st.layer())})
			ctx, cancel := context.WithCancel(t.Context())
			if code == codes.DeadlineExceeded {
				ctx, cancel = context.WithTimeout(t.Context(), 70*hms)
			}
			defer cancel()
			if code == codes.Canceled {
				time.AfterFunc(70*hms, cancel)
			}
			r := w.do(ctx, interceptors.KindUnary, nil)
			if err := r.wants(code, ""); err != nil || r.took != 70*hms {
				t.Errorf("%v (%v) after %v", err, r.err, r.took)
			}
			if err := w.settle(); err != nil || st.cancelled != 2 {
				t.Errorf("%v, %d attempts were cancelled", err, st.cancelled)
			}
		})
	}
}

// Hedges inside hedges, adopted interceptors on both sides of them: for any attempt
// that answers, the caller gets one whole answer.
func TestHedgeNested(t *testing.T) {
	adopted := func() interceptors.Layer {
		return interceptors.FromUnaryClient(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		})
	}
	h := func(after time.Duration) interceptors.Layer {
		c := steadyHedge(1)
		c.Delay = after
		return interceptors.Hedge(c)
	}
	for name, layers := range map[string][]interceptors.Layer{
		"hedge in hedge":    {h(70 * hms), h(50 * hms)},
		"adopted outside":   {adopted(), h(50 * hms), h(70 * hms)},
		"adopted inside":    {h(50 * hms), h(70 * hms), adopted()},
		"adopted between":   {h(50 * hms), adopted(), h(70 * hms)},
		"with Retry inside": {h(50 * hms), retrying(2), h(70 * hms)},
	} {
		for winner := range 4 {
			inBubble(t, fmt.Sprint(name, ", ", winner, " answers"), func(t *testing.T) {
				acts := slices.Repeat([]act{{delay: time.Hour}}, 4)
				acts[winner].delay = 100 * hms
				st := &stage{acts: acts}
				w := newWorld(t, worldOf{client: interceptors.New(layers...), server: interceptors.New(turret.Wrap(setting), st.layer())})
				r := w.do(t.Context(), interceptors.KindUnary, nil)
				if err := r.wants(codes.OK, ""); err != nil {
					t.Fatal(err)
				}
				want := r.header.Get("header")
				if len(want) != 1 || !slices.Equal(want, r.trailer.Get("trailer")) || len(r.responses) != 1 || string(r.responses[0].GetPayload()) != "payload" {
					t.Errorf("header %v, trailer %v, responses %v", r.header, r.trailer, r.responses)
				}
				if err := w.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Many RPCs at once, with all that attempts may write to: the race detector sees
// none of it shared, and each caller gets the whole answer of one attempt.
func TestHedgeConcurrently(t *testing.T) {
	run := func(t *testing.T, tcp bool, rpcs int) {
		random := func() time.Duration { return time.Duration(rand.IntN(4)) * hms }
		c := hedge.Config{Delay: hms, MaxHedges: 3, MaxRise: -1, Budget: always}
		stamped := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			stamp := strings.Join(append(md.Get("id"), md.Get(previousKey)...), "/")
			timer := time.NewTimer(random())
			defer timer.Stop()
			<-timer.C
			if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("stamp", stamp)), grpc.SetTrailer(ctx, metadata.Pairs("stamp", stamp))); err != nil {
				return nil, err
			}
			if rand.IntN(8) == 0 {
				return nil, unavailable("at random")
			}
			return &response{Payload: []byte(stamp), Report: &echov1.Report{Server: strings.Repeat(stamp, 50)}}, nil
		})
		spans := newSpans()
		w := newWorld(t, worldOf{
			client: interceptors.New(
				interceptors.Observe(func(_ context.Context, e interceptors.Event) { _ = fmt.Sprint(e.Kind, e.RPC.Attempt, e.RPC.Method) }),
				interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: noDelay, Budget: always}),
				spans.layer(),
				interceptors.Named("hedge", interceptors.Hedge(c)),
				interceptors.InContext(),
				interceptors.FromUnaryClient(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					return invoker(ctx, method, req, reply, cc, opts...)
				}),
				spans.layer(),
				interceptors.Timeout(time.Minute),
			),
			server: interceptors.New(stamped),
			tcp:    tcp,
		})
		var hedged atomic.Int64
		var wg sync.WaitGroup
		for id := range 8 {
			wg.Go(func() {
				for n := range rpcs {
					id := fmt.Sprint(id, "-", n)
					ctx := metadata.AppendToOutgoingContext(t.Context(), "id", id)
					var header, trailer metadata.MD
					var from peer.Peer
					res := &response{Payload: []byte("old")}
					err := w.Conn.Invoke(ctx, method(interceptors.KindUnary), new(request), res, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))
					if err != nil {
						if status.Code(err) != codes.Unavailable {
							t.Errorf("%s: %v", id, err)
						}
						continue
					}
					stamp := string(res.GetPayload())
					if strings.Contains(stamp, "/") {
						hedged.Add(1)
					}
					if owner, _, _ := strings.Cut(stamp, "/"); owner != id || header.Get("stamp")[0] != stamp ||
						trailer.Get("stamp")[0] != stamp || res.GetReport().GetServer() != strings.Repeat(stamp, 50) || from.Addr == nil {
						t.Errorf("%s got %v, header %v, trailer %v", id, res, header, trailer)
					}
				}
			})
		}
		wg.Wait()
		if hedged.Load() == 0 {
			t.Error("no hedge has won")
		}
	}
	inBubble(t, "in memory", func(t *testing.T) { run(t, false, 60) })
	t.Run("TCP", func(t *testing.T) { run(t, true, 30) })
}

// A hedge that never fires costs its context and its timer.
func TestHedgeAllocations(t *testing.T) {
	s := interceptors.New(interceptors.Hedge(hedge.Config{Delay: time.Minute}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reply := new(response)
	wantAllocations(t, 6, allocations(func() { _ = invoke(ctx, s, reply, succeeds) }))

	bare, hedged := newWorld(t, worldOf{}), newWorld(t, worldOf{client: s})
	was := allocations(func() { bare.talk(ctx, t, interceptors.KindUnary, 1) })
	is := allocations(func() { hedged.talk(ctx, t, interceptors.KindUnary, 1) })
	// Two are for the options and the trailer, as with Retry. Three are gRPC's, which
	// derives its own context: in ours it has to make what in the test's is there.
	wantAllocations(t, 6+2+3, is-was)
}
