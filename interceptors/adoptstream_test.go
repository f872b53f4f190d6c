package interceptors_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// streamOf adopts an interceptor of streams that makes something of the stream
// that it opens.
func streamOf(f func(s grpc.ClientStream) grpc.ClientStream) interceptors.Layer {
	return interceptors.FromStreamClient(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := streamer(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, err
			}
			return f(s), nil
		})
}

func unchanged(s grpc.ClientStream) grpc.ClientStream { return s }

// inAnother returns a stream that is another one, for all that can be seen.
func inAnother(s grpc.ClientStream) grpc.ClientStream { return struct{ grpc.ClientStream }{s} }

// A stream with an adopted interceptor in its stack is one call all the same,
// from its opening to its end, however it ends.
func TestAdoptedStreamIsOneCall(t *testing.T) {
	never := retry.Config{Retryable: func(context.Context, error) bool { return false }}
	for _, tt := range []struct {
		name   string
		layers func() interceptors.Layer
	}{
		{"as it is", func() interceptors.Layer { return streamOf(unchanged) }},
		{"in another", func() interceptors.Layer { return streamOf(inAnother) }},
		{"inside a Retry", func() interceptors.Layer { return turret.Stack(interceptors.Retry(never), streamOf(inAnother)) }},
		{"around a Retry", func() interceptors.Layer { return turret.Stack(streamOf(inAnother), interceptors.Retry(never)) }},
		{"twice", func() interceptors.Layer {
			return turret.Stack(streamOf(inAnother), interceptors.Timeout(2*deadline), streamOf(unchanged))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { testStreamIsOneCall(t, tt.layers) })
	}
}

// retrier is an interceptor that opens a stream again when RecvMsg fails, and
// sends again what was sent: what people have written for themselves.
type retrier struct {
	attempts int
	opened   int
}

func (r *retrier) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &retriedStream{retrier: r, open: func() (grpc.ClientStream, error) {
		r.opened++
		return streamer(ctx, desc, cc, method, opts...)
	}}
	var err error
	s.ClientStream, err = s.open()
	return s, err
}

type retriedStream struct {
	grpc.ClientStream
	*retrier

	open   func() (grpc.ClientStream, error)
	sent   []any
	closed bool
}

func (s *retriedStream) SendMsg(m any) error {
	s.sent = append(s.sent, m)
	return s.ClientStream.SendMsg(m)
}

func (s *retriedStream) CloseSend() error {
	s.closed = true
	return s.ClientStream.CloseSend()
}

