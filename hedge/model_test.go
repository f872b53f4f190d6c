package hedge_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

// A model works out what a call must do, event by event.
type model struct {
	parts      []part
	delay      time.Duration
	max        int
	now        time.Duration
	timer      time.Duration // when it fires; -1: not set
	ends       map[int]time.Duration
	starts     []time.Duration
	hedges     int
	closed     bool
	cancelled  bool
	sent       bool
	best, rank int
	result     outcome
	crash      *outcome
	tie        bool // two events at one instant: either may be first
}

func (m *model) run() {
	m.timer, m.ends, m.best = m.delay, map[int]time.Duration{}, -1
	m.start()
	for len(m.ends) > 0 {
		first, at := -1, time.Duration(0)
		for i, end := range m.ends {
			if first < 0 || end < at {
				first, at = i, end
			}
		}
		for i, end := range m.ends {
			m.tie = m.tie || i != first && end == at && end != m.now
		}
		m.tie = m.tie || m.timer == at
		if m.timer >= 0 && m.timer < at {
			m.now, m.timer = m.timer, -1
			m.hedges++
			m.start()
			m.set(m.delay)
			continue
		}
		m.now = at
		m.end(first)
		delete(m.ends, first)
	}
	if m.crash != nil {
		m.result = *m.crash
	}
}

func (m *model) start() {
	n := len(m.starts)
	m.starts = append(m.starts, m.now)
	m.ends[n] = m.now + m.parts[min(n, len(m.parts)-1)].takes
}

func (m *model) set(d time.Duration) {
	if !m.closed && m.timer < 0 && m.hedges < m.max {
		m.timer = m.now + d
	}
}

func (m *model) close() { m.closed, m.timer = true, -1 }

// decide closes the call and cancels all that heeds it.
func (m *model) decide() {
	m.close()
	m.cancelled = true
	for i := range m.ends {
		if !m.parts[min(i, len(m.parts)-1)].deaf {
			m.ends[i] = m.now
		}
	}
}

func (m *model) end(n int) {
	p := m.parts[min(n, len(m.parts)-1)]
	if m.cancelled && !p.deaf {
		m.sent = true
		return // with its context's error, which no attempt returned
	}
	if p.then != nil {
		m.decide()
		if m.crash == nil {
			m.crash = &outcome{panic: "crash"}
		}
		return
	}
	refused := errors.Is(p.err, turret.ErrNotReady)
	m.sent = m.sent || !refused
	rank := 3 // of failures
	switch p.err {
	case nil, errMissing: //nolint:errorlint // the values themselves
		rank = 1
	case errPushback:
		rank = 2
	case errRefused:
		rank = 4
	}
	if m.best < 0 || rank < m.rank || rank == m.rank && rank != 1 && n < m.best {
		m.best, m.rank, m.result = n, rank, outcome{res: string(rune('A' + n)), err: p.err}
	}
	switch {
	case rank == 1:
		m.decide()
	case rank == 2:
		m.close()
	case refused && n > 0:
		m.hedges--
		m.delay = m.now
		m.set(m.delay)
	}
}

// compare holds a call against the model.
func compare(t *testing.T, delay time.Duration, maxHedges int, parts []part) {
	t.Helper()
	m := &model{parts: parts, delay: delay, max: maxHedges}
	m.run()
	if m.tie {
		return
	}
	logged(t)
	synctest.Test(t, func(t *testing.T) {
		c := steady()
		c.Delay, c.MaxHedges = delay, maxHedges
		inner := plays(parts...)
		got := call(t.Context(), layer(c, inner))
		inner.check(t)
		if errors.Is(got.err, turret.ErrNotReady) == m.sent && got.err != nil {
			t.Errorf("sent: %v, error %v", m.sent, got.err)
		}
		if got != m.result || time.Since(inner.begun) != m.now || !slices.Equal(inner.starts, m.starts) {
			t.Errorf("delay %v, at most %d hedges, %+v:\nended with %+v after %v, attempts at %v\nwant       %+v after %v, attempts at %v",
				delay, maxHedges, parts, got, time.Since(inner.begun), inner.starts, m.result, m.now, m.starts)
		}
	})
}

// partOf makes a part of two bytes: how it ends, and after how long. No two parts
// of a call take equally long.
func partOf(i int, kind, takes byte) part {
	p := part{takes: time.Duration(takes)*time.Millisecond + time.Duration(i*i+1)*7*time.Microsecond, deaf: kind&8 != 0}
	switch kind & 7 {
	case 0, 1:
		p.err = errLost
	case 2:
		p.err = errMissing
	case 3:
		p.err = errPushback
	case 4, 5:
		p.err = errRefused
	case 6:
		p.then = panics("crash")
	}
	return p
}

// FuzzCall plays up to eight attempts of any length and end.
func FuzzCall(f *testing.F) {
	f.Add(byte(20), byte(1), []byte{7, 200, 7, 10})
	f.Add(byte(10), byte(2), []byte{0, 50, 4, 1, 12, 30, 7, 40})
	f.Add(byte(5), byte(4), []byte{15, 100, 8, 20, 14, 90, 3, 20, 7, 9})
	f.Fuzz(func(t *testing.T, delay, maxHedges byte, ends []byte) {
		var parts []part
		for i := 0; i+1 < min(len(ends), 16); i += 2 {
			parts = append(parts, partOf(i, ends[i], ends[i+1]))
		}
		if len(parts) > 0 {
			compare(t, (time.Duration(delay)+1)*time.Millisecond, int(maxHedges)%4+1, parts)
		}
	})
}

func TestCallRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 1500 {
		var parts []part
		for i := range 1 + random.IntN(8) {
			parts = append(parts, partOf(i, byte(random.Uint32()), byte(random.IntN(250))))
		}
		compare(t, time.Duration(1+random.IntN(60))*time.Millisecond, 1+random.IntN(4), parts)
		if t.Failed() {
			return
		}
	}
}
