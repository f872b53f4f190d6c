package alarm

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// A shop is a server that works at calls one after the other, for a test of health
// without goroutines.
type shop struct {
	health

	now int64
}

func newShop() *shop { return &shop{health: health{relearn: int64(defaultRelearn)}} }

// serve has calls that take so long, one begun every gap; it returns when they are over.
func (s *shop) serve(calls int, took, gap int64, v verdict) {
	begin := s.now
	var ends []int64
	for i := range calls {
		at := begin + int64(i)*gap
		for len(ends) > 0 && ends[0] <= at {
			s.done(ends[0], ends[0]-took, v)
			ends = ends[1:]
		}
		s.start(at)
		ends = append(ends, at+took)
	}
	for _, end := range ends {
		s.done(end, end-took, v)
		s.now = end
	}
}

func (s *shop) sick() bool { return s.look(s.now).sick }

// TestSick serves calls that take varied times, then ten times as long, then as long
// as before.
func TestSick(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := newShop()
	for range 2000 {
		s.serve(1, 8*ms+r.Int64N(4*ms), 0, answered)
		if s.sick() {
			t.Fatalf("well calls are sick: %+v", s.look(s.now))
		}
	}
	s.serve(100, 100*ms, 5*ms, answered)
	if r := s.look(s.now); !r.sick || r.latency < 80*time.Millisecond || r.typical > 15*time.Millisecond {
		t.Errorf("ten times as slow: %+v, want sick", r)
	}
	s.serve(100, 10*ms, 5*ms, answered)
	if s.sick() {
		t.Errorf("as quick as before: %+v, want well", s.look(s.now))
	}
}

// TestSilence has calls that are not answered: three of them mean something, one may
// be a call that takes long, and none means anything when no call has come for a while.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		hang int
		want bool
	}{{1, false}, {2, false}, {3, true}, {30, true}} {
		s := newShop()
		s.serve(1000, 10*ms, 5*ms, answered)
		for range tt.hang {
			s.start(s.now)
		}
		if s.sick() {
			t.Error("sick at once")
		}
		s.now += 200 * ms
		if got := s.sick(); got != tt.want {
			t.Errorf("%d calls hang for 200 ms: sick %v, want %v", tt.hang, got, tt.want)
		}
		s.now += int64(time.Minute)
		if s.sick() {
			t.Errorf("%d calls hang, and none has come for a minute: sick", tt.hang)
		}
	}
}

// TestOneLongCall has one call in a hundred that takes a thousand times as long as the
// others.
func TestOneLongCall(t *testing.T) {
	s := newShop()
	for range 50 {
		s.serve(99, 10*ms, 5*ms, answered)
		s.serve(1, 10_000*ms, 0, answered)
		s.serve(1, 10*ms, 0, answered)
		if s.sick() {
			t.Fatalf("%+v", s.look(s.now))
		}
	}
}

// TestIdleServerIsTriedAgain leaves a sick server alone: after a time it is no longer
// called sick, and one call that takes as long as before shows that it is.
func TestIdleServerIsTriedAgain(t *testing.T) {
	s := newShop()
	s.serve(1000, 10*ms, 5*ms, answered)
	s.serve(100, 200*ms, 5*ms, answered)
	if !s.sick() {
		t.Fatal("not sick")
	}
	sick := s.now
	for ; s.sick(); s.now += 100 * ms {
		if s.now-sick > int64(20*time.Second) {
			t.Fatal("sick for 20 s without a call")
		}
	}
	if took := s.now - sick; took < int64(5*time.Second) {
		t.Errorf("well after %v without a call", time.Duration(took))
	}
	s.serve(4, 200*ms, 5*ms, answered)
	if !s.sick() {
		t.Errorf("the first calls are slow: %+v, want sick", s.look(s.now))
	}
}

