package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// When streams are retried, and what else happens to them then.

// failingFirst is a server that ends its first streams with these errors, at once,
// and remembers when each stream came and what it said of those before it.
type failingFirst struct {
	ends    []error
	trailer metadata.MD // of those that fail

	mu       sync.Mutex
	came     []time.Time
	previous []string
}

func (f *failingFirst) serve(n int, s grpc.ServerStream) error {
	f.mu.Lock()
	f.came = append(f.came, time.Now())
	f.previous = append(f.previous, fmt.Sprint(metadata.ValueFromIncomingContext(s.Context(), previousKey)))
	f.mu.Unlock()
	if n < len(f.ends) {
		s.SetTrailer(f.trailer)
		return f.ends[n]
	}
	return echoAll(s)
}

// waits returns how long there was between the streams.
func (f *failingFirst) waits() (waits []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 1; i < len(f.came); i++ {
		waits = append(waits, f.came[i].Sub(f.came[i-1]))
	}
	return waits
}

// once sends one message on a stream of this kind and reads to the end.
func (p *scripted) once(k interceptors.Kind, opts ...grpc.CallOption) (responses []*response, err error) {
	p.t.Helper()
	s := p.open(k, opts...)
	// io.EOF: the stream has ended already, and receiving will say how.
	if err := s.SendMsg(&request{Payload: []byte("hello")}); err != nil && !errors.Is(err, io.EOF) {
		p.t.Errorf("SendMsg: %v", err)
	}
	_ = s.CloseSend()
	return receive(s, k)
}

// Every attempt says how many there were before it, to the server and to the
// layers inside.
func TestStreamAttempts(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			f := &failingFirst{ends: []error{errDown, errDown}}
			var attempts []int
			p := serve(t, f.serve, again(), noteAttempt(&attempts))
			var finished []error
			responses, err := p.once(k, grpc.OnFinish(func(err error) { finished = append(finished, err) }))
			if err != nil || len(responses) != 1 || string(responses[0].GetPayload()) != "hello" {
				t.Errorf("%v, %v", responses, err)
			}
			if !slices.Equal(attempts, []int{0, 1, 2}) || !slices.Equal(f.previous, []string{"[]", "[1]", "[2]"}) {
				t.Errorf("attempts %v inside, %v at the server", attempts, f.previous)
			}
			if len(finished) != 1 || finished[0] != nil {
				t.Errorf("OnFinish was called with %v", finished)
			}
		})
	}
}

// noteAttempt is a layer that notes the attempts that pass.
func noteAttempt(attempts *[]int) interceptors.Layer {
	return interceptors.Filter(func(_ context.Context, rpc *interceptors.RPC) (context.Context, error) {
		*attempts = append(*attempts, rpc.Attempt)
		return nil, nil //nolint:nilnil // the context stays
	})
}

// Of two Retries the inner one's last failure is one failure to the outer one.
func TestNestedRetry(t *testing.T) {
	two := func() interceptors.Layer {
		return interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: noDelay, Budget: always})
	}
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			f := &failingFirst{ends: []error{errDown, errDown, errDown}}
			p := serve(t, f.serve, two(), two())
			if responses, err := p.once(k); err != nil || len(responses) != 1 {
				t.Errorf("%v, %v", responses, err)
			}
			if want := []string{"[]", "[1]", "[2]", "[3]"}; !slices.Equal(f.previous, want) {
				t.Errorf("attempts before: %v, want %v", f.previous, want)
			}
		})
		inBubble(t, k.String()+"/in vain", func(t *testing.T) {
			f := &failingFirst{ends: slices.Repeat([]error{errDown}, 9)}
			p := serve(t, f.serve, two(), two())
			if _, err := p.once(k); status.Code(err) != codes.Unavailable || p.streams.Load() != 4 {
				t.Errorf("%v after %d attempts, want 4", err, p.streams.Load())
			}
		})
	}
}

