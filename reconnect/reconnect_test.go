package reconnect_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/ready"
	"github.com/turret-go/turret/reconnect"
	"github.com/turret-go/turret/retry"
)

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset")
)

type (
	Service = turret.Service[string, string]
	Client  = reconnect.Service[string, string]
)

// A host takes connections, or not.
type host struct {
	mu    sync.Mutex
	err   error         // with which it refuses
	takes time.Duration // to connect
	tried []time.Duration
	conns []*conn
	began time.Time
}

// A conn is a connection to a host. Its name is its number.
type conn struct {
	name   string
	mu     sync.Mutex
	err    error // final
	closed int
	hold   chan struct{} // if not nil, calls wait for it
	calls  atomic.Int64
}

func newHost() *host { return &host{began: time.Now()} }

// dial is the maker.
func (h *host) dial(ctx context.Context, target string) (Service, error) {
	h.mu.Lock()
	h.tried = append(h.tried, time.Since(h.began))
	takes := h.takes
	h.mu.Unlock()
	timer := time.NewTimer(takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return nil, h.err
	}
	c := &conn{name: fmt.Sprint(target, "#", len(h.conns))}
	h.conns = append(h.conns, c)
	return c, nil
}

func (h *host) refuses(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *host) attempts() []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.tried)
}

func (h *host) client(t *testing.T, c reconnect.Config) *Client {
	s := reconnect.New(turret.ServiceFunc(h.dial), "host", c)
	t.Cleanup(s.Close)
	return s
}

func (c *conn) Ready(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) Call(ctx context.Context, req string) (string, error) {
	c.calls.Add(1)
	if c.hold != nil {
		<-c.hold
	}
	if req == "fail" {
		return "", io.ErrUnexpectedEOF
	}
	return c.name + ": " + req, nil
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed++
	return nil
}

func (c *conn) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *conn) wantClosed(t *testing.T, want int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != want {
		t.Errorf("%s: closed %d times, want %d", c.name, c.closed, want)
	}
}

// steady pauses 1, 2, 4, 8, 8 ... seconds.
var steady = reconnect.Config{Backoff: retry.Backoff{Base: time.Second, Max: 8 * time.Second, Jitter: -1}}

func wantAnswer(t *testing.T, s Service, want string) {
	t.Helper()
	if got, err := s.Call(t.Context(), "hello"); got != want+": hello" || err != nil {
		t.Errorf("got %q, %v, want an answer of %s", got, err, want)
	}
}

// wantRefusal fails the test unless a call is refused for that reason.
func wantRefusal(t *testing.T, s Service, retryAfter time.Duration, why error) {
	t.Helper()
	_, err := s.Call(t.Context(), "hello")
	refusal, ok := errors.AsType[*turret.Refusal](err)
	if !ok || refusal.Kind != turret.KindUnavailable || refusal.Reason != reconnect.ReasonNotConnected || refusal.RetryAfter != retryAfter {
		t.Fatalf("got %#v, want a refusal with RetryAfter %v", err, retryAfter)
	}
	if !errors.Is(err, why) || !errors.Is(err, reconnect.ErrNotConnected) || !errors.Is(err, turret.ErrNotReady) {
		t.Errorf("got %v, want one that matches %v, ErrNotConnected and ErrNotReady", err, why)
	}
}

func seconds(n ...int) []time.Duration {
	var list []time.Duration
	for _, s := range n {
		list = append(list, time.Duration(s)*time.Second)
	}
	return list
}

func TestConnectsWhenNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		s := h.client(t, reconnect.Config{})
		time.Sleep(time.Hour)
		if n := len(h.attempts()); n != 0 {
			t.Fatalf("%d attempts before anybody needs it", n)
		}
		wantAnswer(t, s, "host#0")
		wantAnswer(t, s, "host#0")
		if err := s.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(h.attempts()); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}

// An attempt belongs to all, and goes on without the callers that give up.
func TestSharedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.takes = time.Minute
		s := h.client(t, reconnect.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Call(ctx, "hello")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, turret.ErrNotReady) || !errors.Is(err, reconnect.ErrNotConnected) {
			t.Errorf("gave up: %v, want an error that matches the context's, ErrNotReady and ErrNotConnected", err)
		}
		var answers atomic.Int64
		for range 10 {
			go func() {
				if _, err := s.Call(t.Context(), "hello"); err == nil {
					answers.Add(1)
				}
			}()
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := len(h.attempts()); n != 1 || answers.Load() != 10 {
			t.Errorf("%d attempts, %d answers, want 1 and 10", n, answers.Load())
		}
	})
}

