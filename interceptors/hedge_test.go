package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

const hms = time.Millisecond

// steadyHedge is a config with a hedge each 50 ms, and nothing that holds it back.
func steadyHedge(hedges int) hedge.Config {
	return hedge.Config{Delay: 50 * hms, MaxHedges: hedges, MaxRise: -1, Budget: always}
}

// An act is what a server does with one attempt: it waits, and then fails if
// there is an error.
type act struct {
	delay    time.Duration
	err      error
	pushback string // in the trailer, if not empty
}

// A stage is a layer of a server that plays an act for each attempt that comes,
// in their order, and the last one for those that follow.
type stage struct {
	acts []act

	mu        sync.Mutex
	came      []string // what attempts said of those before them
	cancelled int
}

func (s *stage) layer() interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		s.mu.Lock()
		a := s.acts[min(len(s.came), len(s.acts)-1)]
		s.came = append(s.came, strings.Join(metadata.ValueFromIncomingContext(ctx, previousKey), ","))
		s.mu.Unlock()
		timer := time.NewTimer(a.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cancelled++
			return nil, ctx.Err()
		}
		if a.pushback != "" {
			if err := grpc.SetTrailer(ctx, metadata.Pairs(pushbackKey, a.pushback)); err != nil {
				return nil, err
			}
		}
		if a.err != nil {
			return nil, a.err
		}
		return inner.Call(ctx, rpc)
	})
}

func unavailable(text string) error { return status.Error(codes.Unavailable, text) }

// fullFor is RESOURCE_EXHAUSTED with a RetryInfo.
func fullFor(d time.Duration) error {
	st, err := status.New(codes.ResourceExhausted, "full").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// What the caller gets: the first answer, with its header, trailer and peer, or
// the error of the first attempt.
func TestHedge(t *testing.T) {
	const long = time.Hour
	const first, second, third = "first", "after 1", "after 2"
	for _, tt := range []struct {
		name      string
		hedges    int
		acts      []act
		code      codes.Code
		text      string
		from      string // whose header and trailer
		after     time.Duration
		came      int
		cancelled int
	}{
		{"no hedge", 1, []act{{delay: 49 * hms}}, codes.OK, "", first, 49 * hms, 1, 0},
		{"the hedge answers first", 1, []act{{delay: long}, {delay: 10 * hms}}, codes.OK, "", second, 60 * hms, 2, 1},
		{"the first answers first", 1, []act{{delay: 60 * hms}, {delay: long}}, codes.OK, "", first, 60 * hms, 2, 1},
		{"the third answers first", 2, []act{{delay: long}, {delay: long}, {delay: 10 * hms}}, codes.OK, "", third, 110 * hms, 3, 2},
		{
			"an error waits", 1,
			[]act{{delay: 200 * hms}, {delay: 10 * hms, err: unavailable("hedge")}},
			codes.OK, "", first, 200 * hms, 2, 0,
		},
		{
			"an error of the first waits", 1,
			[]act{{delay: 60 * hms, err: unavailable("first")}, {delay: 40 * hms}},
			codes.OK, "", second, 90 * hms, 2, 0,
		},
		{
			"NOT_FOUND is an answer", 1,
			[]act{{delay: long}, {delay: 10 * hms, err: status.Error(codes.NotFound, "no such thing")}},
			codes.NotFound, "no such thing", second, 60 * hms, 2, 1,
		},
		{
			"all fail", 1,
			[]act{{delay: 100 * hms, err: unavailable("first")}, {delay: 10 * hms, err: status.Error(codes.Internal, "hedge")}},
			codes.Unavailable, "first", first, 100 * hms, 2, 0,
		},
		{
			"a failure is not hedged", 1,
			[]act{{delay: 10 * hms, err: unavailable("first")}, {}},
			codes.Unavailable, "first", first, 10 * hms, 1, 0,
		},
		{
			"pushback stops further hedges", 3,
			[]act{{delay: 500 * hms}, {delay: 10 * hms, err: unavailable("hedge"), pushback: "100"}, {}},
			codes.OK, "", first, 500 * hms, 2, 0,
		},
		{
			"pushback that says never, too", 3,
			[]act{{delay: 500 * hms}, {delay: 10 * hms, err: unavailable("hedge"), pushback: "-1"}, {}},
			codes.OK, "", first, 500 * hms, 2, 0,
		},
		{
			"and RetryInfo", 3,
			[]act{{delay: 500 * hms}, {delay: 10 * hms, err: fullFor(time.Second)}, {}},
			codes.OK, "", first, 500 * hms, 2, 0,
		},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			st := &stage{acts: tt.acts}
			w := newWorld(t, worldOf{
				client: interceptors.New(interceptors.Hedge(steadyHedge(tt.hedges))),
				server: interceptors.New(turret.Wrap(setting), st.layer()),
			})
			from := peer.Peer{LocalAddr: addr("old")}
			r := w.do(t.Context(), interceptors.KindUnary, nil, grpc.Peer(&from))
			if err := r.wants(tt.code, ""); err != nil || status.Convert(r.err).Message() != tt.text || r.took != tt.after {
				t.Errorf("%v (%v) after %v, want %v %q after %v", err, r.err, r.took, tt.code, tt.text, tt.after)
			}
			for key, md := range map[string]metadata.MD{"header": r.header, "trailer": r.trailer} {
				// A failure has no header of its own, it comes in the trailer.
				if got := md.Get(key); (len(got) > 0 || r.err == nil) && !slices.Equal(got, []string{tt.from}) {
					t.Errorf("the %s is %v, want that of %q", key, md, tt.from)
				}
			}
			if got := r.trailer.Get("trailer"); !slices.Equal(got, []string{tt.from}) {
				t.Errorf("the trailer is %v, want that of %q", r.trailer, tt.from)
			}
			if from.Addr == nil || from.LocalAddr == addr("old") {
				t.Errorf("the peer is %v", from)
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
			st.mu.Lock()
			defer st.mu.Unlock()
			if len(st.came) != tt.came || st.cancelled != tt.cancelled {
				t.Errorf("%d attempts came, %d were cancelled; want %d, %d", len(st.came), st.cancelled, tt.came, tt.cancelled)
			}
			for i, previous := range st.came {
				if want := strconv.Itoa(i); i > 0 && previous != want || i == 0 && previous != "" {
					t.Errorf("attempt %d says that %q came before it", i, previous)
				}
			}
		})
	}
}