func (s *retriedStream) RecvMsg(m any) error {
	for {
		err := s.ClientStream.RecvMsg(m)
		if err == nil || errors.Is(err, io.EOF) || s.opened == s.attempts {
			return err
		}
		if s.ClientStream, err = s.open(); err != nil {
			return err
		}
		for _, sent := range s.sent {
			if err := s.ClientStream.SendMsg(sent); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if s.closed {
			_ = s.ClientStream.CloseSend()
		}
	}
}

// An interceptor that retries streams works as it does in gRPC: each of its
// attempts goes through the layers inside, and to the layers outside all of them
// are one RPC.
func TestAdoptedRetriesStreams(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first func(s grpc.ClientStream) // what the caller does before it receives
	}{
		{"receive", func(grpc.ClientStream) {}},
		{"ask for the header, then receive", func(s grpc.ClientStream) { _, _ = s.Header() }},
		{"wait, then receive", func(grpc.ClientStream) { time.Sleep(time.Minute) }},
	} {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				r := &retrier{attempts: 3}
				in, inside := newRoom(), newRoom()
				in.inner = turret.Stack(interceptors.FromStreamClient(r.intercept), interceptors.Admit(inside.calls), interceptors.Admit(inside.limit))
				w := newWorld(t, worldOf{client: in.stack(), server: unwellFor(2)})
				s, err := w.open(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				_ = s.SendMsg(&request{Payload: []byte("payload")}) // io.EOF if the first stream is known to have ended
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
				tt.first(s)
				got, err := receive(s, k)
				if err != nil || len(got) != 1 || string(got[0].GetPayload()) != "payload" || r.opened != 3 {
					t.Errorf("received %v and %v from %d streams, want the answer of the third", got, err, r.opened)
				}
				synctest.Wait()
				err = errors.Join(in.wants(turret.Success), inside.wants(turret.Failure, turret.Failure, turret.Success), w.settle())
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// unwellFor is the stack of a server whose first RPCs fail.
func unwellFor(rpcs int) *interceptors.Stack {
	return interceptors.New(interceptors.Filter(func(ctx context.Context, _ *interceptors.RPC) (context.Context, error) {
		if rpcs--; rpcs >= 0 {
			return nil, status.Error(codes.Unavailable, "unwell")
		}
		return ctx, nil
	}))
}

// Once the last stream inside has ended while the caller did nothing, the RPC is
// over for the layers outside, and the interceptor cannot go on with another.
func TestAdoptedStreamEndsWhileNobodyLooks(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			r := &retrier{attempts: 3}
			in := newRoom()
			in.inner = turret.Stack(interceptors.FromStreamClient(r.intercept), interceptors.Timeout(time.Second))
			w := newWorld(t, worldOf{client: in.stack()})
			s, err := w.open(holding(t.Context()), k)
			if err != nil {
				t.Fatal(err)
			}
			<-w.server.held
			time.Sleep(time.Minute)
			if err := in.wants(turret.Failure); err != nil {
				t.Errorf("after the timeout: %v", err)
			}
			if err := s.RecvMsg(new(response)); status.Code(err) != codes.DeadlineExceeded || r.opened != 1 {
				t.Errorf("RecvMsg: %v, %d streams were opened; want DEADLINE_EXCEEDED and 1", err, r.opened)
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Streams inside that are open when the RPC is over are cancelled, whatever the
// interceptor has forgotten.
func TestAdoptedStreamLeavesNothingOpen(t *testing.T) {
	type streamers = func() (grpc.ClientStream, error)
	errGivenUp := status.Error(codes.Aborted, "given up")
	for _, tt := range []struct {
		name string
		f    func(open streamers) (grpc.ClientStream, error)
		code codes.Code
		want turret.Outcome
	}{
		{"opened twice, uses the first", func(open streamers) (grpc.ClientStream, error) {
			s, err := open()
			_, _ = open()
			return s, err
		}, codes.OK, turret.Success},
		{"opened twice, uses the second", func(open streamers) (grpc.ClientStream, error) {
			_, _ = open()
			return open()
		}, codes.OK, turret.Success},
		{"opened, then refused", func(open streamers) (grpc.ClientStream, error) {
			_, _ = open()
			return nil, errGivenUp
		}, codes.Aborted, turret.Success},
		{"opened, then made up an end", func(open streamers) (grpc.ClientStream, error) {
			s, err := open()
			return madeUp{s, errGivenUp}, err
		}, codes.Aborted, turret.Success},
		{"opened, then made up a success", func(open streamers) (grpc.ClientStream, error) {
			_, err := open()
			return &cachedStream{replies: []*response{{}}}, err
		}, codes.OK, turret.Success},
		{"opened, and returned nothing", func(open streamers) (grpc.ClientStream, error) {
			_, err := open()
			return nil, err
		}, codes.Internal, turret.Failure},
		{"opened behind the context's back", func(open streamers) (grpc.ClientStream, error) {
			s, err := open()
			return madeUp{s, errGivenUp}, err
		}, codes.Aborted, turret.Success},
	} {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				in := newRoom()
				in.inner = turret.Stack(interceptors.FromStreamClient(
					func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
						ctx = context.WithoutCancel(ctx)
						return tt.f(func() (grpc.ClientStream, error) { return streamer(ctx, desc, cc, method, opts...) })
					}), interceptors.ConcurrencyLimit(2, limit.Queue{}))
				w := newWorld(t, worldOf{client: in.stack()})
				r := w.do(t.Context(), k, nil)
				if err := errors.Join(r.wants(tt.code, ""), in.wants(tt.want)); err != nil {
					t.Error(err)
				}
				if err := w.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A Retry outside gives the caller's variables what the attempt that counted has
// left, and not while gRPC still writes for another.
func TestAdoptedStreamMadeUpWithVariables(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			streams := 0
			ends := streamOf(func(s grpc.ClientStream) grpc.ClientStream {
				if streams++; streams == 1 {
					return madeUp{s, status.Error(codes.Unavailable, "made up")}
				}
				return s
			})
			w := newWorld(t, worldOf{client: interceptors.New(retrying(2), ends)})
			var header, trailer metadata.MD
			plan := &echov1.Plan{
				Headers:  []*echov1.MetadataEntry{{Key: "h", Values: []string{"1"}}},
				Trailers: []*echov1.MetadataEntry{{Key: "t", Values: []string{"1"}}},
			}
			r := w.do(t.Context(), k, plan, grpc.Header(&header), grpc.Trailer(&trailer))
			if err := errors.Join(r.wants(codes.OK, ""), w.settle()); err != nil {
				t.Error(err)
			}
			if len(header.Get("h")) != 1 || len(trailer.Get("t")) != 1 || streams != 2 {
				t.Errorf("header %v, trailer %v, %d streams", header, trailer, streams)
			}
		})
	}
}

// A stream whose context ends during a method that does not return its end is over,
// even if the caller then forgets the stream.
func TestAdoptedStreamCancelledInAMethod(t *testing.T) {
	for _, tt := range []struct {
		name  string
		waits func(s grpc.ClientStream)
	}{
		{"Header", func(s grpc.ClientStream) { _, _ = s.Header() }},
		{"SendMsg", func(s grpc.ClientStream) {
			big := &request{Payload: make([]byte, 1<<20)}
			for s.SendMsg(big) == nil {
				continue // until flow control stops it
			}
		}},
	} {
		for _, k := range streamKinds {
			if tt.name == "SendMsg" && !clientStreams(k) {
				continue
			}
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				in := newRoom()
				in.inner = streamOf(inAnother)
				w := newWorld(t, worldOf{client: in.stack()})
				ctx, cancel := context.WithCancel(holding(t.Context()))
				defer cancel()
				s, err := w.open(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				<-w.server.held
				go tt.waits(s)
				synctest.Wait()
				if !in.full() {
					t.Fatal("the stream is over before its context has ended")
				}
				cancel()
				synctest.Wait()
				if err := errors.Join(in.wants(turret.Ignored), w.settle()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// An interceptor that still wants to open a stream when the RPC is over for the
// layers outside cannot.
func TestAdoptedStreamOpensNothingAfterItsEnd(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			s := &tooLate{over: make(chan struct{})}
			in := newRoom()
			in.inner = interceptors.FromStreamClient(
				func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (_ grpc.ClientStream, err error) {
					s.open = func() (grpc.ClientStream, error) {
						return streamer(context.WithoutCancel(ctx), desc, cc, method, opts...)
					}
					s.ClientStream, err = s.open()
					return s, err
				})
			w := newWorld(t, worldOf{client: in.stack()})
			stream, err := w.open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			received := make(chan error)
			go func() { received <- stream.RecvMsg(new(response)) }()
			synctest.Wait()
			if err := stream.SendMsg(new(request)); status.Code(err) != codes.Aborted {
				t.Errorf("SendMsg: %v, want what the interceptor made up", err)
			}
			synctest.Wait()
			if err := in.wants(turret.Success); err != nil {
				t.Error(err)
			}
			close(s.over)
			if err := <-received; status.Code(err) != codes.Aborted {
				t.Errorf("RecvMsg: %v", err)
			}
			if status.Code(s.late) != codes.Canceled {
				t.Errorf("the interceptor opened a stream after the end: %v", s.late)
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
		})
	}
}

// tooLate ends with SendMsg, and opens another stream in RecvMsg.
type tooLate struct {
	grpc.ClientStream

	open func() (grpc.ClientStream, error)
	over chan struct{}
	late error
}

func (s *tooLate) SendMsg(any) error { return status.Error(codes.Aborted, "given up") }

func (s *tooLate) RecvMsg(any) error {
	<-s.over
	_, s.late = s.open()
	return s.late
}

// All attempts of a stream have one record of the endpoints that were tried, also
// those that an adopted interceptor makes.
func TestAdoptedKeepsTheRecord(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var records []*attempts.Record
			note := around(func(ctx context.Context, next func(context.Context) error) error {
				records = append(records, attempts.FromContext(ctx))
				return next(ctx)
			})
			w := newWorld(t, worldOf{
				client:       interceptors.New(retrying(2), around(nothing).adopted(), interceptors.Timeout(time.Hour)),
				behindClient: []grpc.DialOption{grpc.WithChainStreamInterceptor(note.streamClient)},
			})
			if err := w.do(t.Context(), k, failing(1)).wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			if len(records) != 2 || records[0] == nil || records[0] != records[1] {
				t.Errorf("%d attempts had the records %p", len(records), records)
			}
		})
	}
}

// A stream that an interceptor made up, and that its caller abandons, ends with
// its context.
func TestAdoptedStreamWithoutAServerIsAbandoned(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			in := newRoom()
			in.inner = interceptors.FromStreamClient(
				func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ grpc.Streamer, _ ...grpc.CallOption) (grpc.ClientStream, error) {
					return &cachedStream{ctx: ctx}, nil
				})
			w := newWorld(t, worldOf{client: in.stack()})
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := w.open(ctx, k); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if !in.full() {
				t.Error("the stream is over before anything has happened")
			}
			cancel()
			synctest.Wait()
			if err := errors.Join(in.wants(turret.Ignored), w.settle()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Inside a Retry an interceptor sees each attempt as a stream of its own, with
// messages of the type that it knows, and changes each of them once.
func TestAdoptedStreamInsideRetry(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			streams := 0
			shout := streamOf(func(s grpc.ClientStream) grpc.ClientStream {
				streams++
				return shoutingClient{s}
			})
			var outside messageLog
			w := newWorld(t, worldOf{client: interceptors.New(outside.hook("outside"), retrying(3), shout, interceptors.Timeout(time.Hour))})
			plan := failing(2)
			requests, _ := exchangeMany(t, w, k, plan)
			outside.wants(t, "client", "send", []string{"outside"}, requests)
			if streams != 3 || w.server.ran.Load() != 3 {
				t.Errorf("%d streams and %d handlers, want 3 of each", streams, w.server.ran.Load())
			}
			for _, e := range outside.of("recv") {
				if e != "recv outside A" && e != "recv outside B" && e != "recv outside C" {
					t.Errorf("the server answered %q", e)
				}
			}
			if err := w.settle(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that succeeds and says when to come back, too, has succeeded.
func TestPushbackOfASuccess(t *testing.T) {
	for _, k := range kinds {
		for name, inner := range map[string]interceptors.Layer{"alone": nil, "adopted inside": around(nothing).adopted()} {
			inBubble(t, name+"/"+k.String(), func(t *testing.T) {
				w := newWorld(t, worldOf{client: interceptors.New(retrying(3), inner)})
				plan := &echov1.Plan{Trailers: []*echov1.MetadataEntry{{Key: "grpc-retry-pushback-ms", Values: []string{"1"}}}}
				if err := w.do(t.Context(), k, plan).wants(codes.OK, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The pushback of a failure reaches a Retry outside of an adopted interceptor.
func TestPushbackPassesAdopted(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(retrying(3), around(nothing).adopted())})
			plan := failing(1)
			plan.Trailers = []*echov1.MetadataEntry{{Key: "grpc-retry-pushback-ms", Values: []string{"10000"}}}
			r := w.do(t.Context(), k, plan)
			if err := r.wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			if r.took < 10*time.Second || r.responses[0].GetReport().GetPreviousAttempts() != 1 {
				t.Errorf("took %v, %v; want one retry after 10s", r.took, r.responses[0].GetReport())
			}
		})
	}
}

// adoptedFaults are the places in adopted interceptors where a fault can happen.
var adoptedFaults = []faultyPlace{
	{name: "before going on", layer: func(happen func()) interceptors.Layer {
		return around(func(ctx context.Context, next func(context.Context) error) error {
			happen()
			return next(ctx)
		}).adopted()
	}},
	{name: "after having gone on", layer: func(happen func()) interceptors.Layer {
		return around(func(ctx context.Context, next func(context.Context) error) error {
			defer happen()
			return next(ctx)
		}).adopted()
	}},
	{name: "SendMsg", side: onClient, kinds: streamKinds, layer: faultyStream("SendMsg")},
	{name: "CloseSend", side: onClient, kinds: streamKinds, layer: faultyStream("CloseSend")},
	{name: "RecvMsg", side: onClient, kinds: streamKinds, layer: faultyStream("RecvMsg")},
	{name: "RecvMsg, after it has received", side: onClient, kinds: streamKinds, layer: faultyStream("RecvMsg after")},
}

func faultyStream(where string) func(happen func()) interceptors.Layer {
	return func(happen func()) interceptors.Layer {
		return streamOf(func(s grpc.ClientStream) grpc.ClientStream { return &faulty{s, where, happen} })
	}
}

type faulty struct {
	grpc.ClientStream

	where  string
	happen func()
}

func (s *faulty) at(where string) {
	if where == s.where {
		s.happen()
	}
}

func (s *faulty) SendMsg(m any) error {
	s.at("SendMsg")
	return s.ClientStream.SendMsg(m)
}

func (s *faulty) CloseSend() error {
	s.at("CloseSend")
	return s.ClientStream.CloseSend()
}

func (s *faulty) RecvMsg(m any) error {
	s.at("RecvMsg")
	defer s.at("RecvMsg after")
	return s.ClientStream.RecvMsg(m)
}

// A fault in an adopted interceptor is one of a layer: everything is given back,
// it reaches the caller, and a Recover outside catches a panic.
func TestFaultsOfAdopted(t *testing.T) {
	for _, f := range faults {
		for _, p := range adoptedFaults {
			for _, side := range sidesOf(&p) {
				for _, k := range kindsOf(&p) {
					inBubble(t, f.name+"/"+p.name+"/"+side.String()+"/"+k.String(), func(t *testing.T) {
						in := newRoom()
						w, r := p.run(t, f.happen, k, side, in)
						switch {
						case side == interceptors.SideServer:
							wantFaultOutside(t, f, w, r)
						case p.name == "CloseSend" && status.Code(r.err) == codes.Internal:
							// CloseSend does not wait: the stack may have ended, and logged the fault,
							// before the caller's next method.
						default:
							wantFaultAtCaller(t, f, r)
						}
						synctest.Wait()
						if err := errors.Join(in.wants(turret.Failure), w.settle()); err != nil {
							t.Error(err)
						}
					})
				}
			}
		}
	}
}

func TestRecoverCatchesPanicsOfAdopted(t *testing.T) {
	for _, p := range adoptedFaults {
		for _, side := range sidesOf(&p) {
			for _, k := range kindsOf(&p) {
				inBubble(t, p.name+"/"+side.String()+"/"+k.String(), func(t *testing.T) {
					var caught []any
					tell := func(_ context.Context, _ *interceptors.RPC, p any, _ []byte) { caught = append(caught, p) }
					_, r := p.run(t, panics.happen, k, side, newRoom(), interceptors.Recover(tell))
					if err := r.wants(codes.Internal, ""); err != nil {
						t.Error(err)
					}
					if !slices.Equal(caught, []any{secret}) {
						t.Errorf("Recover caught %v", caught)
					}
				})
			}
		}
	}
}

func sidesOf(p *faultyPlace) []interceptors.Side {
	if p.side != nil {
		return p.side
	}
	return []interceptors.Side{interceptors.SideClient, interceptors.SideServer}
}

func kindsOf(p *faultyPlace) []interceptors.Kind {
	if p.kinds != nil {
		return p.kinds
	}
	return kinds
}

// Spans outside, inside and around an adopted interceptor are parent and child,
// and those inside a Retry say which attempt they are.
func TestTraceThroughAdopted(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			outer, inner, servers := newSpans(), newSpans(), newSpans()
			w := newWorld(t, worldOf{
				client: interceptors.New(outer.layer(), steady(), around(nothing).adopted(), inner.layer(), interceptors.Timeout(time.Hour)),
				server: interceptors.New(around(nothing).adopted(), servers.layer()),
			})
			if err := w.do(t.Context(), k, failing(1)).wants(codes.OK, ""); err != nil {
				t.Fatal(err)
			}
			rpc, attempts, served := outer.ended(t, 1)[0], inner.ended(t, 2), servers.ended(t, 2)
			wantEvents(t, rpc, "retry retry UNAVAILABLE 1 1")
			for i, attempt := range attempts {
				childOf(t, attempt, rpc)
				childOf(t, served[i], attempt)
				if got := attributeOf(attempt, "turret.attempt"); got != []string{"0", "1"}[i] {
					t.Errorf("attempt %d says that it is %q", i, got)
				}
			}
		})
	}
}

// A message through an adopted stream, there and back, costs no allocation more
// than on a bare connection.
func TestAdoptedMessageAllocations(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	perMessage := func(w *world) float64 {
		s, err := w.open(ctx, interceptors.KindBidiStream)
		if err != nil {
			t.Fatal(err)
		}
		req, res := new(request), new(response)
		return allocations(func() {
			if err := errors.Join(s.SendMsg(req), s.RecvMsg(res)); err != nil {
				t.Fatal(err)
			}
		})
	}
	adopted := newWorld(t, worldOf{client: interceptors.New(streamOf(unchanged))})
	wantAllocations(t, perMessage(newWorld(t, worldOf{})), perMessage(adopted))
}
