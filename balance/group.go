package balance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/background"
	"github.com/turret-go/turret/ready"
)

// A group is the endpoints of a balancer that are services: those that there are,
// which of them are ready, and the choice among them. [Balancer] and [ClientConn]
// differ in what they do with the one that was chosen.
type group[K comparable, S ready.Readier] struct {
	// What the members share: clock, bans, usual latency. Its mutex is that of bans.
	pool

	// The members, and the list of those that are ready.
	roster[K, S]

	past *past // nil: a member that comes has none

	onLeft  func(s S)     // a service has left the group; calls may still be using it
	onIdle  func(s S)     // and this was the last of them
	whyLost func() string // which of the services that are not ready has failed to connect, and why; may say nothing

	// Invariant: one call at most waits for a member to become ready; the others wait for
	// the turn.
	turn chan struct{} // holds one: the call that waits for a member

	reading sync.WaitGroup // the source
	ctx     context.Context
	cancel  context.CancelFunc
	over    context.Context // ends when there is no endpoint and will be none
	finish  context.CancelFunc

	news struct { // of the source
		sync.Mutex

		ended   bool
		failure error // why it ended, if that was a failure
		last    error // why the last member failed for good
	}
}

// init makes g ready for read. onLeft and onIdle are called with no lock of g held; a
// service may leave while calls use it, and is idle once: after its last call.
func (g *group[K, S]) init(c Config, onLeft, onIdle func(s S)) {
	g.pool.init(publish, func() {})
	g.config = newSettings(c.withDefaults())
	g.onLeft, g.onIdle = onLeft, onIdle
	g.whyLost = func() string { return "" }
	g.turn = make(chan struct{}, 1)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.over, g.finish = context.WithCancel(context.Background())
	g.cache = ready.NewCache(g.dropped)
	g.count = g.bans.count
}

// read begins to follow source.
func (g *group[K, S]) read(source discover.Source[K, *member[S]]) {
	background.Go(&g.reading, "balance", func() error { return g.cache.Follow(g.ctx, source) }, g.ended)
}

// newMember returns the member of a service that the source has inserted. What is
// known of it is in g.past. name is for descriptions and transitions.
func (g *group[K, S]) newMember(s S, name string) *member[S] {
	return &member[S]{endpoint: g.arrive(name), service: s, weight: weightOf(s)}
}

// arrive returns the endpoint of a member, with its past if it has one.
func (g *group[K, S]) arrive(name string) *endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.past.arrive(name, g.now())
	if e == nil {
		return newEndpoint(&g.pool, g.config, name)
	}
	g.reviveLocked(e)
	return e
}

// leave takes the endpoint of a member that has left out of the count.
func (g *group[K, S]) leave(e *endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetLocked(e)
	g.past.leave(e, g.now())
}

// dropped is called by the cache for each member that leaves it.
// err is why its readiness failed for good; nil if the source removed it, or replaced
// it.
func (g *group[K, S]) dropped(key K, m *member[S], err error) {
	g.leave(m.endpoint)
	g.onLeft(m.service)
	if err != nil {
		g.news.Lock()
		g.news.last = fmt.Errorf("%v: %w", key, err)
		g.news.Unlock()
	}
	g.settle()
	if m.quit() {
		g.onIdle(m.service)
	}
}

// ended notes that the source has ended.
func (g *group[K, S]) ended(err error) {
	g.news.Lock()
	g.news.ended, g.news.failure = true, err
	g.news.Unlock()
	g.settle()
}

// settle ends the waits of calls if no endpoint can come any more. (Closing a group
// ends them by itself.)
func (g *group[K, S]) settle() {
	g.news.Lock()
	defer g.news.Unlock()
	if ready, pending := g.cache.Len(); g.news.ended && ready+pending == 0 && g.ctx.Err() == nil {
		g.finish()
	}
}

// close drops all members and waits until no goroutine uses them or the source.
func (g *group[K, S]) close() {
	g.cancel()
	g.reading.Wait()
	g.cache.Close()
}

