package interceptors_test

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
)

// A caller cancels and closes its sending side before gRPC has ended the stream.
// The server must not take what it got for all of the request: it would answer,
// and the caller might see OK.
func TestCancelledStreamIsNotHalfClosed(t *testing.T) {
	for name, layer := range map[string]interceptors.Layer{"kept": again(), "not kept": interceptors.InContext()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakes(t, layer)
				ctx, cancel := context.WithCancel(t.Context())
				s, err := f.newStream(ctx, interceptors.KindClientStream)
				if err != nil {
					t.Fatal(err)
				}
				attempt := f.next()
				cancel()
				if err := s.CloseSend(); err != nil {
					t.Errorf("CloseSend: %v", err)
				}
				if _, closed := attempt.got(); closed != 0 {
					t.Error("the sending side of a cancelled stream was closed")
				}
				r := recvAsync(s)
				attempt.finish(status.FromContextError(ctx.Err()).Err())
				if r.running() || status.Code(r.err) != codes.Canceled {
					t.Errorf("RecvMsg: %v, want CANCELLED", r.err)
				}
			})
		})
	}
}

// The same where the stream is inside that of an adopted interceptor: closing it
// does not commit it, so that an attempt which fails meanwhile is not the end.
func TestCancelledStreamInsideIsNotCommitted(t *testing.T) {
	adopted := interceptors.FromStreamClient(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(ctx, desc, cc, method, opts...)
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(t, adopted, again())
		ctx, cancel := context.WithCancel(t.Context())
		s, err := f.newStream(ctx, interceptors.KindClientStream)
		if err != nil {
			t.Fatal(err)
		}
		attempt := f.next()
		cancel()
		if err := s.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
		attempt.finish(errDown)
		if r := recvAsync(s); r.running() || status.Code(r.err) != codes.Canceled {
			t.Errorf("RecvMsg: %v, want CANCELLED", r.err)
		}
	})
}

// An interceptor below gave the stream a context that does not end with the
// caller's: then the sending side is closed as ever.
func TestDetachedStreamIsHalfClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(t, again())
		f.onOpen = func(s *fakeStream) error {
			s.ctx = context.WithoutCancel(s.ctx)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		s, err := f.newStream(ctx, interceptors.KindClientStream)
		if err != nil {
			t.Fatal(err)
		}
		attempt := f.next()
		cancel()
		if err := s.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
		if _, closed := attempt.got(); closed != 1 {
			t.Errorf("the sending side was closed %d times, want once", closed)
		}
		r := recvAsync(s)
		attempt.recvAndFinish("done", nil, nil)
		if r.running() || r.err != nil || r.value != "done" {
			t.Errorf("RecvMsg: %q, %v", r.value, r.err)
		}
	})
}
