package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
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
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

const (
	previousKey = "grpc-previous-rpc-attempts"
	pushbackKey = "grpc-retry-pushback-ms"
)

// An arrivals layer on a server remembers when attempts came, and what they said
// of those before them.
type arrivals struct {
	began time.Time

	mu       sync.Mutex
	at       []time.Duration
	previous []string
}

func newArrivals() *arrivals { return &arrivals{began: time.Now()} }

func (a *arrivals) layer() interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		a.mu.Lock()
		a.at = append(a.at, time.Since(a.began))
		a.previous = append(a.previous, strings.Join(metadata.ValueFromIncomingContext(ctx, previousKey), ","))
		a.mu.Unlock()
		return inner.Call(ctx, rpc)
	})
}

var (
	noDelay = retry.Backoff{Base: -1}
	always  = retry.Unlimited
)

// fixed is a backoff of d, always.
func fixed(d time.Duration) retry.Backoff { return retry.Backoff{Base: d, Max: d, Jitter: -1} }

func failsWith(code codes.Code, entries ...*echov1.MetadataEntry) *echov1.Plan {
	return &echov1.Plan{Failure: &echov1.Failure{Code: int32(code), Message: "as planned"}, Trailers: entries}
}

func pushback(values ...string) *echov1.MetadataEntry {
	return &echov1.MetadataEntry{Key: pushbackKey, Values: values}
}

// withRetryInfo adds to the failure of p that it is to be tried again after d.
func withRetryInfo(t *testing.T, p *echov1.Plan, d time.Duration) *echov1.Plan {
	t.Helper()
	info, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		t.Fatal(err)
	}
	p.Failure.Details = append(p.Failure.Details, info)
	return p
}

// A server that says when to come back is obeyed to the instant, up to a tenth
// later; one that says never, or later than can be waited for, is believed.
func TestRetryObeysTheServer(t *testing.T) {
	const attempts = 3
	plan := func(code codes.Code, values ...string) *echov1.Plan {
		if values == nil {
			return failsWith(code)
		}
		return failsWith(code, pushback(values...))
	}
	never := time.Duration(-1)
	for _, tt := range []struct {
		name  string
		plan  *echov1.Plan
		after time.Duration // between attempts; negative: there is only one
	}{
		{"backoff", plan(codes.Unavailable), 70 * time.Millisecond},
		{"pushback", plan(codes.Unavailable, "1500"), 1500 * time.Millisecond},
		{"pushback now", plan(codes.Unavailable, "0"), 0},
		{"pushback negative", plan(codes.Unavailable, "-1"), never},
		{"pushback unparsable", plan(codes.Unavailable, "soon"), never},
		{"pushback empty", plan(codes.Unavailable, ""), never},
		{"pushback twice", plan(codes.Unavailable, "10", "10"), never},
		{"pushback at the longest delay", plan(codes.Unavailable, "4000"), 4 * time.Second},
		{"pushback beyond the longest delay", plan(codes.Unavailable, "4001"), never},
		{"pushback of 300 million years", plan(codes.Unavailable, "9223372036854775807"), never},
		{"pushback too large to read", plan(codes.Unavailable, "9223372036854775808"), never},
		{"RetryInfo", withRetryInfo(t, plan(codes.Unavailable), 2*time.Second), 2 * time.Second},
		{"RetryInfo negative", withRetryInfo(t, plan(codes.Unavailable), -time.Second), never},
		{"RetryInfo huge", withRetryInfo(t, plan(codes.Unavailable), math.MaxInt64), never},
		{"pushback goes before RetryInfo", withRetryInfo(t, plan(codes.Unavailable, "100"), time.Second), 100 * time.Millisecond},
		{"pushback never goes before RetryInfo", withRetryInfo(t, plan(codes.Unavailable, "-1"), time.Second), never},
		{"full", plan(codes.ResourceExhausted), never},
		{"full with pushback", plan(codes.ResourceExhausted, "200"), 200 * time.Millisecond},
		{"full with RetryInfo", withRetryInfo(t, plan(codes.ResourceExhausted), 200*time.Millisecond), 200 * time.Millisecond},
		{"an answer with pushback", plan(codes.NotFound, "10"), never},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			came := newArrivals()
			w := newWorld(t, worldOf{
				client: interceptors.New(interceptors.Retry(retry.Config{
					MaxAttempts: attempts, Backoff: fixed(70 * time.Millisecond), MaxDelay: 4 * time.Second, Budget: always,
				})),
				server: interceptors.New(came.layer()),
			})
			r := w.do(t.Context(), interceptors.KindUnary, tt.plan)
			if err := r.wants(codes.Code(tt.plan.GetFailure().GetCode()), ""); err != nil || status.Convert(r.err).Message() != "as planned" {
				t.Fatalf("%v (%v), want the last attempt's status", err, r.err)
			}
			if tt.after < 0 {
				if len(came.at) != 1 || r.took != 0 {
					t.Fatalf("%d attempts in %v, want one", len(came.at), r.took)
				}
				return
			}
			if len(came.at) != attempts {
				t.Fatalf("%d attempts, want %d", len(came.at), attempts)
			}
			for i := 1; i < attempts; i++ {
				if gap := came.at[i] - came.at[i-1]; gap < tt.after || gap > tt.after+tt.after/10 {
					t.Errorf("attempt %d came after %v, want %v or up to a tenth later", i+1, gap, tt.after)
				}
			}
		})
	}
}

