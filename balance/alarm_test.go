package balance_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/load/alarm"
	loadv1 "github.com/turret-go/turret/proto/turret/load/v1"
)

// A crier is the alarm of a server, under a test's control.
type crier struct {
	loadv1.UnimplementedLoadServer

	end error // with which each stream ends at once; nil: none does

	mu      sync.Mutex
	streams int           // that were opened
	open    int           // that are open now
	latency time.Duration // 0: well
	repeat  time.Duration
	changed chan struct{} // made in the bubble
	sent    int
}

func newCrier() *crier { return &crier{repeat: time.Second} }

// say makes the server say that its calls take so long, until it says something else; 0 means that it is well.
func (c *crier) say(latency, repeat time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency, c.repeat = latency, repeat
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func (c *crier) Watch(_ *loadv1.WatchRequest, s grpc.ServerStreamingServer[loadv1.WatchResponse]) error {
	c.count(1)
	defer c.count(-1)
	if c.end != nil {
		return c.end
	}
	for {
		c.mu.Lock()
		m := &loadv1.WatchResponse{Sick: c.latency > 0, Latency: durationpb.New(c.latency)}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		repeat, changed := c.repeat, c.changed
		c.sent++
		c.mu.Unlock()
		if err := s.Send(m); err != nil {
			return err
		}
		again := time.NewTimer(repeat)
		select {
		case <-s.Context().Done():
			again.Stop()
			return s.Context().Err()
		case <-changed:
		case <-again.C:
		}
		again.Stop()
	}
}

func (c *crier) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	c.streams += max(n, 0)
}

func (c *crier) counts() (streams, open, sent int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams, c.open, c.sent
}

// serverWith returns a server of 10 ms a call, with a crier if c is not nil.
func serverWith(c *crier) *grpc.Server {
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		time.Sleep(10 * time.Millisecond)
		return next(ctx, req)
	}))
	if c != nil {
		loadv1.RegisterLoadServer(s, c)
	}
	return s
}

// shares makes calls, ten at a time, and returns how many each backend had.
func (w *world) shares(calls int) []int {
	w.Helper()
	before := w.counts()
	for range calls / 10 {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := w.call(); err != nil {
					w.Errorf("call: %v", err)
				}
			})
		}
		all.Wait()
	}
	after := w.counts()
	for i := range after {
		after[i] -= before[i]
	}
	return after
}

func (w *world) counts() (all []int) {
	for _, b := range w.backends {
		all = append(all, b.count())
	}
	return all
}

var plain = balance.ServiceConfig(balance.Config{Seed: 1})

// TestAlarmMovesCalls has a server say that it is sick, though its calls are as quick as
// ever: it gets next to none, until it says that it is well, says nothing any
// more, or its stream ends.
func TestAlarmMovesCalls(t *testing.T) {
	for _, kind := range []balance.LoadKind{balance.LoadEWMA, balance.LoadPeakEWMA, balance.LoadPending} {
		t.Run(string(kind), func(t *testing.T) {
			c := newCrier()
			config := balance.ServiceConfig(balance.Config{Seed: 1, Load: kind})
			inWorldOf(t, 4, func(i int) *grpc.Server { return serverWith([]*crier{c, nil, nil, nil}[i]) }, config, func(w *world) {
				usual := func(when string) {
					w.Helper()
					if got := w.shares(200); got[0] < 25 {
						t.Errorf("%s: %v calls, want some 50 to the first server", when, got)
					}
				}
				usual("well")
				c.say(10*time.Second, time.Second)
				time.Sleep(100 * time.Millisecond)
				if got := w.shares(200); got[0] > 3 {
					t.Errorf("sick: %v calls, want next to none to the first server", got)
				}
				c.say(0, time.Hour)
				synctest.Wait()
				time.Sleep(time.Second)
				usual("well again")
				c.say(10*time.Second, time.Hour) // once
				time.Sleep(4 * time.Second)
				usual("not repeated")
			})
		})
	}
}

