package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// thrice is a policy that makes three attempts whatever comes of them.
type thrice struct{ attempts *[]int }

func (thrice) Begin(context.Context, *interceptors.RPC) {}

func (p thrice) Next(_ context.Context, a retry.Attempt[*interceptors.RPC, any]) retry.Decision[*interceptors.RPC, any] {
	*p.attempts = append(*p.attempts, a.Req.Attempt)
	if a.Err != nil && len(*p.attempts) < 3 {
		return a.Again(time.Second)
	}
	return a.Stop()
}

// A policy of one's own retries RPCs of all kinds, through RetryPolicy and through
// retry.LayerOf in a stack, and the caller's variables show the last attempt alone.
func TestRetryPolicy(t *testing.T) {
	layers := map[string]func(thrice) interceptors.Layer{
		"RetryPolicy": func(p thrice) interceptors.Layer { return interceptors.RetryPolicy(p) },
		"LayerOf":     func(p thrice) interceptors.Layer { return retry.LayerOf[*interceptors.RPC, any](p) },
		"LayerOf in For": func(p thrice) interceptors.Layer {
			return interceptors.For("/*", retry.LayerOf[*interceptors.RPC, any](p))
		},
	}
	for name, layer := range layers {
		for _, k := range kinds {
			inBubble(t, fmt.Sprintf("%s/%v", name, k), func(t *testing.T) {
				var attempts []int
				w := newWorld(t, worldOf{client: interceptors.New(layer(thrice{&attempts}))})
				var header metadata.MD
				plan := &echov1.Plan{
					Failure: &echov1.Failure{Code: int32(codes.Aborted), Attempts: 2},
					Headers: []*echov1.MetadataEntry{{Key: "h", Values: []string{"1"}}},
				}
				began := time.Now()
				r := w.do(t.Context(), k, plan, grpc.Header(&header))
				if err := r.wants(codes.OK, ""); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != 2*time.Second || len(attempts) < 2 {
					t.Errorf("it took %v, and the policy was asked after attempts %v", took, attempts)
				}
				if name == "RetryPolicy" && !slices.Equal(attempts[:2], []int{0, 1}) {
					t.Errorf("the policy was asked after attempts %v", attempts)
				}
				if got := header.Get("h"); !slices.Equal(got, []string{"1"}) {
					t.Errorf("the header is %q", got)
				}
			})
		}
	}
	if text, _ := panicOf(func() { interceptors.RetryPolicy(nil) }); text != "interceptors: RetryPolicy: policy is nil, must be non-nil" {
		t.Errorf("panics with %q", text)
	}
}

// fallback is a policy that tries again in a second, and falls back on an empty reply
// where there is no time for that.
type fallback struct{}

func (fallback) Begin(context.Context, *interceptors.RPC) {}

func (fallback) Next(_ context.Context, a retry.Attempt[*interceptors.RPC, any]) retry.Decision[*interceptors.RPC, any] {
	return retry.Decision[*interceptors.RPC, any]{Again: true, Delay: time.Second, Req: a.Req, Res: &echov1.UnaryResponse{}}
}

// A policy may end a refused RPC with a reply.
func TestRetryPolicyFallsBack(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		call := interceptors.New(interceptors.RetryPolicy(fallback{}), interceptors.ConcurrencyLimit(0, limit.Queue{})).UnaryClient()
		invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			t.Error("a refused RPC is sent")
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := call(ctx, "/shop.Orders/Place", &echov1.UnaryRequest{}, new(echov1.UnaryResponse), nil, invoke); err != nil {
			t.Errorf("%v, want the policy's reply", err)
		}
	})
}