// A server that says when to come back is obeyed, to the instant and at most a
// tenth later; one that says not to, as well.
func TestStreamPushback(t *testing.T) {
	tests := []struct {
		name     string
		end      error
		pushback []string
		attempts int64
		wait     time.Duration
	}{
		{"a time", errDown, []string{"250"}, 2, 250 * time.Millisecond},
		{"at once", errDown, []string{"0"}, 2, 0},
		{"of a server that is full", status.Error(codes.ResourceExhausted, "full"), []string{"40"}, 2, 40 * time.Millisecond},
		{"full, for how long it does not say", status.Error(codes.ResourceExhausted, "full"), nil, 1, 0},
		{"no", errDown, []string{"-1"}, 1, 0},
		{"nonsense", errDown, []string{"soon"}, 1, 0},
		{"twice", errDown, []string{"1", "1"}, 1, 0},
		{"later than the deadline", errDown, []string{"40000"}, 1, 0},
	}
	for _, tt := range tests {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				f := &failingFirst{ends: []error{tt.end}, trailer: metadata.MD{pushbackKey: tt.pushback}}
				p := serve(t, f.serve, interceptors.Retry(retry.Config{Backoff: fixed(time.Hour), Budget: always}))
				_, err := p.once(k)
				if p.streams.Load() != tt.attempts || (err == nil) != (tt.attempts > 1) || err != nil && status.Code(err) != status.Code(tt.end) {
					t.Fatalf("%v after %d attempts, want %d", err, p.streams.Load(), tt.attempts)
				}
				if waits := f.waits(); tt.attempts > 1 && (waits[0] < tt.wait || waits[0] > tt.wait+tt.wait/10) {
					t.Errorf("waited %v, want %v and at most a tenth more", waits[0], tt.wait)
				}
			})
		}
	}
}

// Retries of streams draw on the budget.
func TestStreamBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failingFirst{ends: slices.Repeat([]error{errDown}, 100)}
		budget := retry.NewBudget(retry.BudgetConfig{Ratio: -1, MinPerSecond: 1, Window: 3 * time.Second})
		p := serve(t, f.serve, interceptors.Retry(retry.Config{Budget: budget, Backoff: noDelay}))
		for range 10 {
			if _, err := p.once(bidi); status.Code(err) != codes.Unavailable {
				t.Fatalf("ended with %v", err)
			}
		}
		if n := p.streams.Load(); n != 13 {
			t.Errorf("%d attempts of 10 streams, want 3 retries", n)
		}
	})
}

// A Timeout inside the Retry bounds each attempt; the next one starts afresh.
func TestStreamTimeoutPerAttempt(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			p := serve(t, func(n int, s grpc.ServerStream) error {
				if n < 2 { // and say nothing: the client's timer need not be first
					<-s.Context().Done()
					return s.Context().Err()
				}
				return echoAll(s)
			}, again(), interceptors.Timeout(time.Second))
			began := time.Now()
			responses, err := p.once(k)
			if err != nil || len(responses) != 1 || p.streams.Load() != 3 || time.Since(began) != 2*time.Second {
				t.Errorf("%d responses, %v, after %d attempts and %v", len(responses), err, p.streams.Load(), time.Since(began))
			}
		})
		inBubble(t, k.String()+"/in vain", func(t *testing.T) {
			p := serve(t, func(_ int, s grpc.ServerStream) error {
				<-s.Context().Done()
				return s.Context().Err()
			}, again(), interceptors.Timeout(time.Second))
			if _, err := p.once(k); status.Code(err) != codes.DeadlineExceeded || p.streams.Load() != 3 {
				t.Errorf("%v after %d attempts", err, p.streams.Load())
			}
		})
	}
}

// A deadline that passes while an attempt fails is what ended the RPC, if there
// would have been another attempt.
func TestDeadlineAtTheEndOfAnAttempt(t *testing.T) {
	tests := []struct {
		name string
		end  error
		code codes.Code
	}{
		{"worth another attempt", errDown, codes.DeadlineExceeded},
		{"an answer", errGone, codes.NotFound},
	}
	for _, tt := range tests {
		for _, k := range kinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				late := fromEnd(func(err error) error {
					time.Sleep(time.Second)
					return err
				})
				w := newWorld(t, worldOf{client: interceptors.New(again(), late)})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := w.do(ctx, k, failsWith(status.Code(tt.end))).err
				if status.Code(err) != tt.code || w.server.ran.Load() != 1 {
					t.Errorf("ended with %v after %d attempts, want %v", err, w.server.ran.Load(), tt.code)
				}
				if !strings.Contains(status.Convert(err).Message(), "as planned") {
					t.Errorf("the last status is not in the text: %v", err)
				}
			})
		}
	}
}

