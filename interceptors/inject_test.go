package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/fault"
	"github.com/turret-go/turret/interceptors"
)

func injecting(t *testing.T, err error) *fault.Injector {
	i := fault.New()
	if err := i.Set(fault.Rule{ErrShare: 1, Err: err}, time.Hour); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Clear)
	return i
}

// An injected fault has the code of the rule's error and the reason
// FAULT_INJECTED, on every kind of RPC, and does not look unsent.
func TestInjectedStatus(t *testing.T) {
	for want, err := range map[codes.Code]error{
		codes.Unavailable: nil, codes.Internal: status.Error(codes.Internal, "mine"), codes.Unknown: errMine,
		codes.ResourceExhausted: &turret.Refusal{Kind: turret.KindRateLimited},
	} {
		s := interceptors.Inject(injecting(t, err))(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) {
			t.Error("the RPC is sent")
			return nil, nil
		}))
		for _, k := range []interceptors.Kind{interceptors.KindUnary, interceptors.KindBidiStream} {
			_, got := s.Call(t.Context(), &interceptors.RPC{Kind: k})
			details := interceptors.Status(got).Details()
			info, ok := details[len(details)-1].(*errdetails.ErrorInfo)
			if !ok || info.GetReason() != fault.ReasonInjected || info.GetDomain() != interceptors.Domain {
				t.Errorf("%v: details %v", err, details)
			}
			if interceptors.Code(got) != want || !errors.Is(got, fault.ErrInjected) || errors.Is(got, turret.ErrNotReady) {
				t.Errorf("%v is injected as %v, want %s", err, got, want)
			}
		}
	}
}

// Each attempt is drawn anew, and counts as sent.
func TestInjectInsideRetry(t *testing.T) {
	i := injecting(t, nil)
	s := interceptors.New(retrying(3), interceptors.Inject(i))
	if err := invoke(t.Context(), s, nil, succeeds); status.Code(err) != codes.Unavailable {
		t.Errorf("while on: %v", err)
	}
	if got := fmt.Sprint(turret.Describe(s, 0)); !strings.Contains(got, "FAULT_INJECTED 3") {
		t.Errorf("described as %s", got)
	}
	i.Clear()
	if err := invoke(t.Context(), s, nil, succeeds); err != nil {
		t.Errorf("after Clear: %v", err)
	}
}

// A layer without a rule adds no allocation to an RPC.
func TestInjectOffAllocatesNothing(t *testing.T) {
	s := interceptors.Inject(fault.New())(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) { return nil, nil }))
	ctx, rpc := t.Context(), &interceptors.RPC{}
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, rpc) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func ExampleInject() {
	injector := fault.New()
	stack := interceptors.New(interceptors.ForAny([]string{"/shop.Orders/*"}, interceptors.Inject(injector)))
	server := grpc.NewServer(stack.ServerOptions()...)
	defer server.Stop()

	// Later, by an operator: a third of the orders fails for ten minutes.
	err := injector.Set(fault.Rule{ErrShare: 0.33, Err: status.Error(codes.Unavailable, "a drill")}, 10*time.Minute)
	fmt.Println(err, injector)
	injector.Clear()
	// Output: <nil> fault: 0 % delayed by 0s, 33 % failed, for 10m0s
}
