package interceptors_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
)

// Where the context of a stream ends in the moment in which the server's status
// arrives, layers and caller see one end: the one that RecvMsg has got.
func TestOneEndOfAStream(t *testing.T) {
	denied := status.Error(codes.PermissionDenied, "denied by the server")
	for _, retried := range []bool{false, true} {
		for _, committed := range []bool{false, true} {
			for _, k := range streamKinds {
				inBubble(t, fmt.Sprintf("retry %v/committed %v/%v", retried, committed, k), func(t *testing.T) {
					var seen error
					layers := []interceptors.Layer{wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
						reply, err := inner.Call(ctx, rpc)
						seen = err
						return reply, err
					})}
					if retried {
						layers = append(layers, interceptors.Retry(retry.Config{}))
					}
					f := newFakes(t, layers...)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					s, err := f.newStream(ctx, k)
					if err != nil {
						t.Fatal(err)
					}
					a := f.next()
					if committed {
						s.Context()
					}
					received := make(chan error, 1)
					go func() { received <- s.RecvMsg(new(response)) }()
					synctest.Wait()
					a.answer("RecvMsg", answer{err: denied, before: func() {
						cancel()
						a.report(status.Error(codes.Canceled, "context canceled"))
						time.Sleep(time.Second) // the stack could return now
					}})
					if err := <-received; status.Code(err) != codes.PermissionDenied {
						t.Errorf("RecvMsg returned %v", err)
					}
					if status.Code(seen) != codes.PermissionDenied {
						t.Errorf("the layer saw %v", seen)
					}
				})
			}
		}
	}
}