// Between two attempts calls are refused at once, with the time to wait.
func TestRefusesBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.refuses(errRefused)
		s := h.client(t, steady)
		wantRefusal(t, s, time.Second, errRefused)
		time.Sleep(300 * time.Millisecond)
		wantRefusal(t, s, 700*time.Millisecond, errRefused)
		time.Sleep(700 * time.Millisecond)
		h.refuses(errReset)
		wantRefusal(t, s, 2*time.Second, errReset) // the last error, not the first
		wantRefusal(t, s, 2*time.Second, errReset) // nor when no attempt is made
		if got, want := h.attempts(), seconds(0, 1); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
	})
}

// Many callers cause no hot loop: this is an hour of 10 calls a second, and of a
// caller that waits in Ready all the time.
func TestNoHotLoop(t *testing.T) {
	for _, c := range []reconnect.Config{{}, steady} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost()
			h.refuses(errRefused)
			s := h.client(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := s.Ready(ctx); !errors.Is(err, errRefused) || turret.IsFinal(err) {
					t.Errorf("Ready: %v, want the last error, and not final", err)
				}
			})
			wg.Go(func() {
				for ctx.Err() == nil {
					_, _ = s.Call(ctx, "hello")
					time.Sleep(100 * time.Millisecond)
				}
			})
			wg.Wait()
			// At most one in 5 s on average with full jitter, which is 2.5 s.
			if n := len(h.attempts()); n < 400 || n > 1700 {
				t.Errorf("%d attempts in an hour", n)
			}
			got := h.attempts()[:min(6, len(h.attempts()))]
			if want := seconds(0, 1, 3, 7, 15, 23); c.Backoff.Base != 0 && !slices.Equal(got, want) {
				t.Errorf("attempts at %v, want %v", got, want)
			}
		})
	}
}

// Tower returns a stored error to the next call, even if it has connected since.
func TestErrorIsNeverStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.refuses(errRefused)
		s := h.client(t, steady)
		if err := turret.ReadyNow(s); !errors.Is(err, turret.ErrNotReady) { // begins an attempt
			t.Errorf("Ready: %v, want ErrNotReady", err)
		}
		synctest.Wait()
		h.refuses(nil)
		time.Sleep(time.Second)
		_ = turret.ReadyNow(s) // begins the next one
		synctest.Wait()
		if err := turret.ReadyNow(s); err != nil {
			t.Errorf("connected: %v, want nil", err)
		}
		wantAnswer(t, s, "host#0")
		if got := s.String(); got != "reconnect: connected" {
			t.Errorf("prints as %q", got)
		}
	})
}

// A service that is not connected is not ready. Tower says that it is.
func TestReadyWaitsForTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.refuses(errRefused)
		s := h.client(t, steady)
		time.AfterFunc(5*time.Second, func() { h.refuses(nil) })
		if err := s.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := h.attempts(), seconds(0, 1, 3, 7); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		wantAnswer(t, s, "host#0")
	})
}

// Do or a buffer waits where Call is refused.
func TestWaitingForTheConnection(t *testing.T) {
	ways := map[string]func(ctx context.Context, s Service) (string, error){
		"Do": func(ctx context.Context, s Service) (string, error) { return turret.Do(ctx, s, "hello") },
		"buffer": func(ctx context.Context, s Service) (string, error) {
			return buffer.New(s, 10).Call(ctx, "hello")
		},
	}
	for name, call := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost()
				h.refuses(errRefused)
				s := h.client(t, steady)
				time.AfterFunc(5*time.Second, func() { h.refuses(nil) })
				if got, err := call(t.Context(), s); got != "host#0: hello" || err != nil {
					t.Errorf("got %q, %v, want an answer", got, err)
				}
			})
		})
	}
}

// Without calls it stays lost, unless something keeps it ready.
func TestKeptConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.refuses(errRefused)
		s := ready.Spawn[string, string](h.client(t, steady))
		defer s.Close()
		time.Sleep(2 * time.Second)
		h.refuses(nil)
		time.Sleep(time.Minute)
		if got, want := h.attempts(), seconds(0, 1, 3); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		wantAnswer(t, s, "host#0")
	})
}