// No sleep outlives the deadline: what there is is returned, and at once.
func TestRetryDoesNotSleepBeyondTheDeadline(t *testing.T) {
	for name, plan := range map[string]*echov1.Plan{
		"backoff":   failsWith(codes.Unavailable),
		"pushback":  failsWith(codes.Unavailable, pushback("1000")),
		"RetryInfo": withRetryInfo(t, failsWith(codes.Unavailable), time.Second),
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Retry(retry.Config{Backoff: fixed(time.Second), Budget: always}))})
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			r := w.do(ctx, interceptors.KindUnary, plan)
			if err := r.wants(codes.Unavailable, ""); err != nil {
				t.Error(err)
			}
			// One second is slept, or a tenth more; a second one is not.
			if r.took < time.Second || r.took > 1100*time.Millisecond {
				t.Errorf("returned after %v, want 1s to 1.1s", r.took)
			}
		})
	}
}

func TestRetrySaysHowManyAttemptsWerePrevious(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers []interceptors.Layer
		want   []string
	}{
		{"one Retry", []interceptors.Layer{
			interceptors.Retry(retry.Config{MaxAttempts: 4, Backoff: noDelay, Budget: always}),
		}, []string{"", "1", "2", "3"}},
		{"two", []interceptors.Layer{
			interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: noDelay, Budget: always}),
			interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: noDelay, Budget: always}),
		}, []string{"", "1", "2", "3"}},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			came := newArrivals()
			w := newWorld(t, worldOf{client: interceptors.New(tt.layers...), server: interceptors.New(came.layer())})
			r := w.do(metadata.AppendToOutgoingContext(t.Context(), "mine", "here"), interceptors.KindUnary, failsWith(codes.Unavailable))
			if err := r.wants(codes.Unavailable, ""); err != nil {
				t.Error(err)
			}
			if !slices.Equal(came.previous, tt.want) {
				t.Errorf("the server was told %q, want %q", came.previous, tt.want)
			}
		})
	}
}

// The caller's metadata goes with every attempt, and is not changed.
func TestRetryKeepsMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []metadata.MD
		w := newWorld(t, worldOf{
			client: interceptors.New(interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always})),
			server: interceptors.New(turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				seen = append(seen, md)
				return inner.Call(ctx, rpc)
			})),
		})
		mine := metadata.Pairs("mine", "here", "mine", "twice")
		w.do(metadata.NewOutgoingContext(t.Context(), mine), interceptors.KindUnary, failsWith(codes.Unavailable))
		for i, md := range seen {
			if !slices.Equal(md.Get("mine"), []string{"here", "twice"}) {
				t.Errorf("attempt %d brought %v", i+1, md)
			}
		}
		if len(mine) != 1 || len(seen) != 3 {
			t.Errorf("%d attempts, after which the caller's metadata is %v", len(seen), mine)
		}
	})
}

