package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	othersretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	otherstimeout "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// The interceptors of go-grpc-middleware, as they are, in stacks.

func TestOthersAuth(t *testing.T) {
	check := func(ctx context.Context) (context.Context, error) {
		token, err := auth.AuthFromMD(ctx, "bearer")
		if err != nil {
			return nil, err
		}
		return context.WithValue(ctx, adoptedKey{}, "user of "+token), nil
	}
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			in := newRoom() // for RPCs that are admitted
			w := newWorld(t, worldOf{server: interceptors.New(
				interceptors.FromServer(auth.UnaryServerInterceptor(check), auth.StreamServerInterceptor(check)),
				interceptors.Admit(in.calls), interceptors.Admit(in.limit),
			)})
			var user any
			w.server.before = func(ctx context.Context) { user = ctx.Value(adoptedKey{}) }
			if err := errors.Join(w.do(t.Context(), k, nil).wants(codes.Unauthenticated, ""), in.wants()); err != nil {
				t.Error(err)
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "bearer abc")
			err := w.do(ctx, k, nil).wants(codes.OK, "")
			synctest.Wait()
			if err := errors.Join(err, in.wants(turret.Success)); err != nil {
				t.Error(err)
			}
			if user != "user of abc" {
				t.Errorf("the handler was called by %v", user)
			}
		})
	}
}

func TestOthersRecovery(t *testing.T) {
	caught := status.Error(codes.DataLoss, "caught")
	handler := recovery.WithRecoveryHandler(func(any) error { return caught })
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			in := newRoom()
			in.inner = turret.Stack(
				interceptors.FromServer(recovery.UnaryServerInterceptor(handler), recovery.StreamServerInterceptor(handler)),
				interceptors.Timeout(time.Hour))
			w := newWorld(t, worldOf{server: in.stack()})
			w.server.before = func(context.Context) { panic("a fault") }
			err := w.do(t.Context(), k, nil).wants(codes.DataLoss, "")
			synctest.Wait()
			if err := errors.Join(err, in.wants(turret.Failure), w.settle()); err != nil {
				t.Error(err)
			}
		})
	}
}

// lines is what a logger of go-grpc-middleware got: the message, the code
// and the kind of each line.
type lines struct {
	mu  sync.Mutex
	got []string
}

func (l *lines) Log(_ context.Context, _ logging.Level, msg string, fields ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := logging.Fields(fields).Iterator(); f.Next(); {
		if k, v := f.At(); k == "grpc.code" || k == "grpc.method_type" {
			msg += fmt.Sprint(" ", v)
		}
	}
	l.got = append(l.got, msg)
}

// Logging of both sides says what the layers inside made of an RPC, once.
func TestOthersLogging(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		var log lines
		events := logging.WithLogOnEvents(logging.StartCall, logging.FinishCall)
		adopted := turret.Stack(
			interceptors.FromServer(logging.UnaryServerInterceptor(&log, events), logging.StreamServerInterceptor(&log, events)),
			interceptors.FromClient(logging.UnaryClientInterceptor(&log, events), logging.StreamClientInterceptor(&log, events)))
		w := newWorld(t, onSide(side, interceptors.New(adopted, interceptors.Timeout(time.Second))))
		if err := w.do(t.Context(), k, slow).wants(codes.DeadlineExceeded, "TIMEOUT"); err != nil {
			t.Error(err)
		}
		if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		log.mu.Lock()
		defer log.mu.Unlock()
		kind := " " + k.String()
		want := []string{"started call" + kind, "finished call" + kind + " DeadlineExceeded", "started call" + kind, "finished call" + kind + " OK"}
		if !slices.Equal(log.got, want) {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(log.got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// Their logging of a stream writes a line when RecvMsg shows the end. Inside a
// Retry it sees that of each attempt, once, by any method.
func TestOthersLoggingInsideRetry(t *testing.T) {
	for _, tt := range []struct {
		name    string
		notices func(s grpc.ClientStream)
	}{
		{"RecvMsg", func(grpc.ClientStream) {}},
		{"SendMsg", func(s grpc.ClientStream) {
			synctest.Wait()
			_ = s.SendMsg(new(request))
		}},
		{"Header", func(s grpc.ClientStream) {
			_, _ = s.Header()
		}},
	} {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				var log lines
				events := logging.WithLogOnEvents(logging.FinishCall)
				w := newWorld(t, worldOf{
					client: interceptors.New(retrying(2), interceptors.FromStreamClient(logging.StreamClientInterceptor(&log, events))),
					server: unwellFor(1),
				})
				s, err := w.open(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				if tt.name == "SendMsg" {
					tt.notices(s)
				} else {
					go tt.notices(s)
					err = s.SendMsg(new(request))
				}
				if err := errors.Join(err, s.CloseSend()); err != nil {
					t.Fatal(err)
				}
				if _, err := receive(s, k); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				log.mu.Lock()
				defer log.mu.Unlock()
				kind := " " + k.String()
				if want := []string{"finished call" + kind + " Unavailable", "finished call" + kind + " OK"}; !slices.Equal(log.got, want) {
					t.Errorf("logged %q, want %q", log.got, want)
				}
			})
		}
	}
}

type noMore struct{}

func (noMore) Limit(context.Context) error { return errors.New("no more") }

func TestOthersRateLimit(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		adopted := turret.Stack(
			interceptors.FromServer(ratelimit.UnaryServerInterceptor(noMore{}), ratelimit.StreamServerInterceptor(noMore{})),
			interceptors.FromClient(ratelimit.UnaryClientInterceptor(noMore{}), ratelimit.StreamClientInterceptor(noMore{})))
		w := newWorld(t, onSide(side, interceptors.New(adopted)))
		if err := w.do(t.Context(), k, nil).wants(codes.ResourceExhausted, ""); err != nil {
			t.Error(err)
		}
		if n := w.server.ran.Load(); n != 0 {
			t.Errorf("%d handlers ran", n)
		}
	})
}