// An attempt that fails before it is open is one like the others.
func TestStreamAttemptNotOpened(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			opened := 0
			refuse := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				if opened++; opened < 3 {
					return nil, errDown
				}
				return streamer(ctx, desc, cc, method, opts...)
			}
			f := new(failingFirst)
			p := serveWith(t, f.serve, wire.Config{Dial: []grpc.DialOption{grpc.WithChainStreamInterceptor(refuse)}}, again())
			if responses, err := p.once(k); err != nil || len(responses) != 1 {
				t.Errorf("%v, %v", responses, err)
			}
			if !slices.Equal(f.previous, []string{"[2]"}) {
				t.Errorf("attempts before: %v", f.previous)
			}
		})
	}
}

// A stream is cancelled, or its connection closed, wherever it is. The last
// status is within reach.
func TestStreamCancelledBetweenAttempts(t *testing.T) {
	tests := []struct {
		name  string
		layer func() interceptors.Layer
		end   func(p *scripted, cancel func())
		code  codes.Code
		after time.Duration
	}{
		{"in the backoff", func() interceptors.Layer {
			return interceptors.Retry(retry.Config{Backoff: fixed(10 * time.Second), Budget: always})
		}, func(_ *scripted, cancel func()) { cancel() }, codes.Canceled, time.Second},
		{"in a line", func() interceptors.Layer {
			place := limit.NewConcurrency(1, limit.Queue{Max: 1})
			takePlace := func(ctx context.Context, _ int, _ error, _ time.Duration) { _, _ = place.Enter(ctx) }
			return turret.Stack(
				interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always, OnRetry: takePlace}),
				interceptors.Admit(place),
			)
		}, func(_ *scripted, cancel func()) { cancel() }, codes.Canceled, time.Second},
		{"ClientConn.Close in a line", func() interceptors.Layer {
			place := limit.NewConcurrency(1, limit.Queue{Max: 1, Timeout: 5 * time.Second})
			takePlace := func(ctx context.Context, attempt int, _ error, _ time.Duration) {
				if attempt == 1 {
					_, _ = place.Enter(ctx)
				}
			}
			return turret.Stack(
				interceptors.Retry(retry.Config{Backoff: noDelay, Budget: always, OnRetry: takePlace}),
				interceptors.Admit(place),
			)
		}, func(p *scripted, _ func()) { _ = p.Conn.Close() }, codes.ResourceExhausted, 10 * time.Second},
		// gRPC reports it only to users of the connection.
		{"ClientConn.Close in the backoff", func() interceptors.Layer {
			return interceptors.Retry(retry.Config{Backoff: fixed(10 * time.Second), Budget: always})
		}, func(p *scripted, _ func()) { _ = p.Conn.Close() }, codes.Canceled, 10 * time.Second},
	}
	for _, tt := range tests {
		for _, k := range streamKinds {
			inBubble(t, tt.name+"/"+k.String(), func(t *testing.T) {
				f := &failingFirst{ends: []error{errDown}}
				p := serve(t, f.serve, tt.layer())
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				time.AfterFunc(time.Second, func() { tt.end(p, cancel) })
				s, err := p.openIn(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				_ = s.CloseSend()
				_, err = receive(s, k)
				if status.Code(err) != tt.code || time.Since(began) != tt.after {
					t.Errorf("ended with %v after %v, want %v after %v", err, time.Since(began), tt.code, tt.after)
				}
			})
		}
	}
}

// A stream whose context has ended before it began is not sent, and ends once.
func TestStreamWithEndedContext(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			p := serve(t, new(failingFirst).serve, again())
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var finished []error
			_, err := p.openIn(ctx, k, grpc.OnFinish(func(err error) { finished = append(finished, err) }))
			if status.Code(err) != codes.Canceled || len(finished) != 1 || status.Code(finished[0]) != codes.Canceled {
				t.Errorf("NewStream: %v; OnFinish was called with %v", err, finished)
			}
			synctest.Wait()
			if n := p.streams.Load(); n != 0 {
				t.Errorf("%d attempts reached the server", n)
			}
		})
	}
}