// What the caller itself says of previous attempts, as one that passes on the
// metadata it received may, is put right.
func TestRetryCorrectsPreviousAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		came := newArrivals()
		w := newWorld(t, worldOf{client: interceptors.New(retrying(3)), server: interceptors.New(came.layer())})
		w.do(metadata.AppendToOutgoingContext(t.Context(), previousKey, "7"), interceptors.KindUnary, failsWith(codes.Unavailable))
		if want := []string{"7", "1", "2"}; !slices.Equal(came.previous, want) {
			t.Errorf("the server was told %q, want %q", came.previous, want)
		}
	})
}

// A RetryAfter of one's own is asked first, and then the server's word.
func TestRetryAfterOfOnesOwn(t *testing.T) {
	for said, want := range map[bool]time.Duration{true: time.Second, false: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			came := newArrivals()
			w := newWorld(t, worldOf{
				client: interceptors.New(interceptors.Retry(retry.Config{
					MaxAttempts: 2, Budget: always,
					RetryAfter: func(context.Context, error) (time.Duration, bool) { return time.Second, said },
				})),
				server: interceptors.New(came.layer()),
			})
			w.do(t.Context(), interceptors.KindUnary, failsWith(codes.Unavailable, pushback("3000")))
			if len(came.at) != 2 || came.at[1] < want || came.at[1] > want+want/10 {
				t.Errorf("attempts at %v, want the second one after %v", came.at, want)
			}
		})
	}
}

// RPC.Attempt counts on.
func TestRetryCountsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []int
		w := newWorld(t, worldOf{client: interceptors.New(
			interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always}),
			turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
				seen = append(seen, rpc.Attempt)
				return inner.Call(ctx, rpc)
			}),
		)})
		w.do(t.Context(), interceptors.KindUnary, failsWith(codes.Unavailable))
		if !slices.Equal(seen, []int{0, 1, 2}) {
			t.Errorf("attempts %v", seen)
		}
	})
}

// hanging is a layer of a server that lets its first attempts hang.
func hanging(attempts int64) interceptors.Layer {
	var n atomic.Int64
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		if n.Add(1) <= attempts {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return inner.Call(ctx, rpc)
	})
}

func TestRetryOfItsOwnTimeouts(t *testing.T) {
	const bound = 100 * time.Millisecond
	for _, tt := range []struct {
		name     string
		hang     int64
		deadline time.Duration // of the caller
		code     codes.Code
		reason   string
		took     time.Duration
	}{
		{"third attempt answers", 2, time.Hour, codes.OK, "", 2*bound + 2*10*time.Millisecond},
		{"none answers", 3, time.Hour, codes.DeadlineExceeded, "TIMEOUT", 3*bound + 2*10*time.Millisecond},
		{"caller's deadline in the second", 3, bound + bound/2, codes.DeadlineExceeded, "", bound + bound/2},
		{"caller's deadline before the second", 3, bound + 5*time.Millisecond, codes.DeadlineExceeded, "TIMEOUT", bound},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			w := newWorld(t, worldOf{
				client: interceptors.New(
					interceptors.Retry(retry.Config{Backoff: fixed(10 * time.Millisecond), Budget: always}),
					interceptors.Timeout(bound),
				),
				server: interceptors.New(hanging(tt.hang)),
			})
			ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
			defer cancel()
			r := w.do(ctx, interceptors.KindUnary, nil)
			if err := r.wants(tt.code, tt.reason); err != nil {
				t.Error(err)
			}
			if ours := tt.reason != ""; errors.Is(r.err, timeout.ErrTimeout) != ours {
				t.Errorf("%v matches timeout.ErrTimeout: %v, want %v", r.err, !ours, ours)
			}
			if r.took != tt.took {
				t.Errorf("took %v, want %v", r.took, tt.took)
			}
		})
	}
}

