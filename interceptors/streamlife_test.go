package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
	"github.com/turret-go/turret/turrettest"
)

// A stream is one call: it fills a limit of one from its opening to its end, on
// either side, however it ends.

// A room has a place for one RPC, and remembers those that have been in it.
type room struct {
	calls *turrettest.Recorder
	limit *limit.Concurrency
	after func()             // if not nil, runs inside the room when the call in it is over
	inner interceptors.Layer // if not nil, the innermost
}

func newRoom() *room {
	return &room{calls: turrettest.NewRecorder(), limit: limit.NewConcurrency(1, limit.Queue{})}
}

// stack returns a stack whose one place is r. Its layers stand inside outer.
func (r *room) stack(outer ...interceptors.Layer) *interceptors.Stack {
	atEnd := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		reply, err := inner.Call(ctx, rpc)
		if r.after != nil {
			r.after()
		}
		return reply, err
	})
	return interceptors.New(append(outer, interceptors.Admit(r.calls), interceptors.Admit(r.limit), atEnd, r.inner)...)
}

func (r *room) full() bool { return r.limit.Stats().InFlight == 1 }

// wants returns an error unless r is as empty as it was made and the calls that
// have been in it, since it was asked last, had these outcomes.
func (r *room) wants(outcomes ...turret.Outcome) error {
	defer r.calls.Reset()
	got := r.calls.Outcomes()
	same := func(got, want turret.Outcome) bool { return got == want || want == anyOutcome }
	if r.limit.Stats().InFlight != 0 || r.calls.Inside() != 0 || !slices.EqualFunc(got, outcomes, same) {
		return fmt.Errorf("%v, %v, outcomes %v; want it empty and %v", r.limit, r.calls, got, outcomes)
	}
	return nil
}

// anyOutcome is wanted where a deadline passes on both sides at once: the server
// gets its own, or the client's that cancels, whichever comes first.
const anyOutcome = ^turret.Outcome(0)

// A life is a stream between its opening and its end.
type life struct {
	*world
	grpc.ClientStream

	t              *testing.T
	kind           interceptors.Kind
	cancel         context.CancelFunc
	handler        *heldHandler
	client, server *room
}

// deadline is that of the stream's context, and is not reached.
const deadline = time.Hour

// newLife opens a stream; innermost, if not nil, is a layer of the client.
func newLife(t *testing.T, k interceptors.Kind, innermost interceptors.Layer) *life {
	t.Helper()
	l := &life{t: t, kind: k, client: newRoom(), server: newRoom()}
	l.client.inner = innermost
	l.world = newWorld(t, worldOf{client: l.client.stack(), server: l.server.stack(interceptors.Recover(silently))})
	ctx, cancel := context.WithTimeout(holding(t.Context()), deadline)
	l.cancel = cancel
	t.Cleanup(cancel)
	var err error
	if l.ClientStream, err = l.open(ctx, k); err != nil {
		t.Fatal(err)
	}
	l.handler = <-l.world.server.held
	return l
}

func silently(context.Context, *interceptors.RPC, any, []byte) {}

// send sends a request and, where the client sends no more than one, closes.
func (l *life) send(p *echov1.Plan) {
	l.t.Helper()
	if err := l.SendMsg(&request{Plan: p}); err != nil {
		l.t.Fatalf("SendMsg: %v", err)
	}
	if !clientStreams(l.kind) {
		l.closeSend()
	}
}

func (l *life) closeSend() {
	l.t.Helper()
	if err := l.CloseSend(); err != nil {
		l.t.Fatalf("CloseSend: %v", err)
	}
}

// wantEnd reads to the end, which has to come with this code.
func (l *life) wantEnd(code codes.Code) {
	l.t.Helper()
	if _, err := receive(l, l.kind); status.Code(err) != code {
		l.t.Errorf("the stream ended with %v, want %v", err, code)
	}
}

// receiving makes the end come while the caller waits in RecvMsg.
func (l *life) receiving(code codes.Code, end func()) {
	l.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.wantEnd(code)
	}()
	synctest.Wait()
	end()
	<-done
}