// The variables of call options, the caller's and those of layers, are those of
// the attempt that decided, and what they were where it did not write to them.
func TestHedgeDestinations(t *testing.T) {
	old := metadata.Pairs("old", "value")
	oldPeer := peer.Peer{LocalAddr: addr("old")}
	for _, tt := range []struct {
		name string
		acts []act
		lets int64  // attempts through a gate inside Hedge
		want string // empty: what it was before
		code codes.Code
	}{
		{"first", []act{{delay: 60 * hms}, {delay: time.Hour}}, 2, "first", codes.OK},
		{"hedge", []act{{delay: time.Hour}, {}}, 2, "after 1", codes.OK},
		{"hedge fails, first does not", []act{{delay: 100 * hms}, {err: unavailable("hedge")}}, 2, "first", codes.OK},
		{"all fail", []act{{delay: 100 * hms, err: unavailable("first")}, {err: unavailable("hedge")}}, 2, "first", codes.Unavailable},
		{"hedge is refused", []act{{delay: 90 * hms}, {}}, 1, "first", codes.OK},
		{"refused", []act{{}}, 0, "", codes.ResourceExhausted},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			var layers metadata.MD
			w := newWorld(t, worldOf{
				client: interceptors.New(
					turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						return inner.Call(ctx, rpc.WithOptions(grpc.Trailer(&layers)))
					}),
					interceptors.Hedge(steadyHedge(1)),
					interceptors.Admit(newLetting(tt.lets)),
				),
				server: interceptors.New(turret.Wrap(setting), (&stage{acts: tt.acts}).layer()),
			})
			trailer, again, from := old, old, oldPeer
			err := w.Conn.Invoke(t.Context(), method(interceptors.KindUnary), new(request), new(response),
				grpc.Trailer(&trailer), grpc.Peer(&from), grpc.Trailer(&again))
			if status.Code(err) != tt.code {
				t.Fatalf("ended with %v, want %v", err, tt.code)
			}
			if tt.want == "" {
				if trailer.Get("old") == nil || again.Get("old") == nil || layers != nil || from.LocalAddr != oldPeer.LocalAddr {
					t.Errorf("an RPC that was not sent has trailers %v, %v, %v and peer %v", trailer, again, layers, from)
				}
				return
			}
			for _, md := range []metadata.MD{trailer, again, layers} {
				if got := md.Get("trailer"); !slices.Equal(got, []string{tt.want}) || md.Get("old") != nil {
					t.Errorf("a trailer is %v, want that of %q", md, tt.want)
				}
			}
			if from.Addr == nil || from.LocalAddr == oldPeer.LocalAddr {
				t.Errorf("the peer is %v", from)
			}
		})
	}
}

