package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// A journal is the events of Observe layers, in their order.
type journal struct {
	t  *testing.T
	mu sync.Mutex

	lines []string
}

// observe returns an Observe that writes into the journal: its name, and the
// event.
func (j *journal) observe(name string) interceptors.Layer {
	return interceptors.Observe(func(ctx context.Context, e interceptors.Event) {
		if e.Kind == interceptors.EventEnd {
			return
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if e.RPC == nil || e.RPC.Method == "" || ctx == nil || e.Err == nil {
			j.t.Errorf("the event %+v lacks something", e)
		}
		var line strings.Builder
		fmt.Fprintf(&line, "%s: %v", name, e.Kind)
		for _, part := range []string{e.Layer, e.Reason} {
			if part != "" {
				line.WriteString(" " + part)
			}
		}
		if e.Attempt > 0 {
			fmt.Fprintf(&line, " %d after %v", e.Attempt, e.Delay)
		}
		if e.Panic != nil {
			fmt.Fprintf(&line, " of %v", e.Panic)
		}
		j.lines = append(j.lines, line.String())
	})
}

func (j *journal) wants(lines ...string) {
	j.t.Helper()
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, lines) {
		j.t.Errorf("observed\n  %q, want\n  %q", j.lines, lines)
	}
}

var (
	explodes = turret.Wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) { panic("secret") })
	calm     = interceptors.Recover(silently)
)

// retries is a Retry with two attempts, 10 ms apart.
func retries() interceptors.Layer {
	return interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: fixed(10 * time.Millisecond), Budget: always})
}

// cancelsAfter is a layer that cancels RPCs after d.
func cancelsAfter(d time.Duration) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer time.AfterFunc(d, cancel).Stop()
		return inner.Call(ctx, rpc)
	})
}

// Every observer outside of an event gets it once.
func TestObserve(t *testing.T) {
	slow := durationPlan(time.Hour)
	for _, tt := range []struct {
		name   string
		layers func(j *journal) []interceptors.Layer
		plan   *echov1.Plan
		code   codes.Code
		want   []string
	}{
		{"success", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), retries(), interceptors.Timeout(time.Second), j.observe("b")}
		}, nil, codes.OK, nil},
		{"answers", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), retries()}
		}, failsWith(codes.NotFound), codes.NotFound, nil},
		{"refusal", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), full(), j.observe("b")}
		}, nil, codes.ResourceExhausted, []string{"a: refused limit LIMIT_FULL"}},
		{"refusal, nested", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), interceptors.InContext(), j.observe("b"), full()}
		}, nil, codes.ResourceExhausted, []string{"b: refused limit LIMIT_FULL", "a: refused limit LIMIT_FULL"}},
		{"refusal, retried", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), retries(), full()}
		}, nil, codes.ResourceExhausted, []string{
			"a: refused limit LIMIT_FULL", "a: retry retry LIMIT_FULL 1 after 10ms", "a: refused limit LIMIT_FULL",
		}},
		{"refusal, given up before the retry", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), cancelsAfter(5 * time.Millisecond), retries(), full()}
		}, nil, codes.Canceled, []string{
			"a: refused limit LIMIT_FULL", "a: retry retry LIMIT_FULL 1 after 10ms",
		}},
		{"refusal, observed inside and outside Retry", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), retries(), j.observe("b"), full()}
		}, nil, codes.ResourceExhausted, []string{
			"b: refused limit LIMIT_FULL", "a: refused limit LIMIT_FULL", "a: retry retry LIMIT_FULL 1 after 10ms",
			"b: refused limit LIMIT_FULL", "a: refused limit LIMIT_FULL",
		}},
		{"refusal after something sent", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), retries(), interceptors.Admit(newLetting(1))}
		}, failsWith(codes.Unavailable), codes.ResourceExhausted, []string{
			"a: retry retry UNAVAILABLE 1 after 10ms", "a: refused letting ENOUGH",
		}},
		{"gave up in line", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), interceptors.Timeout(time.Second), interceptors.ConcurrencyLimit(0, limit.Queue{Max: 1})}
		}, nil, codes.DeadlineExceeded, []string{"a: timeout timeout TIMEOUT"}},
		{"retry", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), j.observe("b"), retries(), j.observe("c")}
		}, failsWith(codes.Unavailable), codes.Unavailable, []string{
			"b: retry retry UNAVAILABLE 1 after 10ms", "a: retry retry UNAVAILABLE 1 after 10ms",
		}},
		{"timeout", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), interceptors.Timeout(time.Second), j.observe("b")}
		}, slow, codes.DeadlineExceeded, []string{"a: timeout timeout TIMEOUT"}},
		{"timeout, retried", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), retries(), j.observe("b"), interceptors.Timeout(time.Second)}
		}, slow, codes.DeadlineExceeded, []string{
			"b: timeout timeout TIMEOUT", "a: timeout timeout TIMEOUT", "a: retry retry DEADLINE_EXCEEDED 1 after 10ms",
			"b: timeout timeout TIMEOUT", "a: timeout timeout TIMEOUT",
		}},
		{"panic that is caught", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{j.observe("a"), calm, j.observe("b"), explodes}
		}, nil, codes.Internal, []string{"b: panic", "a: panic recover of secret"}},
		{"panic that passes", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{calm, j.observe("a"), j.observe("b"), explodes}
		}, nil, codes.Internal, []string{"b: panic", "a: panic"}},
		{"not for this method", func(j *journal) []interceptors.Layer {
			return []interceptors.Layer{interceptors.For("/a/*", j.observe("a")), full()}
		}, nil, codes.ResourceExhausted, nil},
	} {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				j := &journal{t: t}
				w := newWorld(t, worldOf{client: interceptors.New(tt.layers(j)...)})
				if err := w.do(t.Context(), k, tt.plan).wants(tt.code, ""); err != nil {
					t.Error(err)
				}
				j.wants(tt.want...)
			})
		}
	}
}