// TestAlarmIsOnlyAnAlarm has servers report latencies that are nothing out of the
// ordinary here: the choices are those of a fleet that reports nothing.
func TestAlarmIsOnlyAnAlarm(t *testing.T) {
	var silent, reporting []int
	run := func(latency time.Duration, into *[]int) {
		criers := []*crier{newCrier(), newCrier(), newCrier()}
		inWorldOf(t, 3, func(i int) *grpc.Server { return serverWith(criers[i]) }, plain, func(w *world) {
			w.shares(200)
			criers[1].say(latency, time.Second)
			synctest.Wait()
			before := w.counts()
			w.mustCall(300) // one at a time: what is in flight does not decide
			*into = w.counts()
			for i := range before {
				(*into)[i] -= before[i]
			}
		})
	}
	run(0, &silent)
	run(15*time.Millisecond, &reporting)
	for i := range silent {
		if d := silent[i] - reporting[i]; d < -60 || d > 60 {
			t.Errorf("%v calls with an ordinary report, %v without", reporting, silent)
		}
	}
}

// TestAlarmOfLiars has servers that always cry. One loses its own calls, and the
// others share them; all of them together change nothing. None is banned.
func TestAlarmOfLiars(t *testing.T) {
	for _, tt := range []struct {
		liars int
		says  time.Duration
	}{{1, time.Second}, {1, 1 << 62}, {4, time.Hour}} {
		inWorldOf(t, 4, func(i int) *grpc.Server {
			if i >= tt.liars {
				return serverWith(nil)
			}
			c := newCrier()
			c.say(tt.says, time.Second)
			return serverWith(c)
		}, plain, func(w *world) {
			w.shares(100)
			got := w.shares(400)
			honest := got[tt.liars:]
			if tt.liars == 4 {
				honest = got
			}
			fair := 400 / len(honest)
			if slices.Min(honest) < fair*7/10 || slices.Max(honest) > fair*13/10 {
				t.Errorf("%d liars: %v calls, want some %d each", tt.liars, got, fair)
			}
			if tt.liars == 1 && got[0] > 5 {
				t.Errorf("the liar has %d of 400 calls", got[0])
			}
		})
	}
}

// TestAlarmOfAFlood has a server that sends without a pause: the client reads a
// bounded number of messages in a second.
func TestAlarmOfAFlood(t *testing.T) {
	c := newCrier()
	c.say(time.Second, time.Nanosecond)
	inWorldOf(t, 1, func(int) *grpc.Server { return serverWith(c) }, plain, func(w *world) {
		time.Sleep(10 * time.Second)
		_, _, before := c.counts()
		time.Sleep(20 * time.Second)
		// Some wait in buffers that are refilled now and then.
		if _, _, after := c.counts(); after-before > 20*20+3000 {
			t.Errorf("%d messages were taken in 20 s", after-before)
		}
		if err := w.call(); err != nil {
			t.Errorf("a call beside the flood: %v", err)
		}
	})
}

// TestAlarmIsAskedForOnce counts the streams of servers that end them: those that do
// not have the service, and those that refuse it, are asked once on each
// connection; where the end may be passing, the stream is opened again, ever more
// rarely.
func TestAlarmIsAskedForOnce(t *testing.T) {
	for _, tt := range []struct {
		code        codes.Code
		least, most int // in an hour
	}{
		{codes.Unimplemented, 1, 1},
		{codes.PermissionDenied, 1, 1},
		{codes.Unauthenticated, 1, 1},
		{codes.Unavailable, 30, 120},
		{codes.ResourceExhausted, 30, 120},
	} {
		t.Run(tt.code.String(), func(t *testing.T) {
			c := newCrier()
			c.end = status.Error(tt.code, "no")
			inWorldOf(t, 1, func(int) *grpc.Server { return serverWith(c) }, plain, func(*world) {
				time.Sleep(time.Hour)
				if n, open, _ := c.counts(); n < tt.least || n > tt.most || open != 0 {
					t.Errorf("%d streams were opened in an hour, %d are, want %d to %d", n, open, tt.least, tt.most)
				}
			}, grpc.WithIdleTimeout(0))
		})
	}
}