// enter chooses a member that is ready and enters it; while there is none it
// waits, in line, for as long as ctx and h let it. The member is to be left with
// exit.
// A call that finds a member does not wait for those in line: the line is for calls that
// found none, and there is room for all when a member is ready.
func (g *group[K, S]) enter(ctx context.Context, h *reachability, stream bool) (*member[S], visit, error) {
	record := attempts.FromContext(ctx)
	for round := range patience + 1 {
		m, v, err := g.tryEnter(record, stream, round == patience)
		if m != nil || err != nil {
			return m, v, err
		}
	}
	return g.enterInTurn(ctx, h, record, stream)
}

// tryEnter is enter without waiting: without a member and an error, the one that
// was chosen was not ready, or there was none to choose.
// fresh asks for the members of this moment; without it a list that is a little old
// will do, which costs nothing to look at.
func (g *group[K, S]) tryEnter(record *attempts.Record, stream, fresh bool) (m *member[S], v visit, err error) {
	now := g.now()
	l := g.lineup(now, fresh)
	if len(l.choices) == 0 {
		return nil, v, nil
	}
	chosen, err := l.choose(&v, now, record)
	if err != nil {
		return nil, v, err
	}
	if of := l.members[chosen.index]; g.admit(&v, of, now) {
		m = of.Service
		record.Add(m.id)
		v.start(chosen, now, stream)
	}
	return m, v, nil
}

// admit reports whether a member that was chosen, and entered, is ready. If it is
// not, what was taken goes back, also when asking it panics.
// Holding comes before asking: between the two the source may remove the member, and its
// last call would retire the service.
func (g *group[K, S]) admit(v *visit, chosen *ready.Member[K, *member[S]], now int64) (ok bool) {
	m := chosen.Service
	held := m.hold()
	defer func() {
		if !ok {
			m.cancel(v, now)
			g.release(m)
		}
	}()
	return held && g.cache.Check(chosen)
}

// enterInTurn is enter for calls that found no member: they wait in line, so that a member which becomes ready does not wake all of them for one
// place.
func (g *group[K, S]) enterInTurn(ctx context.Context, h *reachability, record *attempts.Record, stream bool) (*member[S], visit, error) {
	// For h: an RPC that fails fast stops waiting when no endpoint can be reached.
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	defer h.onLost(giveUp)()
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return nil, visit{}, unsent(g.whyNone(ctx))
	}
	for round := 1; ; round++ {
		m, v, err := g.tryEnter(record, stream, true)
		if m != nil || err != nil {
			return m, v, err
		}
		g.sweep()
		if err := g.wait(ctx); err != nil {
			return nil, visit{}, unsent(err)
		}
		if round%distrust == 0 && !pause(ctx) {
			return nil, visit{}, unsent(g.whyNone(ctx))
		}
	}
}

// sweep asks all members that are listed as ready. Several were not: it may be
// that most of thousands have been lost at once.
// Each that is not ready leaves the list, and is waited for in the background.
func (g *group[K, S]) sweep() {
	for _, m := range g.cache.Members() {
		g.cache.Check(m)
	}
}

const (
	// distrust is after how many members that became ready, and were not when they
	// were asked, a call takes a pause. Others may have taken the room each time,
	// or else something is wrong with their Ready.
	distrust = 64
	pauseFor = 10 * time.Millisecond
)

// pause reports whether ctx lives on.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(pauseFor)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// exit ends the visit of a call.
// It is called once for each success of enter. retryAfter is for how long the endpoint
// asked to be left alone; 0 if it did not.
func (g *group[K, S]) exit(m *member[S], v visit, o turret.Outcome, retryAfter time.Duration) {
	m.finish(&v, g.now(), o, retryAfter)
	g.release(m)
}

// release gives up the hold on m. The last call of a member that has left retires its
// service, on its own goroutine.
func (g *group[K, S]) release(m *member[S]) {
	if m.unhold() {
		g.onIdle(m.service)
	}
}

// wait waits until a member is ready, as far as is known. Its error is what Ready
// returns if there is none.
func (g *group[K, S]) wait(ctx context.Context) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(g.over, stop)()
	err := g.cache.Ready(waiting)
	switch {
	case err == nil || turret.IsFinal(err): // or closed
		return err
	case g.over.Err() != nil:
		return g.verdict()
	default:
		return g.whyNone(ctx)
	}
}

