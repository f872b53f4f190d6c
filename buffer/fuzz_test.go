package buffer_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret/buffer"
)

// A model is what a buffer should do, in the simplest form that can be right.
type model struct {
	n, places       int
	inside, waiting []int
	closed          bool
	state           []string // of each call that is not inside or waiting
}

func (m *model) arrive(req int) {
	m.state = append(m.state, "")
	switch {
	case m.closed:
		m.state[req] = "closed"
	case len(m.waiting) == 0 && len(m.inside) < m.places:
		m.inside = append(m.inside, req)
	case len(m.waiting) == m.n:
		m.state[req] = "full"
	default:
		m.waiting = append(m.waiting, req)
	}
}

// settle lets calls in while there is room.
func (m *model) settle() {
	for len(m.waiting) > 0 && len(m.inside) < m.places {
		m.inside = append(m.inside, m.waiting[0])
		m.waiting = m.waiting[1:]
	}
}

func (m *model) close() {
	m.closed = true
	for _, req := range m.waiting {
		m.state[req] = "closed"
	}
	m.waiting = nil
}

// state says what became of a call.
func (r *rig) state(req int) string {
	c := r.calls[req]
	switch {
	case !c.done.Load():
		return ""
	case c.err == nil:
		return "answered"
	case errors.Is(c.err, buffer.ErrFull):
		return "full"
	case errors.Is(c.err, buffer.ErrClosed):
		return "closed"
	default:
		return "cancelled"
	}
}

// FuzzBuffer does what the bytes say to a buffer and to a model of it.
func FuzzBuffer(f *testing.F) {
	f.Add(uint8(3), uint8(1), []byte{0, 0, 0, 0, 0, 1, 2, 0, 1, 1, 3, 1, 1})
	f.Add(uint8(1), uint8(2), []byte{0, 0, 0, 0, 7, 1, 0, 12, 0, 1, 4, 0})
	f.Add(uint8(5), uint8(0), []byte{0, 0, 0, 17, 1, 1, 1, 2, 5})
	f.Fuzz(func(t *testing.T, n, places uint8, steps []byte) {
		steps = steps[:min(len(steps), 60)]
		synctest.Test(t, func(t *testing.T) {
			m := &model{n: int(n%8) + 1, places: int(places % 4)}
			r := newRig(t, m.n, m.places)
			for i, step := range steps {
				m.do(r, step)
				synctest.Wait()
				m.settle()
				m.compare(r, fmt.Sprintf("n %d, places %d, step %d of %v", m.n, places%4, i, steps[:i+1]))
			}
			r.Close()
			r.answerAll()
			if s := r.places.Stats(); s.InFlight != 0 {
				t.Errorf("%d places were lost", s.InFlight)
			}
		})
	})
}

// do lets a call arrive, come back, or give up, changes the limit, or closes the
// buffer.
func (m *model) do(r *rig, step byte) {
	which := int(step / 5)
	switch step % 5 {
	case 0:
		m.arrive(r.start())
	case 1:
		if len(m.inside) > 0 {
			i := which % len(m.inside)
			req := m.inside[i]
			m.inside = slices.Delete(m.inside, i, i+1)
			m.state[req] = "answered"
			r.answer(req)
		}
	case 2:
		if len(m.waiting) > 0 {
			i := which % len(m.waiting)
			req := m.waiting[i]
			m.waiting = slices.Delete(m.waiting, i, i+1)
			m.state[req] = "cancelled"
			r.calls[req].cancel()
		}
	case 3:
		m.places = which % 4
		r.places.SetMax(m.places)
	case 4:
		if which > 40 {
			m.close()
			r.Close()
		}
	}
}

func (m *model) compare(r *rig, when string) {
	r.t.Helper()
	for req, want := range m.state {
		if got := r.state(req); got != want {
			r.t.Fatalf("%s: call %d is %q, want %q", when, req, got, want)
		}
	}
	got := r.with()
	slices.Sort(got)
	want := slices.Sorted(slices.Values(m.inside))
	if s := r.Stats(); !slices.Equal(got, want) || s.Waiting != len(m.waiting) || s.Inside != len(want) {
		r.t.Fatalf("%s: with the service %v and %+v, want %v and %d waiting", when, got, s, want, len(m.waiting))
	}
}
