package statusz

import (
	"math"
	"strconv"
	"time"
)

// A series is one curve: a gauge, or the rate of a counter, at each look.
type series struct {
	last float64   // of a counter, at the last look
	ring []float32 // the newest is at next-1, once it is full
	next int
	look int // the last look that saw it
}

// A history is all curves of a page, in bounded memory.
type history struct {
	keep int // samples of a curve
	look int // the number of this look
	then time.Time
	dt   float64 // seconds since the look before; 0 at the first
	all  map[string]*series
}

// The bounds of a history.
const (
	mostSeries = 2000
	forgetUnit = 30 // looks after which a curve that has not been seen is dropped
)

func newHistory(keep int) *history {
	return &history{keep: keep, all: map[string]*series{}}
}

// begin begins a look at now.
func (h *history) begin(now time.Time) {
	h.look++
	h.dt = 0
	if !h.then.IsZero() {
		h.dt = max(0, now.Sub(h.then).Seconds())
	}
	h.then = now
	for key, s := range h.all {
		if h.look-s.look > forgetUnit {
			delete(h.all, key)
		}
	}
}

// find returns the curve of key; nil if there are too many. fresh reports that
// it is new.
func (h *history) find(key string) (s *series, fresh bool) {
	s = h.all[key]
	if s == nil {
		if len(h.all) >= mostSeries {
			return nil, false
		}
		s, fresh = &series{}, true
		h.all[key] = s
	}
	s.look = h.look
	return s, fresh
}

// gauge adds a sample of a gauge.
func (h *history) gauge(key string, v float64) *series {
	s, _ := h.find(key)
	if s != nil {
		s.push(v, h.keep)
	}
	return s
}

// count adds a sample of a counter and returns its rate per second since the
// look before: 0 when it is seen for the first time, or has begun anew.
func (h *history) count(key string, v float64) (rate float64, s *series) {
	s, fresh := h.find(key)
	if s == nil {
		return 0, nil
	}
	if !fresh && h.dt > 0 {
		rate = max(0, v-s.last) / h.dt
	}
	s.last = v
	s.push(rate, h.keep)
	return rate, s
}

// fromZero makes the curve of a counter that was 0 at the look before, if there
// is none: of what the page itself counts.
func (h *history) fromZero(key string) { h.find(key) }

func (s *series) push(v float64, keep int) {
	if len(s.ring) < keep {
		s.ring = append(s.ring, float32(v))
		return
	}
	s.ring[s.next] = float32(v)
	s.next = (s.next + 1) % keep
}

// at returns the i-th newest sample; 0 is the newest.
func (s *series) at(i int) float64 {
	n := len(s.ring)
	return float64(s.ring[((s.next-1-i)%n+n)%n])
}

// mean returns the mean of the newest n samples.
func (s *series) mean(n int) float64 {
	if s == nil || len(s.ring) == 0 {
		return 0
	}
	n = min(n, len(s.ring))
	sum := 0.0
	for i := range n {
		sum += s.at(i)
	}
	return sum / float64(n)
}

// The size of a curve, in units of its SVG.
const (
	curvePoints = 50
	curveStep   = 2
	curveHeight = 24
)

// path returns the curve of s as an SVG path of whole, relative steps, the newest
// sample at the right edge. Each point is the greatest of its samples, so that a
// spike is seen however short. It is empty if there is nothing to draw.
func (s *series) path(keep int) string {
	if s == nil || len(s.ring) < 2 {
		return ""
	}
	per := max(1, (keep+curvePoints-1)/curvePoints)
	have := min(len(s.ring), keep)
	n := min((have+per-1)/per, curvePoints)
	points := make([]float64, n)
	top := 0.0
	for i := range n {
		for j := i * per; j < min((i+1)*per, have); j++ {
			points[n-1-i] = max(points[n-1-i], s.at(j))
		}
		top = max(top, points[n-1-i])
	}
	return draw(points, top)
}

func draw(points []float64, top float64) string {
	y := func(v float64) int {
		if top <= 0 {
			return curveHeight
		}
		return curveHeight - int(math.Round(v/top*(curveHeight-2)))
	}
	before := y(points[0])
	b := append([]byte{'M'}, strconv.Itoa((curvePoints-len(points))*curveStep)...)
	b = strconv.AppendInt(append(b, " 25V"...), int64(before), 10)
	flat := 0
	for _, v := range points[1:] {
		at := y(v)
		if at == before {
			flat += curveStep
			continue
		}
		if flat > 0 {
			b = strconv.AppendInt(append(b, 'h'), int64(flat), 10)
			flat = 0
		}
		b = strconv.AppendInt(append(b, 'l'), curveStep, 10)
		if at > before {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(at-before), 10)
		before = at
	}
	if flat > 0 {
		b = strconv.AppendInt(append(b, 'h'), int64(flat), 10)
	}
	return string(append(b, "V25"...))
}
