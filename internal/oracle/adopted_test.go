package oracle

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/interceptors"
)

// adopt makes a layer of an interceptor, if there is one.
func adopt(i grpc.StreamClientInterceptor) interceptors.Layer {
	if i == nil {
		return nil
	}
	return interceptors.FromStreamClient(i)
}

// Interceptors that change nothing: one that passes its stream on as it is, and
// one that puts another around it.
func passes(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

func wraps(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return struct{ grpc.ClientStream }{s}, nil
}

// TestOracleAdopted plays schedules with adopted interceptors outside and inside
// of the Retry: they must change nothing.
func TestOracleAdopted(t *testing.T) {
	for seed := range *seeds {
		s := decode(fromSeed(seed))
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			if seed%3 != 1 {
				s.outside = passes
			}
			if seed%3 != 0 {
				s.inside = wraps
			}
			s.play(t)
		})
	}
}