// whyNone returns the error of a call whose ctx has ended while there was no
// member: why, and why there was none. A closed group says so, whatever else ended
// ctx.
func (g *group[K, S]) whyNone(ctx context.Context) error {
	lost, unreachable := errors.AsType[unreachableError](context.Cause(ctx))
	if unreachable && g.ctx.Err() == nil {
		return lost.unreachable()
	}
	err := g.cache.Ready(ctx)
	switch {
	case turret.IsFinal(err):
		return err
	case unreachable:
		return lost.unreachable()
	case err == nil: // one is ready now, but the line was too long
		return turret.NotReady(ctx.Err())
	}
	if why := g.whyLost(); why != "" {
		err = turret.NotReady(fmt.Errorf("%w, no connection to %s", err, why))
	}
	g.news.Lock()
	defer g.news.Unlock()
	if g.news.failure == nil {
		return err
	}
	return turret.NotReady(fmt.Errorf("%w, discovery has failed: %w", err, g.news.failure))
}

// verdict returns the final error of a group without endpoints. It has to be one:
// it shows what others say, which may match anything, only as a text.
func (g *group[K, S]) verdict() error {
	g.news.Lock()
	defer g.news.Unlock()
	switch {
	case g.news.failure != nil:
		return fmt.Errorf("%w, discovery has failed: %v", ErrNoEndpoint, g.news.failure) //nolint:errorlint // see above
	case g.news.last != nil:
		return fmt.Errorf("%w, the last one failed: %w", ErrNoEndpoint, g.news.last)
	default:
		return fmt.Errorf("%w, and there will be none", ErrNoEndpoint)
	}
}

// unsent returns err, an error of Ready, as that of a call.
func unsent(err error) error {
	if errors.Is(err, turret.ErrNotReady) {
		return err
	}
	return &turret.Refusal{Kind: turret.KindUnavailable, Layer: "balance", Reason: turret.ReasonNoEndpoint, Err: err}
}

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
// It enters nothing: what it finds may be gone when a call comes.
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
	// Watching comes before the second look, so that room that is given back in between is
	// not missed.
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

// Stats are the endpoints of a [Balancer] or a [ClientConn] in figures. An
// endpoint is asked whether it is ready before a call is sent to it, so one that
// gets none, because it is banned, counts as ready after its connection was lost,
// until it is tried out.
type Stats struct {
	Ready   int    // endpoints that were ready when they were last asked, banned ones too
	Pending int    // endpoints that were not
	Banned  int    // endpoints, ready or pending, that are banned or on trial after a ban
	Bans    uint64 // times that an endpoint was banned, failed probes included
	Panics  uint64 // calls that were sent to a banned endpoint, as no other was found
}

// String returns s in words.
func (s Stats) String() string {
	return fmt.Sprintf("%d endpoints, %d ready, %d banned; %d bans, %d calls sent to banned ones",
		s.Ready+s.Pending, s.Ready, s.Banned, s.Bans, s.Panics)
}

// stats reads its figures one after another: they may be a few calls apart.
func (g *group[K, S]) stats() Stats {
	ready, pending := g.cache.Len()
	return Stats{ready, pending, g.outOfUse(), g.bansFor[0].Load() + g.bansFor[1].Load(), g.panics.Load()}
}

// String returns the group's [Stats] in words.
func (g *group[K, S]) String() string { return fmt.Sprintf("balance over %v", g.stats()) }

// describe describes the endpoints that are ready. inside returns what there is around
// the calls of one service, or nil.
func (g *group[K, S]) describe(d *turret.Description, inside func(S) any) {
	now := g.now()
	s := g.stats()
	g.config.describe(d)
	d.Count("bans", "{ban}", causeFailures, g.bansFor[0].Load())
	d.Count("bans", "{ban}", causeLatency, g.bansFor[1].Load())
	d.Count("panics", "{call}", "", s.Panics)
	d.Gauge("endpoints_pending", "{endpoint}", float64(s.Pending))
	members := g.cache.Members()
	views := make([]view, 0, len(members))
	for _, m := range members {
		e := m.Service
		views = append(views, look(e.endpoint, now, connectivity.Ready, inside(e.service)))
	}
	describeEndpoints(d, views)
}
