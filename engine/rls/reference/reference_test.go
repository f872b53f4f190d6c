package reference_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/engine/rls"
	"github.com/turret-go/turret/engine/rls/reference"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// take takes tokens and checks how many they are.
func take(t *testing.T, e *rls.Engine, key string, n, want int) (retryAfter time.Duration) {
	t.Helper()
	got, retryAfter, err := e.Take(t.Context(), key, n, limit.PerSecond(1))
	if err != nil || got != want {
		t.Fatalf("Take(%q, %d) = %d, %v, %v; want %d tokens", key, n, got, retryAfter, err, want)
	}
	return retryAfter
}

// TestLeasesAreGrantedWhollyOrNotAtAll holds what the package comment of rls says
// about this server.
func TestLeasesAreGrantedWhollyOrNotAtAll(t *testing.T) {
	e := start(t).engine(t)
	take(t, e, perYear, 60, 60)
	if wait := take(t, e, perYear, 41, 0); wait <= 0 || wait > 366*24*time.Hour {
		t.Errorf("retryAfter is %v, want the time until the end of the year's window", wait)
	}
	take(t, e, perYear, 1, 0) // the server counts what it refuses
}

// TestKeyWithoutALimit holds that this server lets in all of it.
func TestKeyWithoutALimit(t *testing.T) {
	take(t, start(t).engine(t), "unknown", 1_000_000, 1_000_000)
}

// fleet makes ten limits, each with a connection of its own.
func fleet(t *testing.T, s *site, c shared.Config) (all []*shared.Limit) {
	for range 10 {
		all = append(all, shared.New(s.engine(t), c))
	}
	return all
}

// TestFleetStaysWithinAWindow has ten clients that ask until they are refused.
func TestFleetStaysWithinAWindow(t *testing.T) {
	c := patient(perYear)
	c.MaxLease = 5
	all := fleet(t, start(t), c)
	var clients sync.WaitGroup
	for _, l := range all {
		clients.Go(func() {
			for {
				if _, err := l.Enter(t.Context()); err != nil {
					if !errors.Is(err, limit.ErrRate) {
						t.Errorf("the last call fails with %v, want %v", err, limit.ErrRate)
					}
					return
				}
			}
		})
	}
	clients.Wait()
	var entered, granted uint64
	for _, l := range all {
		s := l.Stats()
		entered, granted = entered+s.Entered, granted+s.Granted
	}
	// The first lease that is refused is one of five tokens at most, and is counted.
	if entered != granted || entered > 100 || entered < 96 {
		t.Errorf("%d tokens were granted and %d calls let in, want 96 to 100 of both", granted, entered)
	}
}

// TestFleetOverWindowsOfASecond has ten clients that ask for all they can get, over
// three windows or more. The server grants at most 300 calls in each window by its
// clock, which is that of the test.
func TestFleetOverWindowsOfASecond(t *testing.T) {
	c := patient(perSecond)
	c.Rate, c.MaxLease = limit.Rate{N: 300, Per: time.Second, Burst: 30}, 30
	all := fleet(t, start(t), c)
	first := time.Now().Unix()
	var sum atomic.Uint64
	var clients sync.WaitGroup
	for _, l := range all {
		clients.Go(func() {
			for sum.Load() < 700 {
				if _, err := l.Enter(t.Context()); err != nil {
					pause(t)
					continue
				}
				sum.Add(1)
			}
		})
	}
	clients.Wait()
	if most := uint64(time.Now().Unix()-first+1) * 300; sum.Load() > most {
		t.Errorf("%d calls were let in, want at most %d", sum.Load(), most)
	}
}