// A connection that was good for something is replaced at once.
func TestLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		var told []string
		c := steady
		c.OnFailure = func(err error, failures int, delay time.Duration) {
			told = append(told, fmt.Sprint(err, " ", failures, " ", delay))
		}
		s := h.client(t, c)
		wantAnswer(t, s, "host#0")
		h.conns[0].fails(errReset)
		wantAnswer(t, s, "host#1")
		h.conns[0].wantClosed(t, 1)
		h.conns[1].fails(errReset)
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v, want nil after it has connected again", err)
		}
		if got, want := h.attempts(), seconds(0, 0, 0); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		h.conns[2].wantClosed(t, 0)
		want := []string{"connection reset 0 0s", "connection reset 0 0s"}
		if !slices.Equal(told, want) {
			t.Errorf("OnFailure was told %q, want %q", told, want)
		}
	})
}

// One that is lost before a call has succeeded counts as a failure: no hot loop
// with a host that takes connections and drops them.
func TestFlappingConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		var failures []int
		c := steady
		c.OnFailure = func(_ error, n int, _ time.Duration) { failures = append(failures, n) }
		s := h.client(t, c)
		drop := func() {
			for _, c := range h.conns {
				c.fails(errReset)
			}
		}
		for range 5 {
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Call(t.Context(), "fail"); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v, want what the service says", err)
			}
			drop()
		}
		if got, want := h.attempts(), seconds(0, 1, 3, 7, 15); !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}
		if want := []int{1, 2, 3, 4}; !slices.Equal(failures, want) {
			t.Errorf("failures %v, want %v", failures, want)
		}
		time.Sleep(8 * time.Second)
		wantRefusal(t, s, 8*time.Second, errReset)
		time.Sleep(8 * time.Second)
		wantAnswer(t, s, "host#5") // and it is proved
		drop()
		wantAnswer(t, s, "host#6")
	})
}

// A race: one caller finds that the connection is dead, or alive, and acts on it
// when it has been replaced long since.
func TestLateToNotice(t *testing.T) {
	for name, first := range map[string]error{"dead": errReset, "alive": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost()
				old := &lateConn{conn: &conn{name: "old"}, first: first, resume: make(chan struct{})}
				s := reconnect.With[string](old, turret.ServiceFunc(h.dial), "host", steady)
				defer s.Close()
				var res string
				var err error
				go func() { res, err = s.Call(t.Context(), "hello") }()
				synctest.Wait()
				if err := s.Ready(t.Context()); err == nil { // begins the pause: nothing was proved
					wantAnswer(t, s, "host#0")
				}
				old.wantClosed(t, 1)
				close(old.resume)
				synctest.Wait()
				if res != "host#0: hello" || err != nil {
					t.Errorf("got %q, %v, want an answer of the new connection", res, err)
				}
				if n := len(h.attempts()); n != 1 || old.calls.Load() != 0 {
					t.Errorf("%d attempts, %d calls on the old connection, want 1 and 0", n, old.calls.Load())
				}
			})
		})
	}
}

// A lateConn is dead for all callers, and answers the first one late.
type lateConn struct {
	*conn

	asked  atomic.Int64
	first  error
	resume chan struct{}
}

func (c *lateConn) Ready(context.Context) error {
	if c.asked.Add(1) > 1 {
		return errReset
	}
	<-c.resume
	return c.first
}

// Calls that are in flight on a lost connection go on, and the last one closes
// it.
func TestCallsOnALostConnectionGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		s := h.client(t, steady)
		wantAnswer(t, s, "host#0")
		old := h.conns[0]
		old.hold = make(chan struct{})
		var answers []string
		var mu sync.Mutex
		for range 2 {
			go func() {
				res, _ := s.Call(t.Context(), "slow")
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, res)
			}()
		}
		synctest.Wait()
		old.fails(errReset)
		wantAnswer(t, s, "host#1")
		old.wantClosed(t, 0)
		old.hold <- struct{}{}
		synctest.Wait()
		old.wantClosed(t, 0)
		old.hold <- struct{}{}
		synctest.Wait()
		old.wantClosed(t, 1)
		if want := []string{"host#0: slow", "host#0: slow"}; !slices.Equal(answers, want) {
			t.Errorf("answers %q, want %q", answers, want)
		}
	})
}

// A call that does not return gives its place on the connection back.
func TestWaysOutOfACall(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { panic("inner") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := false
				made := &plain{Func: func(context.Context, string) (string, error) { f(); return "", nil }, onClose: func() { closed = true }}
				s := reconnect.With[string](made, turret.Shared[string, string, string](made), "", reconnect.Config{})
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					_, _ = s.Call(t.Context(), "hello")
				}()
				<-done
				s.Close()
				if !closed {
					t.Error("the service was not closed: a call is still counted")
				}
			})
		})
	}
}

// plain is a service with a Close that returns nothing.
type plain struct {
	turret.Func[string, string]

	onClose func()
}