// Ways in which a stream ends, and how the call that it is went, as each side
// sees it.
var streamEnds = []struct {
	name           string
	end            func(l *life)
	client, server turret.Outcome
}{
	{"read to the end", func(l *life) {
		close(l.handler.release)
		l.send(nil)
		l.closeSend()
		l.wantEnd(codes.OK)
	}, turret.Success, turret.Success},
	{"error", func(l *life) {
		l.handler.release <- status.Error(codes.Internal, "broken")
		l.wantEnd(codes.Internal)
	}, turret.Failure, turret.Failure},
	{"answer that is an error", func(l *life) {
		l.handler.release <- status.Error(codes.NotFound, "no such thing")
		l.wantEnd(codes.NotFound)
	}, turret.Success, turret.Success},
	{"cancelled while receiving", func(l *life) {
		l.receiving(codes.Canceled, func() { l.cancel() })
	}, turret.Ignored, turret.Ignored},
	{"cancelled while nobody receives", func(l *life) { l.cancel() }, turret.Ignored, turret.Ignored},
	{"caller stops reading and cancels later", func(l *life) {
		close(l.handler.release)
		l.send(nil)
		if serverStreams(l.kind) {
			if err := l.RecvMsg(new(response)); err != nil {
				l.t.Errorf("RecvMsg: %v", err)
			}
		}
		l.closeSend()
		synctest.Wait()
		if l.server.full() || !l.client.full() {
			l.t.Errorf("the server has ended the stream: it is full: %t; the client: %t", l.server.full(), l.client.full())
		}
		time.Sleep(time.Minute)
		if !l.client.full() {
			l.t.Error("the client gave the room back before the caller knew the end")
		}
		l.cancel()
	}, turret.Ignored, turret.Success},
	{"deadline while receiving", func(l *life) { l.wantEnd(codes.DeadlineExceeded) }, turret.Failure, anyOutcome},
	{"deadline while nobody receives", func(*life) { time.Sleep(deadline) }, turret.Failure, anyOutcome},
	{"connection dies while receiving", func(l *life) {
		l.receiving(codes.Unavailable, l.Cut)
	}, turret.Failure, turret.Ignored},
	{"connection died before receiving", func(l *life) {
		l.Cut()
		synctest.Wait()
		l.wantEnd(codes.Unavailable)
	}, turret.Failure, turret.Ignored},
	{"ClientConn.Close while receiving", func(l *life) {
		l.receiving(codes.Canceled, l.closeConn)
	}, turret.Failure, turret.Ignored},
	{"ClientConn.Close while nobody receives", (*life).closeConn, turret.Failure, turret.Ignored},
	{"handler panics", func(l *life) {
		l.send(&echov1.Plan{Failure: &echov1.Failure{Panic: "a fault"}})
		l.closeSend()
		close(l.handler.release)
		l.wantEnd(codes.Internal)
	}, turret.Failure, turret.Failure},
	{"layer of the server panics", func(l *life) {
		l.server.after = func() { panic("a fault") }
		l.handler.release <- errors.New("over")
		l.wantEnd(codes.Internal)
	}, turret.Failure, turret.Failure},
	{"layer of the client panics", func(l *life) {
		l.client.after = func() { panic("a fault") }
		l.handler.release <- nil
		l.send(nil)
		l.closeSend()
		defer func() {
			if p := recover(); p != "a fault" {
				l.t.Errorf("the caller's goroutine recovered %v", p)
			}
		}()
		l.wantEnd(codes.Internal)
		l.t.Error("the panic did not reach the caller")
	}, turret.Failure, turret.Success},
}

func (l *life) closeConn() {
	if err := l.Conn.Close(); err != nil {
		l.t.Errorf("Close: %v", err)
	}
}

func TestStreamIsOneCall(t *testing.T) {
	testStreamIsOneCall(t, func() interceptors.Layer { return nil })
}