// TestRelearns has calls that take longer for good: that becomes ordinary.
func TestRelearns(t *testing.T) {
	s := newShop()
	s.serve(1000, 10*ms, 5*ms, answered)
	changed := s.now
	s.serve(1000, 100*ms, 50*ms, answered)
	if !s.sick() {
		t.Fatal("not sick after a minute")
	}
	s.serve(6000, 100*ms, 50*ms, answered)
	if r := s.look(s.now); r.sick || r.typical < 50*time.Millisecond {
		t.Errorf("%v after the change: %+v, want it to be ordinary", time.Duration(s.now-changed), r)
	}
}

// TestWhatIsNotAnswered has calls that end otherwise. Refusals say nothing; calls whose
// callers give up took at least as long; quick failures are no speed.
func TestWhatIsNotAnswered(t *testing.T) {
	for name, tt := range map[string]struct {
		took   int64
		v      verdict
		sick   bool
		shrink bool // the latency may be less than before
	}{
		"refused late": {200 * ms, nothing, false, false},
		"gave up":      {200 * ms, atLeast, true, false},
		"failed late":  {200 * ms, failed, true, false},
		"failed fast":  {ms, failed, false, false},
		"gave up soon": {ms, atLeast, false, false},
		"answered":     {ms, answered, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop()
			s.serve(1000, 10*ms, 5*ms, answered)
			before := s.mean
			for range 100 {
				s.serve(1, tt.took, 0, tt.v)
			}
			if s.sick() != tt.sick {
				t.Errorf("%+v, want sick %v", s.look(s.now), tt.sick)
			}
			// Without calls the mean fades; what is left is the sum over 100 gaps of nothing.
			if shrunk := s.mean < before*0.9; shrunk != tt.shrink {
				t.Errorf("the mean went from %.3g to %.3g ms", before/1e6, s.mean/1e6)
			}
		})
	}
}

// FuzzHealth makes calls at any times: nothing is negative or infinite, and a server
// without calls is well in the end.
func FuzzHealth(f *testing.F) {
	f.Add([]byte{1, 200, 3, 9, 90, 17, 0, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := newShop()
		var open []int64
		for i, b := range script {
			s.now += int64(b) * int64(b) * ms / 4
			if i%2 == 0 || len(open) == 0 {
				s.start(s.now)
				open = append(open, s.now)
			} else {
				s.done(s.now, open[0], verdict(b%4))
				open = open[1:]
			}
			if r := s.look(s.now); r.latency < 0 || r.typical < 0 || r.latency > time.Duration(s.now)+1 {
				t.Fatalf("at %v: %+v", time.Duration(s.now), r)
			}
		}
		for _, start := range open {
			s.done(s.now, start, nothing)
		}
		s.now += int64(time.Hour)
		if s.sick() {
			t.Errorf("sick after an hour without calls: %+v", s.look(s.now))
		}
	})
}

// TestEndsAreKnownBeforeTheyCount has a call end, and then one begin, that find the
// mutex taken. A call that begins next must not take a time in which the server was
// busy for one in which it was idle, and a look not the other way round.
func TestEndsAreKnownBeforeTheyCount(t *testing.T) {
	h := &health{relearn: int64(defaultRelearn)}
	now := 100 * ms
	h.start(0)
	var calls sync.WaitGroup
	h.mu.Lock()
	calls.Go(func() { h.done(now, 0, answered) })
	for h.inFlight.Load() > 0 {
		runtime.Gosched()
	}
	if h.idle.Load() != now {
		t.Errorf("the server is idle, as is known, since %d, want %d", h.idle.Load(), now)
	}
	h.mu.Unlock()
	calls.Wait()
	h.mu.Lock()
	now += int64(time.Hour)
	calls.Go(func() { h.start(now) })
	for range 1000 {
		runtime.Gosched()
	}
	if h.inFlight.Load() != 0 {
		t.Error("a call counts before the idle time is over")
	}
	h.mu.Unlock()
	calls.Wait()
	if got := now - h.alive.Load(); got != 0 {
		t.Errorf("a silence of %v after an idle hour", time.Duration(got))
	}
}