func (p *plain) Close() { p.onClose() }

func TestWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		first := &conn{name: "first"}
		s := reconnect.With[string](first, turret.ServiceFunc(h.dial), "host", steady)
		defer s.Close()
		wantAnswer(t, s, "first")
		if len(h.attempts()) != 0 {
			t.Error("it was connected")
		}
		first.fails(errReset)
		wantAnswer(t, s, "host#0")
		first.wantClosed(t, 1)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		s := h.client(t, steady)
		wantAnswer(t, s, "host#0")
		s.Close()
		s.Close()
		h.conns[0].wantClosed(t, 1)
		wantRefusal(t, s, 0, reconnect.ErrClosed)
		if err := s.Ready(t.Context()); !errors.Is(err, reconnect.ErrClosed) || !turret.IsFinal(err) {
			t.Errorf("Ready: %v, want ErrClosed, and final", err)
		}
		if got, want := s.String(), "reconnect: not connected: service closed"; got != want {
			t.Errorf("prints as %q, want %q", got, want)
		}
	})
}

// Close ends the waits for an attempt, and those for the next one; what an attempt makes too late is closed.
func TestCloseWhileNotConnected(t *testing.T) {
	tests := map[string]struct {
		host     *host
		deaf     bool // the maker does not heed its context
		wantConn int
	}{
		"attempt":      {host: &host{takes: time.Hour}},
		"deaf attempt": {host: &host{takes: time.Hour}, deaf: true, wantConn: 1},
		"pause":        {host: &host{err: errRefused}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := func(ctx context.Context, target string) (Service, error) {
					if tt.deaf {
						ctx = context.WithoutCancel(ctx)
					}
					return tt.host.dial(ctx, target)
				}
				s := reconnect.New(turret.ServiceFunc(dial), "host", reconnect.Config{Backoff: retry.Backoff{Base: time.Hour, Jitter: -1}})
				var readyErr, callErr error
				go func() { readyErr = s.Ready(t.Context()) }()
				synctest.Wait()
				go func() { _, callErr = s.Call(t.Context(), "hello") }()
				synctest.Wait()
				s.Close()
				synctest.Wait()
				if !errors.Is(readyErr, reconnect.ErrClosed) || !turret.IsFinal(readyErr) {
					t.Errorf("Ready: %v, want ErrClosed, and final", readyErr)
				}
				if name != "pause" && !errors.Is(callErr, reconnect.ErrClosed) || !errors.Is(callErr, turret.ErrNotReady) {
					t.Errorf("Call: %v, want ErrClosed and ErrNotReady", callErr)
				}
				if len(tt.host.conns) != tt.wantConn {
					t.Fatalf("%d connections, want %d", len(tt.host.conns), tt.wantConn)
				}
				for _, c := range tt.host.conns {
					c.wantClosed(t, 1)
				}
			})
		})
	}
}

// A maker whose readiness has failed will never make a service again.
func TestMakerFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := reconnect.New(badMaker{errReset}, "host", steady)
		defer s.Close()
		if err := s.Ready(t.Context()); !errors.Is(err, errReset) || !turret.IsFinal(err) {
			t.Errorf("Ready: %v, want the maker's final error", err)
		}
		wantRefusal(t, s, 0, errReset)
		s.Close()
		wantRefusal(t, s, 0, errReset)
		later := reconnect.New(badMaker{turret.ErrNotReady}, "host", steady) // and one that is not ready now
		defer later.Close()
		wantRefusal(t, later, time.Second, turret.ErrNotReady)
	})
}

type badMaker struct{ err error }

func (m badMaker) Ready(context.Context) error                   { return m.err }
func (m badMaker) Call(context.Context, string) (Service, error) { panic("was called") }

// What a maker does instead of making a service is an attempt that failed.
func TestMakersThatMakeNothing(t *testing.T) {
	tests := map[string]func() (Service, error){
		"nil":    func() (Service, error) { return nil, nil },
		"panic":  func() (Service, error) { panic("secret") },
		"Goexit": func() (Service, error) { runtime.Goexit(); return nil, nil },
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := reconnect.New(turret.ServiceFunc(func(context.Context, string) (Service, error) { return f() }), "host", steady)
				defer s.Close()
				wantRefusal(t, s, time.Second, reconnect.ErrNotConnected)
				if strings.Contains(s.String(), "secret") {
					t.Errorf("%q has the panic's text", s)
				}
			})
		})
	}
}

