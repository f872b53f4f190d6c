package traffic

import (
	"sync"
	"time"
)

const (
	pulse = 20 * time.Millisecond
	// pause is how late a pulse must be to count as a pause of the process.
	pause = 10 * pulse
)

// Pauses are the times in which the process did not run, because the machine was
// busy. A bound of time that is missed in them is no failure.
type Pauses struct {
	stop    func()
	stopped sync.WaitGroup

	mu   sync.Mutex
	last time.Time // pulse
	all  []span
}

// A span is a span of time.
type span struct{ from, to time.Time }

// WatchPauses takes note of pauses until Stop.
func WatchPauses() *Pauses {
	stop := make(chan struct{})
	p := &Pauses{stop: sync.OnceFunc(func() { close(stop) }), last: time.Now()}
	p.stopped.Go(func() { p.watch(stop) })
	return p
}

func (p *Pauses) watch(stop <-chan struct{}) {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.beat(time.Now())
		}
	}
}

// beat notes a pulse, and the pause before it if it is late.
func (p *Pauses) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last) > pause {
		p.all = append(p.all, span{p.last, now})
	}
	p.last = now
}

// Stop ends the watch. It may be called more than once.
func (p *Pauses) Stop() {
	p.stop()
	p.stopped.Wait()
}

// Between returns how long the process did not run between two instants of the
// past.
func (p *Pauses) Between(from, to time.Time) (sum time.Duration) {
	p.beat(time.Now()) // the last pause may have ended just now
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.all {
		begin, end := s.from, s.to
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		sum += max(0, end.Sub(begin))
	}
	return sum
}
