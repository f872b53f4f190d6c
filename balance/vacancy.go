package balance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
)

// Ready waits until a member is ready that a call would be sent to: one that has
// room under Config.Limit, and is not banned, where that matters.
func (g *group[K, S]) Ready(ctx context.Context) error {
	for round := 1; ; round++ {
		found, unfit := g.look()
		switch {
		case found:
			return nil
		case unfit != nil:
			if err := g.waitForRoom(ctx, unfit); err != nil {
				return err
			}
		default:
			if err := g.wait(ctx); err != nil {
				return err
			}
		}
		if round%distrust == 0 && !pause(ctx) {
			return g.whyNone(ctx)
		}
	}
}

// look reports whether there is a member that is ready and that a call would be
// sent to. Else unfit says what is wrong with those that are not known to be
// unready; nil if there are none.
func (g *group[K, S]) look() (found bool, unfit error) {
	now := g.now()
	l := g.lineup(now, true)
	for i, m := range l.members {
		switch fit := l.choices[i].standing(now, nil); {
		case fit == full && l.config.OnFull == Refuse:
			unfit = ErrFull
		case fit == banned && l.config.OnBanned == Refuse:
			unfit = ErrBanned
		case g.cache.Check(m):
			return true, nil
		}
	}
	return false, unfit
}

// lookAgain is how long it takes to notice that a ban is over, or that another
// member has become ready, while those that are ready are full or banned.
const lookAgain = 100 * time.Millisecond

// waitForRoom waits until it may be of use to look again: until a call has ended,
// or for a while.
func (g *group[K, S]) waitForRoom(ctx context.Context, unfit error) error {
	freed, stop := g.vacancies.watch()
	defer stop()
	if found, still := g.look(); found || still == nil {
		return nil
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	if ctx.Err() == nil {
		select {
		case <-freed:
			return nil
		case <-timer.C:
			return nil
		case <-ctx.Done():
		}
	}
	return turret.NotReady(fmt.Errorf("%w: %w", ctx.Err(), unfit))
}

// vacancies tell those who wait that an endpoint with a limit has room again.
// Nobody pays for it while nobody waits.
type vacancies struct {
	waiting atomic.Int64

	mu    sync.Mutex
	freed chan struct{} // closed and replaced at each vacancy; nil if nobody has asked
}

// watch returns a channel that is closed at the next vacancy. stop is to be called
// when it is no longer of interest.
func (v *vacancies) watch() (freed <-chan struct{}, stop func()) {
	v.waiting.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.freed == nil {
		v.freed = make(chan struct{})
	}
	return v.freed, func() { v.waiting.Add(-1) }
}

// announce tells of a vacancy.
func (v *vacancies) announce() {
	if v.waiting.Load() == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.freed != nil {
		close(v.freed)
		v.freed = nil
	}
}