// A caller that gives up while Retry waits gets its own code, and the text of the
// last attempt's error.
func TestRetryEndedWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOf{client: interceptors.New(interceptors.Retry(retry.Config{Backoff: fixed(time.Second), Budget: always}))})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(300*time.Millisecond, cancel)
		r := w.do(ctx, interceptors.KindUnary, failsWith(codes.Unavailable))
		if err := r.wants(codes.Canceled, ""); err != nil {
			t.Error(err)
		}
		if r.took != 300*time.Millisecond {
			t.Errorf("took %v, want 300ms", r.took)
		}
		if got := status.Convert(r.err).Message(); got != "context canceled; last attempt: rpc error: code = Unavailable desc = as planned" {
			t.Errorf("the text is %q", got)
		}
		e, ok := errors.AsType[*retry.InterruptedError](r.err)
		if !ok || status.Code(e.Last) != codes.Unavailable || !errors.Is(r.err, context.Canceled) || errors.Is(r.err, turret.ErrNotReady) {
			t.Errorf("%#v does not lead to both errors", r.err)
		}
	})
}

// setting is a layer of a server that sets header and trailer to the number of
// the attempt.
func setting(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
	n := "first"
	if previous := metadata.ValueFromIncomingContext(ctx, previousKey); len(previous) == 1 {
		n = "after " + previous[0]
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("header-"+strings.ReplaceAll(n, " ", "-"), n, "header", n)); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("trailer-"+strings.ReplaceAll(n, " ", "-"), n, "trailer", n)); err != nil {
		return nil, err
	}
	return inner.Call(ctx, rpc)
}

// letting is a gate that lets so many calls in, and refuses the rest.
type letting struct {
	turret.Gate

	left atomic.Int64
}

func newLetting(n int64) *letting {
	g := &letting{}
	g.left.Store(n)
	return g
}

func (g *letting) Enter(context.Context) (turret.Ticket, error) {
	if g.left.Add(-1) < 0 {
		return turret.Ticket{}, &turret.Refusal{Layer: "letting", Reason: "ENOUGH", Err: errMine}
	}
	return turret.Ticket{}, nil
}

func (g *letting) Leave(turret.Ticket, turret.Outcome) {}

// The variables of call options are those of the attempt that the caller got.
func TestRetryDestinations(t *testing.T) {
	old := metadata.Pairs("old", "value")
	oldPeer := peer.Peer{LocalAddr: addr("old")}
	for _, tt := range []struct {
		name   string
		fails  int32 // attempts
		lets   int64 // attempts through a gate inside Retry
		code   codes.Code
		header string // empty: what it was before
	}{
		{"first succeeds", 0, 3, codes.OK, "first"},
		{"second succeeds", 1, 3, codes.OK, "after 1"},
		{"all fail", 3, 3, codes.Unavailable, "after 2"},
		{"second is refused", 3, 1, codes.ResourceExhausted, ""},
		{"all are refused", 3, 0, codes.ResourceExhausted, ""},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			w := newWorld(t, worldOf{
				client: interceptors.New(
					interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always}),
					interceptors.Admit(newLetting(tt.lets)),
				),
				server: interceptors.New(turret.Wrap(setting)),
			})
			header, trailer, from := old, old, oldPeer
			plan := &echov1.Plan{FlushHeaders: true}
			if tt.fails > 0 {
				plan.Failure = &echov1.Failure{Code: int32(codes.Unavailable), Attempts: tt.fails}
			}
			err := w.Conn.Invoke(t.Context(), method(interceptors.KindUnary), &request{Plan: plan}, new(response),
				grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))
			if status.Code(err) != tt.code {
				t.Fatalf("ended with %v, want %v", err, tt.code)
			}
			if tt.header == "" {
				if header.Get("old") == nil || trailer.Get("old") == nil || from.LocalAddr != oldPeer.LocalAddr {
					t.Errorf("the attempt that was refused has header %v, trailer %v and peer %v", header, trailer, from)
				}
				return
			}
			for _, md := range []struct {
				key string
				md  metadata.MD
			}{{"header", header}, {"trailer", trailer}} {
				want := md.key + "-" + strings.ReplaceAll(tt.header, " ", "-")
				if got := md.md.Get(md.key); !slices.Equal(got, []string{tt.header}) || md.md.Get(want) == nil || md.md.Get("old") != nil {
					t.Errorf("the %s is %v, want that of %q", md.key, md.md, tt.header)
				}
			}
			if from.Addr == nil || from.LocalAddr == oldPeer.LocalAddr {
				t.Errorf("the peer is %v", from)
			}
		})
	}
}