// The same where messages are kept and nothing has reached the caller for a long
// time, as attempts could be replaced.
func TestStreamWithRetryIsOneCall(t *testing.T) {
	never := func(context.Context, error) bool { return false }
	testStreamIsOneCall(t, func() interceptors.Layer { return interceptors.Retry(retry.Config{Retryable: never}) })
}

func testStreamIsOneCall(t *testing.T, innermost func() interceptors.Layer) {
	t.Helper()
	for _, e := range streamEnds {
		for _, k := range streamKinds {
			inBubble(t, e.name+"/"+k.String(), func(t *testing.T) {
				l := newLife(t, k, innermost())
				time.Sleep(time.Minute)
				if !l.client.full() || !l.server.full() {
					t.Errorf("while the stream is open: client %v, server %v", l.client.limit, l.server.limit)
				}
				another := l.do(t.Context(), k, nil)
				if err := another.wants(codes.ResourceExhausted, turret.ReasonLimitFull); err != nil {
					t.Errorf("another stream: %v", err)
				}
				l.client.calls.Reset() // the refusal
				e.end(l)
				synctest.Wait()
				if err := l.client.wants(e.client); err != nil {
					t.Errorf("client: %v", err)
				}
				if err := l.server.wants(e.server); err != nil {
					t.Errorf("server: %v", err)
				}
				if err := l.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A stream that does not open has been in the room all the same.
func TestStreamThatDoesNotOpen(t *testing.T) {
	tests := []struct {
		name string
		do   func(w *world, k interceptors.Kind, in *room) *rpc
		code codes.Code
		want turret.Outcome
	}{
		{"gRPC refuses", func(w *world, k interceptors.Kind, _ *room) *rpc {
			return w.do(unsendable(w.t.Context()), k, nil)
		}, codes.Internal, turret.Ignored},
		{"cannot connect", func(w *world, k interceptors.Kind, _ *room) *rpc {
			w.Server.Stop()
			return w.do(w.t.Context(), k, nil)
		}, codes.Unavailable, turret.Failure},
		{"cancelled while it waits for a connection", func(w *world, k interceptors.Kind, in *room) *rpc {
			w.Server.Stop()
			ctx, cancel := context.WithCancel(w.t.Context())
			r := w.start(ctx, k, nil, grpc.WaitForReady(true))
			time.Sleep(time.Second)
			if !in.full() {
				w.t.Error("the room is empty while the stream opens")
			}
			cancel()
			<-r.done
			return r
		}, codes.Canceled, turret.Ignored},
		{"deadline while it waits for a connection", func(w *world, k interceptors.Kind, _ *room) *rpc {
			w.Server.Stop()
			return w.do(w.t.Context(), k, nil, grpc.WaitForReady(true))
		}, codes.DeadlineExceeded, turret.Failure},
	}
	for _, tt := range tests {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				in := newRoom()
				w := newWorld(t, worldOf{client: in.stack()})
				if err := tt.do(w, k, in).wants(tt.code, ""); err != nil {
					t.Error(err)
				}
				// The caller knows, so the room is empty already.
				if err := in.wants(tt.want); err != nil {
					t.Error(err)
				}
				if err := w.settle(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A stream that its caller has forgotten ends with the deadline of a layer, and
// gives its room back.
func TestTimeoutEndsAForgottenStream(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			in := newRoom()
			in.inner = interceptors.Timeout(time.Minute)
			w := newWorld(t, worldOf{client: in.stack()})
			s, err := w.open(holding(t.Context()), k)
			if err != nil {
				t.Fatal(err)
			}
			h := <-w.server.held
			time.Sleep(time.Minute - time.Nanosecond)
			synctest.Wait()
			if !in.full() || h.ctx.Err() != nil {
				t.Errorf("before the deadline: %v, the handler's context: %v", in.limit, h.ctx.Err())
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if err := errors.Join(in.wants(turret.Failure), w.settle()); err != nil {
				t.Error(err)
			}
			if h.ctx.Err() == nil {
				t.Error("the handler goes on")
			}
			if err := s.RecvMsg(new(response)); status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, timeout.ErrTimeout) {
				t.Errorf("RecvMsg: %v, want the timeout", err)
			}
		})
	}
}