// Pauses without a bound end up as long as a Duration can be.
func TestHugePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.refuses(errRefused)
		s := h.client(t, reconnect.Config{Backoff: retry.Backoff{Base: math.MaxInt64, Max: -1, Jitter: -1}})
		wantRefusal(t, s, math.MaxInt64, errRefused)
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer cancel()
		if err := s.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errRefused) {
			t.Errorf("Ready: %v, want the context's error and the last one", err)
		}
		if n := len(h.attempts()); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}

// A callback may use the service.
func TestOnFailureCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.refuses(errRefused)
		var s *Client
		var got []string
		c := steady
		c.OnFailure = func(error, int, time.Duration) {
			_, err := s.Call(t.Context(), "hello")
			got = append(got, fmt.Sprint(s, "; ", err, "; ", turret.ReadyNow(s)))
		}
		s = h.client(t, c)
		_ = turret.ReadyNow(s)
		synctest.Wait()
		want := []string{"reconnect: not connected, 1 failures: connection refused; reconnect: not connected: connection refused, retry after 1s; context canceled: not connected: connection refused"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestBadConfig(t *testing.T) {
	dial := turret.ServiceFunc(newHost().dial)
	tests := map[string]func(){
		"reconnect: New: maker is nil, must be non-nil":    func() { reconnect.New[string, string, string](nil, "", reconnect.Config{}) },
		"reconnect: With: maker is nil, must be non-nil":   func() { reconnect.With[string, string, string](&conn{}, nil, "", reconnect.Config{}) },
		"reconnect: With: service is nil, must be non-nil": func() { reconnect.With[string, string, string](nil, dial, "", reconnect.Config{}) },
		"reconnect: New: Backoff.Base is -1ns, must be at least 0 (0 means 50ms)": func() {
			reconnect.New(dial, "", reconnect.Config{Backoff: retry.Backoff{Base: -1}})
		},
		"reconnect: New: Backoff.Max is 1s, must be at least Base (2s)": func() {
			reconnect.New(dial, "", reconnect.Config{Backoff: retry.Backoff{Base: 2 * time.Second, Max: time.Second}})
		},
	}
	for want, f := range tests {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != want {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
}

func TestString(t *testing.T) {
	if got, want := newHost().client(t, reconnect.Config{}).String(), "reconnect: not connected yet"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
}

func TestDoesNotAllocate(t *testing.T) {
	c := &conn{name: "c"}
	s := reconnect.With[string](Service(turret.Func[string, string](func(context.Context, string) (string, error) { return "", nil })),
		turret.Shared[string](Service(c)), "", reconnect.Config{})
	defer s.Close()
	ctx := t.Context()
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, "a"); _ = s.Ready(ctx) }); got != 0 {
		t.Errorf("%v allocations, want none while it is connected", got)
	}
}

// Many callers of a connection that comes and goes: every connection that was
// made is closed once, and never under a call.
func TestHammer(t *testing.T) {
	var mu sync.Mutex
	var conns []*conn
	dial := turret.ServiceFunc(func(context.Context, string) (Service, error) {
		mu.Lock()
		defer mu.Unlock()
		c := &conn{}
		conns = append(conns, c)
		return &checked{conn: c, t: t}, nil
	})
	s := reconnect.New(dial, "host", reconnect.Config{Backoff: retry.Backoff{Base: time.Microsecond, Max: time.Microsecond}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 300 {
				switch (i + j) % 10 {
				case 0:
					mu.Lock()
					if len(conns) > 0 {
						conns[len(conns)-1].fails(errReset)
					}
					mu.Unlock()
				case 1:
					_ = turret.ReadyNow(s)
				default:
					if _, err := s.Call(t.Context(), "hello"); err != nil && !errors.Is(err, turret.ErrNotReady) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	s.Close()
	for i, c := range conns {
		if c.closed != 1 {
			t.Errorf("connection %d of %d was closed %d times", i, len(conns), c.closed)
		}
	}
}

type checked struct {
	*conn

	t *testing.T
}

func (c *checked) Call(ctx context.Context, req string) (string, error) {
	defer c.wantClosed(c.t, 0)
	runtime.Gosched()
	return c.conn.Call(ctx, req)
}

// Callers that wait for an attempt get its end, even if OnFailure fails.
func TestOnFailureThatDoesNotReturn(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { panic("a fault") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost()
				h.refuses(errRefused)
				c := steady
				c.OnFailure = func(error, int, time.Duration) { f() }
				if _, err := h.client(t, c).Call(t.Context(), "hello"); !errors.Is(err, errRefused) {
					t.Errorf("got %v, want %v", err, errRefused)
				}
			})
		})
	}
}
