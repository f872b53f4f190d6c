package interceptors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// TestBreaker opens a breaker by failures, is refused without a word to the
// server, and closes it again by a probe.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stack := interceptors.New(interceptors.Breaker(breaker.Config{}))
		pair := wire.Start(t, wire.Config{
			Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("a")) },
			Dial:     stack.DialOptions(),
		})
		client := echov1.NewEchoServiceClient(pair.Conn)
		call := func(code codes.Code) error {
			plan := &echov1.Plan{}
			if code != codes.OK {
				plan.Failure = &echov1.Failure{Code: int32(code)}
			}
			_, err := client.Unary(context.WithoutCancel(t.Context()), &echov1.UnaryRequest{Plan: plan})
			return err
		}
		for range 100 { // answers of a healthy server
			if err := call(codes.NotFound); status.Code(err) != codes.NotFound {
				t.Fatalf("error %v, want NOT_FOUND", err)
			}
		}
		var err error
		for range 100 {
			if err = call(codes.Unavailable); errors.Is(err, breaker.ErrOpen) {
				break
			}
		}
		refusal, ok := errors.AsType[*turret.Refusal](err)
		if !ok || refusal.Reason != turret.ReasonCircuitOpen || refusal.RetryAfter <= 0 || status.Code(err) != codes.Unavailable {
			t.Fatalf("after 100 failures: error %v, want a refusal with reason CIRCUIT_OPEN", err)
		}
		time.Sleep(refusal.RetryAfter + time.Millisecond)
		for range 2 {
			if err := call(codes.OK); err != nil {
				t.Errorf("after the period: %v", err)
			}
		}
	})
}
