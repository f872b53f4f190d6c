package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// Readiness takes nothing: calls of Ready on a stack under full load cost no RPC its
// place, its token or its turn.

// ended returns a context that has ended: Ready with it does not wait.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// poll asks s until the test ends: again and again without waiting, and waiting
// each time until it is ready.
func poll(t *testing.T, s *interceptors.Stack) {
	ctx, cancel := context.WithCancel(t.Context())
	var polls sync.WaitGroup
	for range 3 {
		for _, asking := range []context.Context{ended(), ctx} {
			polls.Go(func() {
				for ctx.Err() == nil {
					_ = s.Ready(asking)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
	}
	t.Cleanup(func() {
		cancel()
		polls.Wait()
	})
}

// schedule makes RPCs of one second each, all at once, through a stack with
// gate on side s, as many as it has room for inside and in line, and returns when each of them was over, in the order in which
// they were started.
func schedule(t *testing.T, gate turret.Gate, k interceptors.Kind, s interceptors.Side, polled bool) (over []time.Duration, err error) {
	t.Helper()
	stack := interceptors.New(interceptors.Admit(gate))
	of := worldOf{client: stack}
	if s == interceptors.SideServer {
		of = worldOf{server: stack}
	}
	w := newWorld(t, of)
	if polled {
		poll(t, stack)
	}
	var rpcs []*rpc
	for range 7 {
		rpcs = append(rpcs, w.start(t.Context(), k, &echov1.Plan{Delay: durationpb.New(time.Second)}))
		synctest.Wait() // and so their order in the line is that of their start
	}
	for _, r := range rpcs {
		<-r.done
		err = errors.Join(err, r.wants(codes.OK, ""))
		over = append(over, r.took)
	}
	return over, err
}

func seconds(n ...int) (s []time.Duration) {
	for _, n := range n {
		s = append(s, time.Duration(n)*time.Second)
	}
	return s
}

var scheduledGates = []struct {
	name string
	gate func() turret.Gate
	over []time.Duration
}{
	{"concurrency", func() turret.Gate {
		return limit.NewConcurrency(2, limit.Queue{Max: 5})
	}, seconds(1, 1, 2, 2, 3, 3, 4)},
	{"rate", func() turret.Gate {
		return limit.NewTokenBucket(limit.Rate{N: 1, Per: 2 * time.Second, Burst: 2}, limit.Queue{Max: 5})
	}, seconds(1, 1, 3, 5, 7, 9, 11)},
}

func TestReadyTakesNothing(t *testing.T) {
	for _, g := range scheduledGates {
		for _, s := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			for _, k := range kinds {
				for _, polled := range []bool{false, true} {
					inBubble(t, fmt.Sprintf("%s/%v/%v/polled %t", g.name, s, k, polled), func(t *testing.T) {
						over, err := schedule(t, g.gate(), k, s, polled)
						if err != nil || !slices.Equal(over, g.over) {
							t.Errorf("the RPCs were over after %v, want %v; %v", over, g.over, err)
						}
					})
				}
			}
		}
	}
}

// A gate whose Ready takes something, if only for a moment, does not pass.
func TestReadyThatTakesSomethingIsNoticed(t *testing.T) {
	for _, g := range scheduledGates {
		inBubble(t, g.name, func(t *testing.T) {
			over, err := schedule(t, greedyGate{g.gate()}, interceptors.KindUnary, interceptors.SideClient, true)
			if err == nil && slices.Equal(over, g.over) {
				t.Error("the RPCs were over as if nobody had asked")
			}
		})
	}
}

type greedyGate struct{ turret.Gate }

func (g greedyGate) Ready(ctx context.Context) error {
	ticket, err := g.TryEnter(ctx)
	if err == nil {
		time.Sleep(time.Millisecond)
		g.Leave(ticket, turret.Success)
	}
	return g.Gate.Ready(ctx)
}

// Ready tells of the gates outermost first, of what follows a For, and of all of
// them while RPCs of any kind are inside.
func TestReadyTellsOfRoom(t *testing.T) {
	one := func() interceptors.Layer { return interceptors.ConcurrencyLimit(1, limit.Queue{}) }
	tests := []struct {
		name  string
		layer interceptors.Layer
		ready bool // while an RPC is inside
	}{
		{"limit", one(), false},
		{"limit inside another that has room", turret.Stack(interceptors.ConcurrencyLimit(2, limit.Queue{}), one()), false},
		{"limit inside other layers", turret.Stack(interceptors.Recover(), interceptors.Timeout(time.Hour), interceptors.InContext(), interceptors.Named("n", one())), false},
		{"limit inside a For", interceptors.For("/*", one()), true},
		{"limit behind a For", turret.Stack(interceptors.For("/*", one()), one()), false},
		{"limit inside a LoadShed", turret.Stack(interceptors.LoadShed(), one()), true},
		{"no limit", interceptors.Recover(), true},
	}
	for _, tt := range tests {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				stack := interceptors.New(tt.layer)
				w := newWorld(t, worldOf{client: stack})
				if err := stack.Ready(ended()); err != nil {
					t.Errorf("Ready of an empty stack: %v", err)
				}
				release, err := w.hold(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				err = stack.Ready(ended())
				if (err == nil) != tt.ready || err != nil && !errors.Is(err, turret.ErrNotReady) {
					t.Errorf("Ready with an RPC inside: %v, want ready %t", err, tt.ready)
				}
				waited := errors.New("Ready has not returned")
				go func() { waited = stack.Ready(t.Context()) }()
				synctest.Wait()
				if (waited == nil) != tt.ready {
					t.Errorf("Ready that may wait, with an RPC inside: %v, want ready %t", waited, tt.ready)
				}
				if err := release(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if waited != nil {
					t.Errorf("Ready that waited: %v", waited)
				}
			})
		}
	}
}