// On a server the events are the same, with its own refusals only.
func TestObserveOnServer(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			j := &journal{t: t}
			w := newWorld(t, worldOf{
				client: interceptors.New(j.observe("client")),
				server: interceptors.New(
					j.observe("a"), calm, interceptors.Timeout(time.Second),
					interceptors.RateLimit(limit.Rate{N: 2, Per: time.Hour}, limit.Queue{}),
					retries(),
				),
			})
			_ = w.do(t.Context(), k, durationPlan(time.Hour))
			r := w.start(holding(t.Context()), k, nil)
			(<-w.server.held).release <- &turret.Refusal{Layer: "downstream", Reason: "R"}
			<-r.done
			_ = w.do(t.Context(), k, nil)
			j.wants("a: warning retry WRONG_SIDE", "a: timeout timeout TIMEOUT", "a: refused limit RATE_LIMITED")
		})
	}
}

func TestNames(t *testing.T) {
	wrapping := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		reply, err := inner.Call(ctx, rpc)
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		return reply, err
	})
	named := interceptors.Named
	of := turret.Stack[*interceptors.RPC, any]
	for _, tt := range []struct {
		name   string
		layers []interceptors.Layer
		layer  string // of the refusal
		want   []string
	}{
		{"a limit", []interceptors.Layer{named("x", full())}, "x", []string{"refused x LIMIT_FULL"}},
		{"the outer of two", []interceptors.Layer{named("x", full()), named("y", full())}, "x", []string{"refused x LIMIT_FULL"}},
		{"the inner of two", []interceptors.Layer{named("x", interceptors.ConcurrencyLimit(1, limit.Queue{})), named("y", full())}, "y", []string{"refused y LIMIT_FULL"}},
		{"what is inside keeps its name", []interceptors.Layer{named("x", passing), full()}, "limit", []string{"refused limit LIMIT_FULL"}},
		{"what is inside keeps its given name", []interceptors.Layer{named("x", passing), named("y", full())}, "y", []string{"refused y LIMIT_FULL"}},
		{"name around a name", []interceptors.Layer{named("x", named("y", full()))}, "x", []string{"refused x LIMIT_FULL"}},
		{"name around a stack", []interceptors.Layer{named("x", of(passing, full()))}, "x", []string{"refused x LIMIT_FULL"}},
		{"name around For", []interceptors.Layer{named("x", interceptors.For("/*", named("y", full())))}, "x", []string{"refused x LIMIT_FULL"}},
		{"name in For", []interceptors.Layer{interceptors.For("/*", named("y", full()))}, "y", []string{"refused y LIMIT_FULL"}},
		{"For of others", []interceptors.Layer{named("x", interceptors.For("/a/*", full())), full()}, "limit", []string{"refused limit LIMIT_FULL"}},
		{"wrapped by its own", []interceptors.Layer{named("x", of(wrapping, full()))}, "x", []string{"refused x LIMIT_FULL"}},
		{"wrapped by another", []interceptors.Layer{named("x", wrapping), full()}, "limit", []string{"refused limit LIMIT_FULL"}},
		{"wrapped by another with two names", []interceptors.Layer{named("x", named("y", wrapping)), full()}, "limit", []string{"refused limit LIMIT_FULL"}},
		{"wrapped by another name inside", []interceptors.Layer{named("x", of(named("y", wrapping), full()))}, "x", []string{"refused x LIMIT_FULL"}},
		{"Retry", []interceptors.Layer{named("x", retries()), full()}, "limit", []string{
			"refused limit LIMIT_FULL", "retry x LIMIT_FULL 1 after 10ms", "refused limit LIMIT_FULL",
		}},
		{"Retry with two names", []interceptors.Layer{named("x", named("y", retries())), named("z", full())}, "z", []string{
			"refused z LIMIT_FULL", "retry x LIMIT_FULL 1 after 10ms", "refused z LIMIT_FULL",
		}},
		{"Retry and limit under one name", []interceptors.Layer{named("x", of(retries(), full()))}, "x", []string{
			"refused x LIMIT_FULL", "retry x LIMIT_FULL 1 after 10ms", "refused x LIMIT_FULL",
		}},
		{"Timeout", []interceptors.Layer{named("x", of(interceptors.Timeout(time.Second), waiting))}, "", []string{"timeout x TIMEOUT"}},
		{"Timeout inside", []interceptors.Layer{named("x", passing), interceptors.Timeout(time.Second), waiting}, "", []string{"timeout timeout TIMEOUT"}},
		{"Recover", []interceptors.Layer{named("x", calm), explodes}, "", []string{"panic x of secret"}},
	} {
		for _, observed := range []bool{true, false} {
			inBubble(t, fmt.Sprintf("%s/observed %v", tt.name, observed), func(t *testing.T) {
				j := &journal{t: t}
				layers := tt.layers
				if observed {
					layers = append([]interceptors.Layer{j.observe("o")}, layers...)
					var want []string
					for _, line := range tt.want {
						want = append(want, "o: "+line)
					}
					defer j.wants(want...)
				}
				err := invoke(t.Context(), interceptors.New(layers...), nil, succeeds)
				refusal, ok := errors.AsType[*turret.Refusal](err)
				if ok != (tt.layer != "") || ok && refusal.Layer != tt.layer {
					t.Errorf("ended with the refusal %v (%v), want one of %q", refusal, err, tt.layer)
				}
				if ok && (!errors.Is(err, limit.ErrFull) || !errors.Is(err, turret.ErrNotReady) || interceptors.Code(err) != codes.ResourceExhausted) {
					t.Errorf("%v has lost something", err)
				}
			})
		}
	}
}

