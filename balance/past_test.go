package balance_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// newRemembering returns a site with servers a to d, of which a is banned for longer
// than the test runs.
func newRemembering(t *testing.T) *site {
	t.Helper()
	config := longBans
	config.Load, config.SlowStart, config.Seed = balance.LoadPending, -1, 1 // all get the same share
	s := newSite(t, balance.ClientConfig{Balance: config})
	s.insert("a", "b", "c", "d")
	s.mu.Lock()
	s.fails["a"] = status.Error(codes.Unavailable, "down")
	s.mu.Unlock()
	for range 500 {
		_ = s.unary()
	}
	if s.Stats().Banned != 1 {
		t.Fatalf("%v, want one that is banned", s)
	}
	s.log()
	return s
}

// called returns how many of the next calls go to a.
func (s *site) called() (n int) {
	s.mu.Lock()
	clear(s.fails)
	s.mu.Unlock()
	for range 200 {
		_ = s.unary()
	}
	for _, name := range s.log() {
		if name == "a" {
			n++
		}
	}
	return n
}

// held is a call that takes a second.
func (s *site) held() error {
	plan := &echov1.Plan{Delay: durationpb.New(time.Second)}
	_, err := s.Unary(s.Context(), &echov1.UnaryRequest{Plan: plan})
	return err
}

// back inserts servers that are started already.
func (s *site) back(names ...string) {
	for _, name := range names {
		s.changes <- discover.Insert(name, name)
	}
	synctest.Wait()
}

// What a ClientConn knows of an address stays for a minute after it has left.
func TestClientConnAddressComesBack(t *testing.T) {
	for _, tt := range []struct {
		away   time.Duration
		banned bool
	}{{time.Second, true}, {59 * time.Second, true}, {61 * time.Second, false}} {
		bubble(t, func(t *testing.T) {
			s := newRemembering(t)
			s.remove("a")
			if s.Stats().Banned != 0 {
				t.Errorf("%v after the banned one has left", s)
			}
			time.Sleep(tt.away)
			s.back("a")
			if n := s.called(); (n == 0) != tt.banned || (s.Stats().Banned == 1) != tt.banned {
				t.Errorf("%d calls to an address that was banned and away for %v; %v", n, tt.away, s)
			}
		})
	}
}

// All addresses leave for a moment, twice: bans stay.
func TestClientConnAllAddressesComeBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newRemembering(t)
		for range 2 {
			for _, name := range []string{"a", "b", "c", "d"} {
				s.remove(name)
			}
			time.Sleep(time.Second)
			s.back("b", "c", "d", "a")
		}
		if n := s.called(); n != 0 || s.Stats().Banned != 1 {
			t.Errorf("%d calls to an address that was banned; %v", n, s)
		}
	})
}

// Many other addresses come and go: no more are remembered than there were at once,
// and those that left last.
func TestClientConnPastIsBounded(t *testing.T) {
	for others, banned := range map[int]bool{3: true, 30: false} {
		bubble(t, func(t *testing.T) {
			s := newRemembering(t)
			s.remove("a")
			for i := range others {
				name := strconv.Itoa(i)
				s.insert(name)
				s.remove(name)
				time.Sleep(10 * time.Millisecond)
			}
			s.back("a")
			if n := s.called(); (n == 0) != banned {
				t.Errorf("%d calls to an address that was banned, after %d others have left", n, others)
			}
		})
	}
}

// A call that began before its address left ends after it has come back.
func TestClientConnCallsOverAbsence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newRemembering(t)
		ended := make(chan error, 1)
		go func() { ended <- s.held() }()
		synctest.Wait()
		for _, name := range []string{"b", "c", "d"} {
			s.remove(name)
		}
		s.back("b", "c", "d")
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := s.called(); n != 0 || s.Stats().Banned != 1 {
			t.Errorf("%d calls to an address that was banned; %v", n, s)
		}
	})
}
