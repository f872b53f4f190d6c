package interceptors_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
)

// fakes stand in for gRPC below a stack, so that a test decides in which order
// the methods of a stream return and its end is reported.
type fakes struct {
	t      *testing.T
	stack  *interceptors.Stack
	onOpen func(*fakeStream) error // if not nil, what opening does
	opened chan *fakeStream
}

func newFakes(t *testing.T, layers ...interceptors.Layer) *fakes {
	return &fakes{t: t, stack: interceptors.New(layers...), opened: make(chan *fakeStream, 10)}
}

// open opens a stream. Its context is cancelled at the end of the test.
func (f *fakes) open(k interceptors.Kind, opts ...grpc.CallOption) grpc.ClientStream {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Hour)
	f.t.Cleanup(cancel)
	s, err := f.newStream(ctx, k, opts...)
	if err != nil {
		f.t.Fatalf("NewStream: %v", err)
	}
	return s
}

func (f *fakes) newStream(ctx context.Context, k interceptors.Kind, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ClientStreams: clientStreams(k), ServerStreams: serverStreams(k)}
	return f.stack.StreamClient()(ctx, desc, nil, method(k), f.streamer, opts...)
}

func (f *fakes) streamer(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &fakeStream{t: f.t, ctx: ctx, opts: opts, answers: map[string]chan answer{}, running: map[string]bool{}}
	if f.onOpen != nil {
		if err := f.onOpen(s); err != nil {
			return nil, err
		}
	}
	f.t.Cleanup(func() { s.finish(context.Canceled) })
	f.opened <- s
	return s, nil
}

// next returns the attempt that was opened next, once nothing moves any more.
func (f *fakes) next() *fakeStream {
	f.t.Helper()
	synctest.Wait()
	select {
	case s := <-f.opened:
		return s
	default:
		f.t.Fatal("no attempt was opened")
		return nil
	}
}

// noMore fails the test if another attempt was opened.
func (f *fakes) noMore() {
	f.t.Helper()
	synctest.Wait()
	select {
	case <-f.opened:
		f.t.Error("another attempt was opened")
	default:
	}
}

// A fakeStream is a stream of gRPC, one attempt. Its methods wait until the test
// answers them, or until its context ends; CloseSend does not. Only the test
// reports its end, at its own end at the latest.
type fakeStream struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // a stream has one
	opts []grpc.CallOption

	mu      sync.Mutex
	answers map[string]chan answer
	running map[string]bool
	sent    int
	closed  int
}

type answer struct {
	header  metadata.MD
	payload string // of a message
	err     error
	before  func() // if not nil, what the method does before it returns
}

// to returns where the answers to a method are sent.
func (s *fakeStream) to(method string) chan answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers[method] == nil {
		s.answers[method] = make(chan answer)
	}
	return s.answers[method]
}

func (s *fakeStream) await(method string) answer {
	s.runs(method, true)
	defer s.runs(method, false)
	select {
	case a := <-s.to(method):
		return a
	case <-s.ctx.Done():
		return answer{err: status.FromContextError(s.ctx.Err()).Err()}
	}
}

func (s *fakeStream) runs(method string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[method] = is
}

// idle fails the test if a method is running.
func (s *fakeStream) idle(method string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[method] {
		s.t.Errorf("%s of the attempt is running", method)
	}
}

// got returns how many messages were sent, and how often the sending side was
// closed.
func (s *fakeStream) got() (sent, closed int) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent, s.closed
}

// answer answers a method, which must be running, or about to.
func (s *fakeStream) answer(method string, a answer) {
	s.t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case s.to(method) <- a:
	case <-late.C:
		s.t.Fatalf("%s of the attempt is not running", method)
	}
	synctest.Wait()
}

func (s *fakeStream) send(err error) {
	s.t.Helper()
	s.answer("SendMsg", answer{err: err})
}

func (s *fakeStream) recv(payload string, err error) {
	s.t.Helper()
	s.answer("RecvMsg", answer{payload: payload, err: err})
}

// recvAndFinish is recv of a RecvMsg that reports the end, as gRPC's does.
func (s *fakeStream) recvAndFinish(payload string, err, status error) {
	s.t.Helper()
	s.answer("RecvMsg", answer{payload: payload, err: err, before: func() { s.report(status) }})
}

func (s *fakeStream) header(md metadata.MD) {
	s.t.Helper()
	s.answer("Header", answer{header: md})
}

// finish reports the end of the attempt, and waits until nothing moves any more.
func (s *fakeStream) finish(err error) {
	s.report(err)
	synctest.Wait()
}

// report reports the end of the attempt, as gRPC does.
func (s *fakeStream) report(err error) {
	for _, o := range s.opts {
		if o, ok := o.(grpc.OnFinishCallOption); ok {
			o.OnFinish(err)
		}
	}
}

// writeHeader writes to the variable of grpc.Header, as gRPC does before it
// reports the end.
func (s *fakeStream) writeHeader(md metadata.MD) {
	for _, o := range s.opts {
		if o, ok := o.(grpc.HeaderCallOption); ok {
			*o.HeaderAddr = md
		}
	}
}

func (s *fakeStream) SendMsg(m any) error {
	for _, o := range s.opts { // gRPC encodes first: so a Retry gets to know the bytes
		if o, ok := o.(grpc.ForceCodecV2CallOption); ok {
			data, err := o.CodecV2.Marshal(m)
			if err != nil {
				return err
			}
			data.Free()
		}
	}
	a := s.await("SendMsg")
	if a.err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sent++
	} else if s.ctx.Err() != nil {
		return io.EOF
	}
	return a.err
}

func (s *fakeStream) RecvMsg(m any) error {
	a := s.await("RecvMsg")
	if a.before != nil {
		a.before()
	}
	if a.err == nil || a.payload != "" {
		m.(*response).Payload = []byte(a.payload)
	}
	return a.err
}

func (s *fakeStream) Header() (metadata.MD, error) {
	a := s.await("Header")
	if a.before != nil {
		a.before()
	}
	return a.header, nil
}

func (s *fakeStream) CloseSend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *fakeStream) Trailer() metadata.MD     { return nil }
func (s *fakeStream) Context() context.Context { return s.ctx }

// again is a Retry that does not wait.
func again(o ...interceptors.RetryOption) interceptors.Layer {
	return interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always}, o...)
}

var (
	errDown = status.Error(codes.Unavailable, "down")
	errGone = status.Error(codes.NotFound, "gone")
)

// A result is what a method of a stream returned, once it has.
type result[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func async[T any](f func() (T, error)) *result[T] {
	r := &result[T]{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.value, r.err = f()
	}()
	synctest.Wait() // it has begun
	return r
}

// running reports whether the method still runs, once nothing moves any more.
func (r *result[T]) running() bool {
	synctest.Wait()
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

func recvAsync(s grpc.ClientStream) *result[string] {
	return async(func() (string, error) {
		m := new(response)
		err := s.RecvMsg(m)
		return string(m.GetPayload()), err
	})
}

func sendAsync(s grpc.ClientStream) *result[struct{}] {
	return async(func() (struct{}, error) { return struct{}{}, s.SendMsg(&request{Payload: []byte("hello")}) })
}

func headerAsync(s grpc.ClientStream) *result[metadata.MD] { return async(s.Header) }

// retryOf is again, of these errors.
func retryOf(retryable func(context.Context, error) bool) interceptors.Layer {
	return interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always, Retryable: retryable})
}
