package interceptors_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// errors.Is(err, turret.ErrNotReady) is true exactly when nothing was sent.
// (TestHandlerRelaysRefusal has the handlers that relay such an error.)
func TestNotSent(t *testing.T) {
	type maker = func() interceptors.Layer // for each RPC anew: layers keep state
	of := func(makers ...maker) []maker { return makers }
	again := func() interceptors.Layer {
		return interceptors.Retry(retry.Config{Backoff: fixed(10 * time.Millisecond), Budget: always})
	}
	line := func() interceptors.Layer { return interceptors.ConcurrencyLimit(0, limit.Queue{Max: limit.Unbounded}) }
	bound := func() interceptors.Layer { return interceptors.Timeout(time.Second) }
	lets := func(n int64) maker {
		return func() interceptors.Layer { return interceptors.Admit(newLetting(n)) }
	}
	named := func(m maker) maker { return func() interceptors.Layer { return interceptors.Named("n", m()) } }
	observe := func() interceptors.Layer { return interceptors.Observe(func(context.Context, interceptors.Event) {}) }
	deny := func() interceptors.Layer {
		return interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) { return nil, errMine })
	}
	pass := func() interceptors.Layer { return turret.Stack[*interceptors.RPC, any]() }
	// firstThen sends the first attempt through one layer, and those after it
	// through another.
	firstThen := func(first, then maker) maker {
		return func() interceptors.Layer {
			return func(inner interceptors.Service) interceptors.Service {
				a, b := first()(inner), then()(inner)
				return turret.ServiceFunc(func(ctx context.Context, rpc *interceptors.RPC) (any, error) {
					if rpc.Attempt == 0 {
						return a.Call(ctx, rpc)
					}
					return b.Call(ctx, rpc)
				})
			}
		}
	}
	for _, tt := range []struct {
		name   string
		layers []maker
		code   codes.Code
		reason string
		sent   int64         // attempts
		cancel time.Duration // after which the caller cancels; 0: never
	}{
		{"refused", of(lets(0)), codes.ResourceExhausted, "ENOUGH", 0, 0},
		{"refused, Retry", of(again, lets(0)), codes.ResourceExhausted, "ENOUGH", 0, 0},
		{"refused, other layers", of(interceptors.InContext, bound, observe, named(lets(0))), codes.ResourceExhausted, "ENOUGH", 0, 0},
		{"sent, then refused", of(again, lets(1)), codes.ResourceExhausted, "ENOUGH", 1, 0},
		{"sent, then refused, other layers", of(bound, observe, named(again), named(lets(1))), codes.ResourceExhausted, "ENOUGH", 1, 0},
		{"sent, then refused, in two Retries", of(again, again, lets(1)), codes.ResourceExhausted, "ENOUGH", 1, 0},
		{"refused, then sent", of(again, firstThen(lets(0), pass)), codes.Unavailable, "", 2, 0},
		{"gave up in line", of(line), codes.Canceled, "", 0, time.Second},
		{"gave up in line, Retry", of(again, line), codes.Canceled, "", 0, time.Second},
		{"timed out in line", of(bound, line), codes.DeadlineExceeded, "TIMEOUT", 0, 0},
		{"timed out in line, Timeout outside Retry", of(bound, again, line), codes.DeadlineExceeded, "TIMEOUT", 0, 0},
		{"timed out in line, Timeout inside Retry", of(again, bound, line), codes.DeadlineExceeded, "TIMEOUT", 0, 0},
		{"sent, then timed out in line", of(again, bound, firstThen(pass, line)), codes.DeadlineExceeded, "TIMEOUT", 1, 0},
		{"sent, then gave up in line", of(again, firstThen(pass, line)), codes.Canceled, "", 1, time.Second},
		{"refused, then cancelled while Retry waits", of(again, lets(0)), codes.Canceled, "", 0, 5 * time.Millisecond},
		{"sent, then cancelled while Retry waits", of(again), codes.Canceled, "", 1, 5 * time.Millisecond},
		{"not allowed", of(deny), codes.PermissionDenied, "", 0, 0},
	} {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				var layers []interceptors.Layer
				for _, m := range tt.layers {
					layers = append(layers, m())
				}
				w := newWorld(t, worldOf{client: interceptors.New(layers...)})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				r := w.do(ctx, k, failsWith(codes.Unavailable))
				if err := r.wants(tt.code, tt.reason); err != nil {
					t.Error(err)
				}
				if n := w.server.ran.Load(); n != tt.sent {
					t.Errorf("%d attempts were sent, want %d", n, tt.sent)
				}
				// An authorization that failed is final, although nothing was sent.
				want := tt.sent == 0 && tt.code != codes.PermissionDenied
				if got := errors.Is(r.err, turret.ErrNotReady); got != want {
					t.Errorf("after %d sent attempts %v matches turret.ErrNotReady: %v", tt.sent, r.err, got)
				}
				if tt.reason == "ENOUGH" && !errors.Is(r.err, errMine) {
					t.Errorf("%v has lost its cause", r.err)
				}
			})
		}
	}
}