// TestServerKilledAndRestarted kills the server after 60 of 100 calls. Calls are
// then decided without it: a call that waited for it would wait for an hour. The
// restarted server grants the other 40.
func TestServerKilledAndRestarted(t *testing.T) {
	for _, tt := range []struct {
		away       shared.Away
		in         int // of 10 calls without the server
		beyond     error
		local, all uint64 // calls that the local limit, and no limit, let in
	}{
		{shared.AwayLocal, 3, limit.ErrRate, 3, 0},
		{shared.AwayOpen, 10, nil, 0, 10},
		{shared.AwayClosed, 0, shared.ErrAway, 0, 0},
	} {
		t.Run(tt.away.String(), func(t *testing.T) {
			s := start(t)
			c := patient(perYear)
			c.Away, c.Local = tt.away, limit.Rate{N: 1, Per: 1000 * time.Hour, Burst: 3}
			l := shared.New(s.engine(t), c)
			for i := range 60 {
				if _, err := l.Enter(t.Context()); err != nil {
					t.Fatalf("call %d is refused: %v", i+1, err)
				}
			}
			s.server.Kill()
			for i := range 10 {
				_, err := l.Enter(t.Context())
				if in := i < tt.in; in != (err == nil) || !in && !errors.Is(err, tt.beyond) {
					t.Errorf("call %d without the server: %v, want %d calls let in", i+1, err, tt.in)
				}
			}
			st := l.Stats()
			if !st.Away || status.Code(st.Err) != codes.Unavailable || st.Entered != 60 || st.Local != tt.local || st.Open != tt.all {
				t.Errorf("without the server: %+v", st)
			}
			s.startServer(t)
			answers(t, l)
			for {
				if _, err := l.Enter(t.Context()); errors.Is(err, limit.ErrRate) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if st := l.Stats(); st.Entered != 100 || st.Away {
				t.Errorf("after the restart: %+v, want 100 calls let in by the server", st)
			}
		})
	}
}

// TestServerStandsStill stops the server, so that it neither answers nor fails. A
// call waits for Wait and is then decided: the answer would not come.
func TestServerStandsStill(t *testing.T) {
	for _, away := range []shared.Away{shared.AwayOpen, shared.AwayClosed} {
		t.Run(away.String(), func(t *testing.T) {
			s := start(t)
			c := patient(perYear)
			c.Away, c.Wait = away, 10*time.Millisecond
			l := shared.New(s.engine(t), c)
			enters(t, l)
			if err := s.server.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			late := 0
			for late < 3 { // the answer to the last question may have come before
				before := l.Stats()
				_, err := l.Enter(t.Context())
				switch after := l.Stats(); {
				case after.Open > before.Open && err == nil, after.LimitAway > before.LimitAway && errors.Is(err, shared.ErrAway):
					late++
				case err != nil:
					t.Fatalf("a call while the server stands still: %v", err)
				}
			}
			if l.Stats().Away {
				t.Error("the engine is away before Timeout")
			}
			if err := s.server.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			enters(t, l)
		})
	}
}

// TestRedisKilledUnderTheServer kills what keeps the server's counts. The server
// answers UNKNOWN then, and the engine is away.
func TestRedisKilledUnderTheServer(t *testing.T) {
	s := start(t)
	e := s.engine(t)
	c := patient(perYear)
	c.Away, c.Timeout = shared.AwayClosed, 10*time.Second
	l := shared.New(e, c)
	enters(t, l)
	s.redis.Kill()
	if _, err := l.Enter(t.Context()); !errors.Is(err, shared.ErrAway) {
		t.Errorf("a call without Redis: %v, want %v", err, shared.ErrAway)
	}
	switch err := l.Stats().Err; status.Code(err) {
	case codes.Unknown, codes.DeadlineExceeded: // the latter, if the machine stands still
	default:
		t.Errorf("without Redis the server answers %v, want UNKNOWN", err)
	}
	s.startRedis(t)
	answers(t, l)
	enters(t, l)
}

// enters calls l until the server lets a call in.
func enters(t *testing.T, l *shared.Limit) {
	t.Helper()
	for before := l.Stats().Entered; l.Stats().Entered == before; {
		if _, err := l.Enter(t.Context()); err != nil {
			pause(t)
		}
	}
}

// TestSaysWhyTheServerDoesNotStart names a Redis to the server that is not there.
func TestSaysWhyTheServerDoesNotStart(t *testing.T) {
	s := start(t)
	s.server.Kill()
	s.config.Redis = filepath.Join(s.redisDir, "none")
	server, err := reference.Start(t.Context(), s.config)
	if err == nil {
		server.Kill()
		t.Fatal("the server starts without Redis")
	}
	if text := err.Error(); !strings.Contains(text, "ended before it accepted connections") || !strings.Contains(text, s.config.Redis) {
		t.Errorf("the error is %q, want what the server printed", text)
	}
}