// A name is given to a copy: the refusal belongs to the limit, which returns it
// to others too.
func TestNameOfSharedLayer(t *testing.T) {
	shared := full()
	layerOf := func(s *interceptors.Stack) string {
		refusal, _ := errors.AsType[*turret.Refusal](invoke(t.Context(), s, nil, succeeds))
		return refusal.Layer
	}
	x, y, plain := interceptors.Named("x", shared), interceptors.Named("y", shared), interceptors.New(shared)
	got := []string{layerOf(interceptors.New(x)), layerOf(interceptors.New(y)), layerOf(plain), layerOf(interceptors.New(x, y))}
	if want := []string{"x", "y", "limit", "x"}; !slices.Equal(got, want) {
		t.Errorf("refused by %q, want %q", got, want)
	}
	if text := interceptors.Status(invoke(t.Context(), interceptors.New(x), nil, succeeds)).Message(); text != "x: no room" {
		t.Errorf("the status says %q", text)
	}
}

func TestEventKindNames(t *testing.T) {
	got := fmt.Sprint(interceptors.EventRefused, interceptors.EventRetry, interceptors.EventHedge, interceptors.EventTimeout, interceptors.EventPanic, interceptors.EventKind(0))
	if want := "refused retry hedge timeout panic EventKind(0)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
