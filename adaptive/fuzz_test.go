package adaptive

import (
	"testing"

	"github.com/turret-go/turret"
)

// FuzzLine plays schedules of arrivals, ends, cancellations and time against a
// gate. After each step no call may wait while there is room, each waiter must
// stand in exactly one place, and no more calls may be inside than entered.
func FuzzLine(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 1, 2, 3, 0, 0, 5, 1, 1, 4, 200, 0, 0, 1})
	f.Add([]byte{0, 8, 16, 24, 32, 40, 48, 56, 5, 250, 5, 250, 5, 250, 1, 1, 1, 2, 2})
	f.Add([]byte{0, 0, 0, 6, 3, 6, 1, 0, 0, 0, 1, 9, 17, 5, 99, 1, 9})
	f.Fuzz(func(t *testing.T, schedule []byte) {
		p := &player{T: t, g: newGate(Config{Start: 3, Max: 50, Key: nil}.withDefaults())}
		if len(schedule) > 0 && schedule[0]%2 == 1 {
			p.g.line.usage = new(usage)
		}
		for i := range schedule {
			next := byte(0)
			if i+1 < len(schedule) {
				next = schedule[i+1]
			}
			p.step(schedule[i], next)
			p.check()
		}
		p.finish()
	})
}

type player struct {
	*testing.T

	g       *gate
	now     int64
	waiting []*waiter
	inside  []int64 // when each entered
	calls   int
	over    int // refused or given up
}

func (p *player) step(op, arg byte) {
	g := p.g
	switch op % 8 {
	case 0, 1, 2:
		p.calls++
		w := &waiter{told: make(chan struct{}, 1), level: int(op/8) % 4, key: uint64(op / 32), deadline: p.now + int64(arg)*ms}
		if arg == 0 {
			w.deadline = never
		}
		if g.enter(p.now, w.key) {
			p.inside = append(p.inside, p.now)
			return
		}
		p.waiting = append(p.waiting, w)
		g.wait(p.now, w)
	case 3, 4:
		if len(p.inside) > 0 {
			i := int(arg) % len(p.inside)
			start := p.inside[i]
			p.inside = append(p.inside[:i], p.inside[i+1:]...)
			g.leave(p.now, start, turret.Outcome(op/8%6))
		}
	case 5:
		p.now += int64(arg) * ms / 4
		if g.due() <= p.now {
			g.tick(p.now)
		}
	case 6:
		if len(p.waiting) > 0 {
			i := int(arg) % len(p.waiting)
			w := p.waiting[i]
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			g.giveUp(p.now, w)
			p.over++
		}
	case 7:
		g.bound(p.now, 1+int(arg)%4, 4+int(arg)%9)
	}
	p.deliver()
}

// deliver records the results of waiting calls.
func (p *player) deliver() {
	still := p.waiting[:0]
	for _, w := range p.waiting {
		switch w.fate {
		case undecided:
			still = append(still, w)
		case admitted:
			p.inside = append(p.inside, w.entered)
		default:
			p.over++
		}
	}
	p.waiting = still
}

func (p *player) check() {
	g := p.g
	if g.line.n > 0 && g.inside < g.knee.places() {
		p.Fatalf("%d calls wait while %d of %d are inside", g.line.n, g.inside, g.knee.places())
	}
	if g.inside != len(p.inside) || g.line.n != len(p.waiting) {
		p.Fatalf("%d inside and %d in line, want %d and %d", g.inside, g.line.n, len(p.inside), len(p.waiting))
	}
	if p.calls != len(p.inside)+len(p.waiting)+p.over+p.left() {
		p.Fatalf("a call was lost")
	}
	n := 0
	for i := range g.line.levels {
		for w := g.line.levels[i].oldest; w != nil; w = w.next {
			n++
			if w.list != &g.line.levels[i] || w.fate != undecided {
				p.Fatal("a waiter stands in line that was decided")
			}
		}
	}
	if n != g.line.n || g.line.n > 0 && g.due() == never {
		p.Fatalf("%d in the lists, %d counted, due %d", n, g.line.n, g.due())
	}
	if l := g.knee.limit; !(l >= g.knee.least && l <= g.knee.most) {
		p.Fatalf("limit %v is not between %v and %v", l, g.knee.least, g.knee.most)
	}
}

// left is how many calls have entered and left.
func (p *player) left() int { return int(p.g.counts.entered) - p.g.inside }

// finish lets all calls out; none may be left in line.
func (p *player) finish() {
	for len(p.inside) > 0 {
		p.step(3, 0)
	}
	for range 100 {
		if p.g.due() == never {
			break
		}
		p.now = max(p.now, p.g.due())
		p.g.tick(p.now)
		p.deliver()
		for len(p.inside) > 0 {
			p.step(3, 0)
		}
	}
	if p.g.line.n != 0 || p.g.inside != 0 {
		p.Fatalf("%d wait and %d are inside at the end", p.g.line.n, p.g.inside)
	}
}