// Their retry sends an RPC through the layers inside again and again, of the
// kinds that it knows to retry; a call option sets how often.
func TestOthersRetry(t *testing.T) {
	times := func(n uint) interceptors.Layer {
		return wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			return inner.Call(ctx, rpc.WithOptions(othersretry.WithMax(n), othersretry.WithBackoff(othersretry.BackoffLinear(time.Second))))
		})
	}
	for _, k := range []interceptors.Kind{interceptors.KindUnary, interceptors.KindServerStream} {
		inBubble(t, k.String(), func(t *testing.T) {
			in, inside := newRoom(), newRoom()
			in.inner = turret.Stack(
				times(3),
				interceptors.FromClient(othersretry.UnaryClientInterceptor(), othersretry.StreamClientInterceptor()),
				interceptors.Admit(inside.calls), interceptors.Admit(inside.limit))
			w := newWorld(t, worldOf{client: in.stack(), server: unwellFor(2)})
			if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			err := errors.Join(in.wants(turret.Success), inside.wants(turret.Failure, turret.Failure, turret.Success), w.settle())
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOthersTimeout(t *testing.T) {
	inBubble(t, "unary", func(t *testing.T) {
		in := newRoom()
		in.inner = turret.Stack(
			interceptors.FromUnaryClient(otherstimeout.UnaryClientInterceptor(time.Second)),
			interceptors.ConcurrencyLimit(1, limit.Queue{}))
		w := newWorld(t, worldOf{client: in.stack()})
		r := w.do(t.Context(), interceptors.KindUnary, slow)
		if err := errors.Join(r.wants(codes.DeadlineExceeded, ""), in.wants(turret.Failure)); err != nil || r.took != time.Second {
			t.Errorf("took %v: %v", r.took, err)
		}
	})
}

// Their matchers choose the RPCs of ForMatch, and their selector those of an
// adopted interceptor; both see the same of an RPC.
func TestOthersMatchers(t *testing.T) {
	everywhere(t, func(t *testing.T, side interceptors.Side, k interceptors.Kind) {
		var seen []middleware.CallMeta
		match := func(yes bool) selector.Matcher {
			return selector.MatchFunc(func(_ context.Context, c middleware.CallMeta) bool {
				seen = append(seen, c)
				return yes
			})
		}
		ran := 0
		count := around(func(ctx context.Context, next func(context.Context) error) error {
			ran++
			return next(ctx)
		})
		selected := turret.Stack(
			interceptors.FromServer(selector.UnaryServerInterceptor(count.unaryServer, match(true)), selector.StreamServerInterceptor(count.streamServer, match(true))),
			interceptors.FromClient(selector.UnaryClientInterceptor(count.unaryClient, match(true)), selector.StreamClientInterceptor(count.streamClient, match(true))))
		w := newWorld(t, onSide(side, interceptors.New(
			interceptors.ForMatch(match(true), count.adopted()),
			interceptors.ForMatch(match(false), interceptors.ConcurrencyLimit(0, limit.Queue{})),
			selected,
		)))
		if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
			t.Fatal(err)
		}
		if ran != 2 || len(seen) != 3 {
			t.Fatalf("%d interceptors ran, matchers were asked %d times", ran, len(seen))
		}
		want := middleware.CallMeta{
			Typ: middleware.GRPCType(k.String()), Service: echov1.EchoService_ServiceDesc.ServiceName,
			Method: strings.TrimPrefix(method(k), "/"+echov1.EchoService_ServiceDesc.ServiceName+"/"), IsClient: side == interceptors.SideClient,
		}
		for _, c := range seen {
			if (c.ReqOrNil != nil) != (k == interceptors.KindUnary) {
				t.Errorf("the request of a %v RPC is %v", k, c.ReqOrNil)
			}
			c.ReqOrNil = nil
			if c != want {
				t.Errorf("a matcher saw %+v, want %+v", c, want)
			}
		}
	})
}

// Hooks of messages and their logging of messages see the same, in one stack.
func TestOthersLogMessages(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var log lines
			var ours messageLog
			events := logging.WithLogOnEvents(logging.PayloadSent, logging.PayloadReceived)
			adopted := interceptors.FromClient(logging.UnaryClientInterceptor(&log, events), logging.StreamClientInterceptor(&log, events))
			w := newWorld(t, worldOf{client: interceptors.New(ours.hook("outside"), retrying(2), adopted, ours.hook("inside"))})
			requests, responses := exchangeMany(t, w, k, failing(1))
			log.mu.Lock()
			defer log.mu.Unlock()
			count := func(what string) (n int) {
				for _, l := range log.got {
					if strings.HasPrefix(l, what) {
						n++
					}
				}
				return n
			}
			if n := count("response received"); n != len(responses) {
				t.Errorf("%d responses were logged, want %d", n, len(responses))
			}
			// Those of the first attempt, as far as it came, and all of the second.
			if n := count("request sent"); n < len(requests) || n > 2*len(requests) {
				t.Errorf("%d requests were logged, want %d of each attempt at most", n, len(requests))
			}
			ours.wants(t, "client", "recv", []string{"inside", "outside"}, responses)
		})
	}
}
