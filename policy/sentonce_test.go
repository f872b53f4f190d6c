package policy_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/policy"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A ledger has the runs of handlers, by the x-id of their RPC: how many there
// were, and how many ended by asking for another attempt.
type ledger struct {
	mu         sync.Mutex
	runs, asks map[string]int
	pushes     map[string]bool // RPCs whose trailers have a pushback
}

// note counts a run, and returns what is to be called with its error.
func (l *ledger) note(ctx context.Context) (ended func(error)) {
	id := strings.Join(metadata.ValueFromIncomingContext(ctx, "x-id"), "")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[id]++
	if l.pushes[id] {
		l.asks[id]++
	}
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, d := range status.Convert(err).Details() {
			if _, asks := d.(*errdetails.RetryInfo); asks && !l.pushes[id] {
				l.asks[id]++
			}
		}
	}
}

// A trial is a server and a client with policies, whose handlers are counted.
type trial struct {
	*generator

	t      *testing.T
	policy *policy.Policy
	ledger ledger
	world  world
}

func newTrial(t *testing.T, g *generator) *trial {
	tr := &trial{generator: g, t: t}
	tr.ledger = ledger{runs: map[string]int{}, asks: map[string]int{}, pushes: map[string]bool{}}
	tr.policy = compile(t, g.policy(), policy.Config{})
	server := interceptors.New(interceptors.Recover(func(context.Context, *interceptors.RPC, any, []byte) {}), tr.policy.Server())
	tr.world.pair = wire.Start(t, wire.Config{
		Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("echo")) },
		Dial:     interceptors.New(tr.policy.Client()).DialOptions(),
		Server: append(server.ServerOptions(),
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				ended := tr.ledger.note(ctx)
				reply, err := next(ctx, req)
				ended(err)
				return reply, err
			}),
			grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				ended := tr.ledger.note(s.Context())
				err := next(srv, s)
				ended(err)
				return err
			})),
	})
	tr.world.client = echov1.NewEchoServiceClient(tr.world.pair.Conn)
	return tr
}

// plan makes a random plan. pushes reports whether its trailers ask for another
// attempt.
func (tr *trial) plan() (plan *echov1.Plan, pushes bool) {
	plan = new(echov1.Plan)
	if tr.chance(0.6) {
		plan.Delay = durationpb.New(time.Duration(tr.IntN(120)) * time.Millisecond)
	}
	if tr.chance(0.2) {
		return plan, false
	}
	plan.Failure = &echov1.Failure{Code: int32(1 + tr.IntN(16)), Attempts: int32(tr.IntN(4))}
	switch tr.IntN(8) {
	case 0:
		plan.Failure.Panic = "a fault"
	case 1:
		plan.Failure.Code = int32(codes.Unavailable)
		info, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
		if err != nil {
			tr.t.Fatal(err)
		}
		plan.Failure.Details = append(plan.Failure.Details, info)
	case 2:
		value := tr.oneOf("5", "0", "-1", "soon")
		plan.Trailers = append(plan.Trailers, &echov1.MetadataEntry{Key: "grpc-retry-pushback-ms", Values: []string{value}})
		pushes = value == "5" || value == "0"
	}
	return plan, pushes
}

// call makes an RPC with random faults: a caller that gives up among them.
func (tr *trial) call(ctx context.Context, n int) func() {
	plan, pushes := tr.plan()
	id := strconv.Itoa(n)
	tr.ledger.mu.Lock()
	tr.ledger.pushes[id] = pushes
	tr.ledger.mu.Unlock()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-id", id)
	k, cancel := kinds[tr.IntN(len(kinds))], context.CancelFunc(func() {})
	if tr.chance(0.5) {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(1+tr.IntN(200))*time.Millisecond)
	}
	return func() {
		defer cancel()
		_ = tr.world.call(ctx, k, plan)
	}
}

// run makes RPCs, several at a time, while connections break and policies are
// loaded.
func (tr *trial) run(rounds int) {
	for n := range rounds {
		var calls sync.WaitGroup
		for i := range 1 + tr.IntN(6) {
			calls.Go(tr.call(tr.t.Context(), 10*n+i))
		}
		time.Sleep(time.Duration(tr.IntN(30)) * time.Millisecond)
		switch tr.IntN(4) {
		case 0:
			tr.world.pair.Cut()
		case 1:
			load(tr.t, tr.policy, tr.generator.policy())
		}
		calls.Wait()
	}
	synctest.Wait()
}

// again returns the RPCs of which a request was sent again although no handler
// asked for that.
func (tr *trial) again() (ids []string) {
	for id, runs := range tr.ledger.runs {
		if runs > 1+tr.ledger.asks[id] {
			ids = append(ids, fmt.Sprintf("%s (%d runs, %d asked)", id, runs, tr.ledger.asks[id]))
		}
	}
	return ids
}

// Invariant: whatever the policies and the faults, a request that reached a handler
// is sent again only if the method is idempotent, resend is ALWAYS, or the server
// asks for it.
func TestNothingIsSentTwiceThatMustNotBe(t *testing.T) {
	asked := 0
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, newGenerator(seed))
				tr.run(12)
				if ids := tr.again(); len(ids) > 0 {
					t.Errorf("sent again: %v\n%s", ids, tr.policy.Document().Source)
				}
				for id, runs := range tr.ledger.runs {
					asked += min(runs-1, tr.ledger.asks[id])
				}
			})
		})
	}
	if asked == 0 {
		t.Error("no handler that asked for another attempt got one: the policies do not retry")
	}
}

// The policies and the faults of the test above do send requests twice where it is
// allowed.
func TestWhatMayBeSentTwiceIs(t *testing.T) {
	again := 0
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			g := newGenerator(seed)
			g.twice = true
			tr := newTrial(t, g)
			tr.run(12)
			again += len(tr.again())
			tr.world.pair.Stop()
		})
	}
	if again == 0 {
		t.Error("no request was sent twice")
	}
}