// Where nobody writes to a variable it keeps what it had, whoever wins: an
// interceptor behind the stack may answer by itself.
func TestHedgeKeepsWhatNobodyWrites(t *testing.T) {
	for _, winner := range []int64{0, 1} {
		inBubble(t, fmt.Sprint(winner), func(t *testing.T) {
			var calls atomic.Int64
			header, from := metadata.Pairs("old", "value"), peer.Peer{LocalAddr: addr("old")}
			err := invoke(t.Context(), interceptors.New(interceptors.Hedge(steadyHedge(1))), new(response),
				func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					if calls.Add(1)-1 == winner {
						time.Sleep(60 * hms)
						return nil
					}
					<-ctx.Done()
					return status.FromContextError(ctx.Err()).Err()
				}, grpc.Header(&header), grpc.Peer(&from))
			if err != nil || calls.Load() != 2 || header.Get("old") == nil || from.LocalAddr != addr("old") {
				t.Errorf("%v, %d attempts, header %v, peer %v", err, calls.Load(), header, from)
			}
		})
	}
}

// Each attempt has a reply of its own, of whatever type; where none can be made
// there is no hedge.
func TestHedgeReplies(t *testing.T) {
	type plain struct{ A, B int }
	for _, tt := range []struct {
		name  string
		reply func() any
		fill  func(reply any, n int)
		check func(reply any) bool // that it was filled with 1, a hedge
	}{
		{
			"message", func() any { return &response{Payload: []byte("old")} },
			func(reply any, n int) { reply.(*response).Payload = []byte{byte(n)} },
			func(reply any) bool { return string(reply.(*response).GetPayload()) == "\x01" },
		},
		{
			"struct that the codec merges into", func() any { return &plain{B: 7} },
			func(reply any, n int) { reply.(*plain).A += n },
			func(reply any) bool { return *reply.(*plain) == plain{1, 7} },
		},
		{"nil message", func() any { return (*response)(nil) }, nil, nil},
		{"nil", func() any { return nil }, nil, nil},
		{"no pointer", func() any { return map[string]int{} }, nil, nil},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var replies []any
			reply := tt.reply()
			err := invoke(t.Context(), interceptors.New(interceptors.Hedge(steadyHedge(1))), reply,
				func(ctx context.Context, _ string, _, got any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					mu.Lock()
					n := len(replies)
					replies = append(replies, got)
					mu.Unlock()
					if n == 0 && tt.fill != nil {
						tt.fill(got, 100) // and is then slow
						<-ctx.Done()
						return ctx.Err()
					}
					time.Sleep(100 * hms)
					if tt.fill != nil {
						tt.fill(got, n)
					}
					return nil
				})
			if err != nil {
				t.Fatal(err)
			}
			if tt.fill == nil {
				if len(replies) != 1 {
					t.Errorf("%d attempts, want one", len(replies))
				}
				return
			}
			if len(replies) != 2 || replies[0] != reply || replies[1] == reply || !tt.check(reply) {
				t.Errorf("replies %v, the caller has %v", replies, reply)
			}
		})
	}
}

// Streams, and all that a server does, pass by.
func TestHedgePassesBy(t *testing.T) {
	for _, k := range kinds {
		for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			if k == interceptors.KindUnary && side == interceptors.SideClient {
				continue
			}
			inBubble(t, fmt.Sprint(k, " ", side), func(t *testing.T) {
				s := interceptors.New(interceptors.Hedge(steadyHedge(4)))
				came := &stage{acts: []act{{delay: time.Second}}}
				c := worldOf{client: s, server: interceptors.New(came.layer())}
				if side == interceptors.SideServer {
					c = worldOf{server: interceptors.New(interceptors.Hedge(steadyHedge(4)), came.layer())}
				}
				w := newWorld(t, c)
				if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil || len(came.came) != 1 {
					t.Errorf("%v, %d attempts", err, len(came.came))
				}
			})
		}
	}
}

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

// Whoever is outside is told of each hedge, and once of each refusal.
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
// does not leave the Hedge, and is told there.
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
		if want := []interceptors.EventKind{interceptors.EventHedge, interceptors.EventRefused}; r.wants(codes.OK, "") != nil || !slices.Equal(told, want) {
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

// Hedges inside hedges, adopted interceptors on both sides of them: whoever
// answers, the caller gets one whole answer.
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