// TestAlarmHasOneStreamPerConnection counts the streams of a client over new lists of
// endpoints, reconnection and its end.
func TestAlarmHasOneStreamPerConnection(t *testing.T) {
	criers := []*crier{newCrier(), newCrier(), newCrier()}
	want := func(when string, open ...int) {
		t.Helper()
		synctest.Wait()
		for i, c := range criers {
			if _, n, _ := c.counts(); n != open[i] {
				t.Errorf("%s: server %d has %d streams, want %d", when, i, n, open[i])
			}
		}
	}
	inWorldOf(t, 3, func(i int) *grpc.Server { return serverWith(criers[i]) }, plain, func(w *world) {
		want("connected", 1, 1, 1)
		w.shares(100)
		want("called", 1, 1, 1)
		all := w.endpoints()
		w.resolver.UpdateState(resolver.State{Endpoints: all[:1]})
		time.Sleep(time.Second)
		want("two removed", 1, 0, 0)
		w.resolver.UpdateState(resolver.State{Endpoints: all})
		time.Sleep(time.Second)
		want("two added", 1, 1, 1)
		w.backends[0].server.Stop()
		time.Sleep(time.Second)
		want("one stopped", 0, 1, 1)
		if err := w.conn.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		want("closed", 0, 0, 0)
	})
}

// TestAlarmsAreIgnored has a client that does not want alarms: it opens no stream.
func TestAlarmsAreIgnored(t *testing.T) {
	c := newCrier()
	config := balance.ServiceConfig(balance.Config{IgnoreAlarms: true})
	inWorldOf(t, 1, func(int) *grpc.Server { return serverWith(c) }, config, func(*world) {
		if n, _, _ := c.counts(); n != 0 {
			t.Errorf("%d streams were opened", n)
		}
	})
}

// TestAlarmReachesOtherClients has a server that becomes slow under the calls of one
// client, and a second client that has not called it since: the second one sends
// it nothing, and calls it when it is well again.
func TestAlarmReachesOtherClients(t *testing.T) {
	alarms := make([]*alarm.Alarm, 4)
	var slow sync.Map
	newServer := func(i int) *grpc.Server {
		a := alarm.New(alarm.Config{})
		alarms[i] = a
		work := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			d := 10 * time.Millisecond
			if _, ok := slow.Load(i); ok {
				d *= 20
			}
			time.Sleep(d)
			return next(ctx, req)
		}
		// A limit of no streams at all does not keep the alarm's out.
		stack := interceptors.New(a.Layer(), interceptors.ForStreams(interceptors.ConcurrencyLimit(0, limit.Queue{})))
		s := grpc.NewServer(append(stack.ServerOptions(), grpc.ChainUnaryInterceptor(work))...)
		a.Register(s)
		return s
	}
	inWorldOf(t, 4, newServer, plain, func(second *world) {
		conn, err := grpc.NewClient("passthrough:///b0", slices.Clip(second.options)...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		first := *second
		first.conn, first.client = conn, testpb.NewTestServiceClient(conn)
		first.shares(300)
		second.shares(300)
		slow.Store(0, true)
		first.shares(50)
		if s := alarms[0].Stats(); !s.Sick {
			t.Fatalf("the server is not sick: %+v", s)
		}
		time.Sleep(time.Second)
		if got := second.shares(200); got[0] > 2 {
			t.Errorf("the client that has not called the sick server sent it %v calls", got)
		}
		slow.Delete(0)
		time.Sleep(30 * time.Second)
		second.shares(100)
		if got := second.shares(200); got[0] < 20 {
			t.Errorf("the server that is well again has %v calls", got)
		}
	})
}