// The same for variables of layers outside Retry, which add options.
func TestRetryDestinationsOfLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trailer := metadata.Pairs("old", "value")
		w := newWorld(t, worldOf{
			client: interceptors.New(
				turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					return inner.Call(ctx, rpc.WithOptions(grpc.Trailer(&trailer)))
				}),
				retrying(2), interceptors.Admit(newLetting(1)),
			),
			server: interceptors.New(turret.Wrap(setting)),
		})
		if err := w.do(t.Context(), interceptors.KindUnary, failsWith(codes.Unavailable)).wants(codes.ResourceExhausted, "ENOUGH"); err != nil {
			t.Error(err)
		}
		if trailer.Get("old") == nil || trailer.Get("trailer") != nil {
			t.Errorf("the attempt that was refused has the trailer %v", trailer)
		}
	})
}

type addr string

func (a addr) Network() string { return "test" }
func (a addr) String() string  { return string(a) }

// What was refused below was not sent, and is tried again whatever its kind.
func TestRetryOfRefusals(t *testing.T) {
	for _, kind := range []turret.Kind{turret.KindOverloaded, turret.KindRateLimited, turret.KindUnavailable} {
		inBubble(t, kind.String(), func(t *testing.T) {
			var refused int
			came := newArrivals()
			w := newWorld(t, worldOf{
				client: interceptors.New(
					interceptors.Retry(retry.Config{Backoff: fixed(10 * time.Millisecond), Budget: always}),
					turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						if refused++; refused <= 2 {
							return nil, &turret.Refusal{Kind: kind, RetryAfter: time.Duration(refused-1) * time.Second}
						}
						return inner.Call(ctx, rpc)
					}),
				),
				server: interceptors.New(came.layer()),
			})
			r := w.do(t.Context(), interceptors.KindUnary, nil)
			if err := r.wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			// The first refusal does not know when to come back, the second one
			// does. Neither attempt was sent, so the one that was is the first.
			if r.took < 1010*time.Millisecond || r.took > 1110*time.Millisecond || !slices.Equal(came.previous, []string{""}) {
				t.Errorf("took %v, and the server heard of previous attempts %q", r.took, came.previous)
			}
		})
	}
}

// On a server nothing is run twice.
func TestRetryOnServer(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{server: interceptors.New(interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always}))})
			r := w.do(t.Context(), k, failsWith(codes.Unavailable))
			if err := r.wants(codes.Unavailable, ""); err != nil {
				t.Error(err)
			}
			if n := w.server.ran.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
		})
	}
}

// OnFinish runs once, with what the caller gets, when the stack has returned.
func TestOnFinishOfUnary(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers []interceptors.Layer
		plan   *echov1.Plan
		code   codes.Code
	}{
		{"no layer", nil, nil, codes.OK},
		{"success", []interceptors.Layer{interceptors.Timeout(time.Hour)}, nil, codes.OK},
		{"failure", []interceptors.Layer{interceptors.Timeout(time.Hour)}, failsWith(codes.NotFound), codes.NotFound},
		{"retried", []interceptors.Layer{interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always})}, failsWith(codes.Unavailable), codes.Unavailable},
		{"refused", []interceptors.Layer{interceptors.ConcurrencyLimit(0, limit.Queue{})}, nil, codes.ResourceExhausted},
		{"another error", []interceptors.Layer{turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			if _, err := inner.Call(ctx, rpc); err != nil {
				return nil, err
			}
			return nil, errMine
		})}, nil, codes.Unknown},
		{"no reply", []interceptors.Layer{endsWith(nil)}, nil, codes.Internal},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			inside := newWatch()
			w := newWorld(t, worldOf{client: interceptors.New(append([]interceptors.Layer{inside.layer()}, tt.layers...)...)})
			var heard [2][]error
			opts := []grpc.CallOption{}
			for i := range heard {
				opts = append(opts, grpc.OnFinish(func(err error) {
					if inside.n != 0 {
						t.Error("OnFinish ran before the stack had returned")
					}
					heard[i] = append(heard[i], err)
				}), grpc.WaitForReady(false))
			}
			r := w.do(t.Context(), interceptors.KindUnary, tt.plan, opts...)
			if err := r.wants(tt.code, ""); err != nil {
				t.Error(err)
			}
			for _, h := range heard {
				if len(h) != 1 || h[0] != r.err { //nolint:errorlint // the very error
					t.Errorf("OnFinish heard %v, want once %v", h, r.err)
				}
			}
		})
	}
}