// Streams that their callers forget are ended by the deadline of a layer, in
// whatever state they are, and give back what they hold.
func TestAbandonedStreams(t *testing.T) {
	for _, k := range streamKinds {
		for name, abandon := range map[string]func(s grpc.ClientStream){
			"at once":         func(grpc.ClientStream) {},
			"after a message": func(s grpc.ClientStream) { _ = s.SendMsg(&request{Payload: make([]byte, 100_000)}) },
			"committed":       func(s grpc.ClientStream) { _ = s.Context() },
		} {
			inBubble(t, name+"/"+k.String(), func(t *testing.T) {
				place := limit.NewConcurrency(1, limit.Queue{})
				ended := make(chan struct{})
				p := serve(t, func(_ int, s grpc.ServerStream) error {
					defer close(ended)
					<-s.Context().Done()
					return s.Context().Err()
				}, interceptors.Admit(place), interceptors.Timeout(time.Minute), again(), interceptors.Timeout(time.Hour))
				s, err := p.openIn(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				abandon(s)
				time.Sleep(time.Minute - 1)
				if place.Stats().InFlight != 1 {
					t.Error("the stream has given its place back already")
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				if place.Stats().InFlight != 0 {
					t.Error("the stream holds its place after its deadline")
				}
				<-ended
				if err := s.RecvMsg(new(response)); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("RecvMsg: %v", err)
				}
			})
		}
	}
}

// Message hooks outside the Retry see every message once, those inside see what
// is sent in each attempt: real messages, which they may change.
func TestWrapStreamAroundRetry(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			var outside, inside []string
			var got []string
			p := serve(t, func(n int, s grpc.ServerStream) error {
				payloads, err := read(s, 1)
				if err != nil {
					return err
				}
				got = append(got, string(payloads[0]))
				if n == 0 {
					return errDown
				}
				return s.SendMsg(&response{Payload: payloads[0]})
			}, stamping("o", &outside), again(), stamping("i", &inside))
			responses, err := p.once(k)
			if err != nil || len(responses) != 1 || string(responses[0].GetPayload()) != "hello+o+i-i-o" {
				t.Fatalf("%v, %v", responses, err)
			}
			if want := []string{"hello+o+i", "hello+o+i"}; !slices.Equal(got, want) {
				t.Errorf("the server got %q, want %q", got, want)
			}
			if want := []string{"sent hello", "got hello+o+i-i"}; !slices.Equal(outside, want) {
				t.Errorf("outside: %q, want %q", outside, want)
			}
			if want := []string{"sent hello+o", "sent hello+o", "got hello+o+i"}; !slices.Equal(inside, want) {
				t.Errorf("inside: %q, want %q", inside, want)
			}
		})
	}
}

// stamping is a layer that adds its mark to messages, and notes what they were.
func stamping(mark string, saw *[]string) interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return stampService{inner, mark, saw} }
}

type stampService struct {
	interceptors.Service

	mark string
	saw  *[]string
}

func (s stampService) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return s.Service.Call(ctx, rpc.WrapStream(func(m interceptors.MessageStream) interceptors.MessageStream {
		return stampStream{m, s}
	}))
}

type stampStream struct {
	interceptors.MessageStream

	of stampService
}

// SendMsg sends another message: that of the caller is not to be changed.
func (s stampStream) SendMsg(m any) error {
	payload := string(m.(*request).GetPayload())
	*s.of.saw = append(*s.of.saw, "sent "+payload)
	return s.MessageStream.SendMsg(&request{Payload: []byte(payload + "+" + s.of.mark)})
}

func (s stampStream) RecvMsg(m any) error {
	err := s.MessageStream.RecvMsg(m)
	if err == nil {
		r := m.(*response)
		*s.of.saw = append(*s.of.saw, "got "+string(r.GetPayload()))
		r.Payload = append(r.GetPayload(), "-"+s.of.mark...)
	}
	return err
}

// A stream that cannot be retried is passed through: it is a stream like others.
func TestStreamThatCannotBeRetried(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			p := serve(t, new(failingFirst).serve, again(interceptors.ReplayLimit(0)))
			responses, err := p.once(k)
			if err != nil || len(responses) != 1 || string(responses[0].GetPayload()) != "hello" {
				t.Errorf("%v, %v", responses, err)
			}
		})
	}
}

func TestReplayLimitIsChecked(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "ReplayLimit") || !strings.Contains(p, "-1") {
			t.Errorf("recovered %q", p)
		}
	}()
	interceptors.ReplayLimit(-1)
}
