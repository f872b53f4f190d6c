package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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

// A variable that no attempt writes to keeps its value, for any winner: an
// interceptor behind the stack may answer by itself.
func TestHedgeKeepsWhatNobodyWrites(t *testing.T) {
	for _, winner := range []int64{0, 1} {
		inBubble(t, fmt.Sprint(winner), func(t *testing.T) {
			var calls atomic.Int64
			header, from := metadata.Pairs("old", "value"), peer.Peer{LocalAddr: addr("old")}
			err := invoke(t.Context(), interceptors.New(interceptors.Hedge(steadyHedge(1))), new(response),
				func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					if calls.Add(1)-1 == winner {
						<-time.NewTimer(60 * hms).C
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
					<-time.NewTimer(100 * hms).C
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