// A watch counts the RPCs inside its layer. It is not for concurrent use.
type watch struct{ n int }

func newWatch() *watch { return new(watch) }

func (w *watch) layer() interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		w.n++
		defer func() { w.n-- }()
		return inner.Call(ctx, rpc)
	})
}

// A panic of the stack goes on in the caller's goroutine, and OnFinish is called
// at the end of the RPC.
func TestOnFinishAfterPanic(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("secret") }, "Goexit": runtime.Goexit} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(turret.Wrap(
				func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
					defer end()
					return inner.Call(ctx, rpc)
				}))})
			var heard []error
			r := w.do(t.Context(), interceptors.KindUnary, nil, grpc.OnFinish(func(err error) { heard = append(heard, err) }))
			if !r.exited || len(heard) != 1 || status.Code(heard[0]) != codes.Internal || strings.Contains(heard[0].Error(), "secret") {
				t.Errorf("exited %v, OnFinish heard %v", r.exited, heard)
			}
		})
	}
}

// The budget's bound holds at every retry, over the window that ends there,
// however the calls are spread.
func TestRetryBudgetUnderTotalFailure(t *testing.T) {
	for _, perSecond := range []int{1, 10, 1000} {
		for _, together := range []int{1, 20} { // calls at the same instant
			inBubble(t, fmt.Sprintf("%d per second, %d together", perSecond, together), func(t *testing.T) {
				testBudget(t, perSecond, together)
			})
		}
	}
}

func testBudget(t *testing.T, perSecond, together int) {
	t.Helper()
	c := retry.BudgetConfig{Ratio: 0.2, MinPerSecond: 1, Window: 2 * time.Second}
	began := time.Now()
	var mu sync.Mutex
	var calls, retries []time.Duration
	note := func(at *[]time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		*at = append(*at, time.Since(began))
	}
	w := newWorld(t, worldOf{client: interceptors.New(
		turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			note(&calls)
			return inner.Call(ctx, rpc)
		}),
		interceptors.Retry(retry.Config{
			MaxAttempts: 5, Backoff: noDelay, Budget: retry.NewBudget(c),
			OnRetry: func(context.Context, int, error, time.Duration) { note(&retries) },
		}),
	)})
	n := max(3*perSecond*int(c.Window/time.Second), 20) // for three windows
	interval := time.Second / time.Duration(perSecond)
	var all sync.WaitGroup
	for range n / together {
		for range together {
			all.Go(func() {
				err := w.Conn.Invoke(t.Context(), method(interceptors.KindUnary), &request{Plan: failsWith(codes.Unavailable)}, new(response))
				if status.Code(err) != codes.Unavailable {
					t.Errorf("ended with %v", err)
				}
			})
		}
		time.Sleep(interval * time.Duration(together))
	}
	all.Wait()
	within := func(at []time.Duration, end time.Duration) (n int) {
		for _, a := range at {
			if a > end-c.Window && a <= end {
				n++
			}
		}
		return n
	}
	// Calls of the same instant are all counted as before the retry: the budget
	// may have seen fewer, and allowed less.
	for _, at := range retries {
		made, paid := within(retries, at), c.Ratio*float64(within(calls, at))+float64(c.MinPerSecond)*c.Window.Seconds()
		if float64(made) > paid {
			t.Fatalf("%d retries in the window that ends at %v, of which the calls in it pay for %.1f", made, at, paid)
		}
	}
	total := int(w.server.ran.Load())
	if total != len(calls)+len(retries) {
		t.Errorf("%d calls and %d retries made %d attempts", len(calls), len(retries), total)
	}
	if least := float64(len(calls)) * c.Ratio * 0.8; float64(len(retries)) < least {
		t.Errorf("%d retries of %d calls, want at least %.0f", len(retries), len(calls), least)
	}
}

// durationPlan is a plan in which the server waits before it answers.
func durationPlan(d time.Duration) *echov1.Plan { return &echov1.Plan{Delay: durationpb.New(d)} }
