package balance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/turrettest"
)

// FuzzBalancer inserts, removes and replaces endpoints, makes them ready, full and
// broken, and calls, in any order, with callers that give up and endpoints that
// panic. Whatever happens: an endpoint that has gone gets no call, one that is not
// ready gets none, room comes back, no call hangs, and in the end every healthy
// endpoint is used.
func FuzzBalancer(f *testing.F) {
	f.Add([]byte{0, 8, 3, 3, 4, 12, 3, 1, 3, 4, 2, 10, 3, 5, 3, 3, 4, 4})
	f.Add([]byte{0, 3, 3, 3, 3, 6, 14, 22, 30, 0, 8, 16, 5, 13, 3, 7, 23, 31, 3, 4, 1, 9})
	f.Add([]byte{0, 8, 16, 2, 3, 3, 3, 10, 0, 18, 3, 3, 1, 9, 17, 3, 0, 4, 12, 20, 28, 7, 255})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 300 {
			return
		}
		for _, c := range []balance.Config{{Limit: 3}, {OnBanned: balance.Refuse, MaxBanned: 1, OnFull: balance.Use, Limit: 2}} {
			synctest.Test(t, func(t *testing.T) { (&melee{crowd: newCrowd(t, c)}).play(steps) })
		}
	})
}

// A melee is a crowd of endpoints that the steps of a schedule work on.
type melee struct {
	*crowd

	present []*fighter // those that the balancer knows of
	all     []*fighter
	callers sync.WaitGroup
	cancels []context.CancelFunc
}

// A fighter is an endpoint that checks the rules.
type fighter struct {
	*mock

	t      *testing.T
	key    string
	mu     sync.Mutex
	gone   bool // no further call may come
	full   bool // nor while this is true
	inside int
	closed int
}

func (f *fighter) setFull(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *fighter) Call(ctx context.Context, req string) (string, error) {
	f.mu.Lock()
	if f.gone || f.full || f.closed > 0 {
		f.t.Errorf("a call came to %s: gone %v, full %v, closed %d", f.key, f.gone, f.full, f.closed)
	}
	f.inside++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.inside--
	}()
	return f.mock.Call(ctx, req)
}

func (f *fighter) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inside > 0 {
		f.t.Errorf("%s was closed with %d calls in it", f.key, f.inside)
	}
	f.closed++
}

func (m *melee) play(steps []byte) {
	for _, step := range steps {
		m.step(int(step&7), int(step>>3))
		synctest.Wait()
	}
	m.end()
}

func (m *melee) step(what, how int) {
	var f *fighter
	if len(m.present) > 0 {
		f = m.present[how%len(m.present)]
	}
	switch {
	case what == 0:
		m.add(fmt.Sprint(how % 6))
	case f == nil:
	case what == 1:
		m.drop(f)
	case what == 2 && how%2 == 0:
		f.Allow(0)
		f.setFull(true)
	case what == 2:
		f.setFull(false)
		f.Allow(-1)
	case what == 3:
		m.start(how)
	case what == 4:
		m.answer(how)
	case what == 5 && len(m.cancels) > 0:
		m.cancels[how%len(m.cancels)]()
	case what == 6:
		f.Fail(errors.New("broken"))
		_ = turret.ReadyNow[string, string](m)
	default:
		time.Sleep(time.Duration(how*how) * 20 * time.Millisecond)
	}
}

// add inserts a fighter; the one under its key leaves when the new one is ready,
// which is at once.
func (m *melee) add(key string) {
	f := &fighter{mock: turrettest.NewMock[string, string](m.T), t: m.T, key: key}
	m.insert(key, f)
	m.forget(key)
	m.present, m.all = append(m.present, f), append(m.all, f)
}

func (m *melee) drop(f *fighter) {
	m.remove(f.key)
	m.forget(f.key)
}

func (m *melee) forget(key string) {
	m.present = slices.DeleteFunc(m.present, func(f *fighter) bool {
		if f.key != key {
			return false
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gone = true
		return true
	})
}

// start makes a call; it ends by itself in a minute.
func (m *melee) start(how int) {
	ctx, cancel := context.WithTimeout(m.Context(), time.Minute)
	m.cancels = append(m.cancels, cancel)
	if how%3 == 0 {
		ctx, _ = attempts.NewContext(ctx, attempts.Unary)
	}
	m.callers.Go(func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil && p != "a fault" {
				panic(p)
			}
		}()
		if how%5 == 0 {
			_ = m.Ready(ctx)
		}
		_, _ = m.Call(ctx, "")
	})
}

// answer ends one call of some endpoint, one that has gone too.
func (m *melee) answer(how int) {
	for i := range m.all {
		r, ok := m.all[(how+i)%len(m.all)].TryNext()
		if !ok {
			continue
		}
		switch how % 5 {
		case 0, 1:
			r.Respond("")
		case 2:
			r.Fail(errors.New("failed"))
		case 3:
			r.Fail(turret.ErrNotReady)
		default:
			r.Panic("a fault")
		}
		return
	}
}

func (m *melee) end() {
	time.Sleep(time.Hour) // no call waits for longer than a minute, and bans end
	m.callers.Wait()
	for _, f := range m.all {
		f.mu.Lock()
		if f.inside != 0 {
			m.Errorf("%d calls are in %s", f.inside, f.key)
		}
		if f.gone && f.closed != 1 {
			m.Errorf("%s has gone and was closed %d times", f.key, f.closed)
		}
		f.mu.Unlock()
	}
	for _, f := range m.present {
		m.remove(f.key)
	}
	m.counted(fine, "x", "y", "z")
	m.call(300)
	if n := m.used(); len(n) != 3 {
		m.Errorf("300 calls went to %v, want three endpoints", n)
	}
}
