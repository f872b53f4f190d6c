// Package statusz is a page on which a process shows what is wrong in it now, and
// what to turn: banned endpoints, layers that refuse, limits that are full, open
// breakers, spent budgets. Below it are the stacks as they are built, the
// endpoints of each channel, what was refused and why, and the methods.
//
//	page := statusz.New(statusz.Config{})
//	defer page.Close()
//	page.Add("front", front) // a *interceptors.Stack, or anything with Describe
//	mux.Handle("/debug/turret", page)
//
// The page looks at everything once a second, however many look at the page, and
// reads what turret.Describe returns: a gate or layer of a program's own that has
// Describe is on it like any other. [Page.Layer] adds the methods; it is the only
// part that calls pay for.
//
// # Access
//
// The page has no payloads, no metadata and no identities of callers. It has the
// names of methods, and the addresses of servers that are called. Mount it where
// pprof is: on a port for operators. It answers GET and HEAD, and changes nothing,
// but for the limits that [Config.Retune] names.
//
// It is bounded in what it keeps and in what it shows, whatever it is given, and
// says what it leaves out. A Describer that panics or does not return is itself a
// finding.
package statusz

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/misuse"
)

// A Page is an [net/http.Handler] that shows what was added to it. It must be
// made by [New]. Its methods may be called concurrently.
type Page struct {
	config  Config
	started time.Time
	methods *methods
	samples *samples
	stop    chan struct{}
	stopped chan struct{}
	close   sync.Once
	unwatch func()

	transitions transitions

	reports reports

	looking sync.Mutex // held for a look, which asks Describers: taken before mu
	lints   lints      // guarded by looking

	mu      sync.Mutex // guards what is below; Describers are not asked with it held
	added   []described
	fresh   bool // something was added after the last look
	history *history
	states  map[string]string
	changes []Change // the newest first
	view    *View
	still   []lateness
}

type described struct {
	name string
	it   turret.Describer
}

// A lateness is a time by which a look came late.
type lateness struct {
	when time.Time
	by   time.Duration
}

// mostAdded is how many Describers a page takes.
const mostAdded = 100

// stoodStill is by how much a look must be late to say that the process stood
// still.
const stoodStill = 100 * time.Millisecond

// New returns a page that looks at what is added to it until [Page.Close]. It
// panics if c.Validate returns an error.
func New(c Config) *Page {
	misuse.Check("statusz: New", c.Validate())
	c = c.withDefaults()
	c.Accept, c.Retune = slices.Clone(c.Accept), maps.Clone(c.Retune)
	c.Title = cmp.Or(c.Title, filepath.Base(os.Args[0]))
	p := &Page{
		config:  c,
		started: time.Now(),
		methods: newMethods(c.Methods),
		samples: &samples{},
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		history: newHistory(int(c.Keep / c.Interval)),
		states:  map[string]string{},
		lints:   lints{},
		fresh:   true,
	}
	p.unwatch = balance.Watch(p.transitions.note)
	go p.run()
	return p
}

// Add adds d to the page under a name. Names should be short and differ; a
// second one of the same name is shown with a number behind it. At most 100 are
// taken, the others are ignored. It panics if d is nil.
func (p *Page) Add(name string, d turret.Describer) {
	if d == nil {
		misuse.Check("statusz: Add", &turret.FieldError{Package: "statusz", Field: "Describer", Value: nil, Bound: "non-nil"})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.added) >= mostAdded {
		return
	}
	base := name
	for n := 2; slices.ContainsFunc(p.added, func(a described) bool { return a.name == name }); n++ {
		name = base + " " + strconv.Itoa(n)
	}
	p.added = append(p.added, described{name, d})
	p.fresh = true
}

// Close ends the looks, and returns when the goroutine that does them has ended.
// The page still shows the last one. Close may be called several times.
func (p *Page) Close() {
	p.close.Do(func() { close(p.stop); p.unwatch() })
	<-p.stopped
}

// run looks at everything each interval, and notes by how much it was late.
func (p *Page) run() {
	defer close(p.stopped)
	timer := time.NewTimer(p.config.Interval)
	defer timer.Stop()
	for {
		begun := time.Now()
		timer.Reset(p.config.Interval)
		select {
		case <-p.stop:
			return
		case <-timer.C:
		}
		now := time.Now()
		p.late(now, now.Sub(begun)-p.config.Interval)
		p.look(now)
	}
}

// late notes that a look came late by some time.
func (p *Page) late(now time.Time, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.still = slices.DeleteFunc(p.still, func(l lateness) bool { return now.Sub(l.when) > time.Minute })
	if by >= stoodStill && len(p.still) < 100 {
		p.still = append(p.still, lateness{now, by})
	}
}

// View returns what the page shows: the last look, or a new one if something was
// added since. It must not be changed.
func (p *Page) View() View {
	p.looking.Lock()
	p.mu.Lock()
	fresh := p.fresh
	p.mu.Unlock()
	p.looking.Unlock()
	if fresh {
		p.look(time.Now())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.view
}

// look asks all Describers and makes a View of what they say.
func (p *Page) look(now time.Time) {
	p.looking.Lock()
	defer p.looking.Unlock()
	p.mu.Lock()
	added := slices.Clone(p.added)
	p.fresh = false
	p.mu.Unlock()
	trees := make([]tree, 0, len(added))
	for _, a := range added {
		trees = append(trees, tree{a.name, turret.Describe(a.it, p.config.Endpoints)})
	}
	trees = append(trees, channelTrees(p.config.Endpoints)...)
	settings := limits(p.config.Retune).settings()
	warnings := append(p.lints.of(now, added), p.reports.list()...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.observe(now, trees)
	p.view.warn(warnings, p.config.Accept)
	p.view.Limits = settings
}

// observe makes the View of now from what was described. It needs p.mu.
func (p *Page) observe(now time.Time, trees []tree) {
	p.history.begin(now)
	l := &look{
		now: now, history: p.history, samples: p.samples, budget: mostParts, rows: mostRows,
		states: p.states, seen: map[string]string{},
		view: &View{
			Title: p.config.Title, Process: processText(strconv.Itoa(os.Getpid())),
			When: now, Up: now.Sub(p.started).Seconds(),
			Stacks: []Part{}, Channels: []Channel{}, Events: []Event{}, Methods: []Method{},
		},
	}
	for _, t := range trees {
		l.tree(t)
	}
	still := time.Duration(0)
	for _, late := range p.still {
		if now.Sub(late.when) <= time.Minute {
			still = max(still, late.by)
		}
	}
	l.stood(still)
	totals := l.methods(p.methods)
	l.totals(totals)
	l.rank()
	p.states = l.seen
	news := append(p.transitions.take(), l.view.Changes...)
	slices.SortStableFunc(news, func(a, b Change) int { return b.When.Compare(a.When) })
	p.changes = append(news, p.changes...)
	p.changes = p.changes[:min(len(p.changes), mostChanges)]
	l.view.Changes = append([]Change{}, p.changes...)
	slices.SortStableFunc(l.view.Events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.LastMinute, a.LastMinute), cmp.Compare(b.Ever, a.Ever))
	})
	p.view = l.view
}

// sums are the figures of all methods together.
type sums struct {
	calls, failed float64 // per second
	inFlight      int64
	any           bool
}

// Layer returns a layer that counts calls by method and code, measures how long
// they take, and notes of refusals, retries and timeouts inside it which method
// was the last. Make it the outermost layer of a stack but one: inside Recover.
// It is optional: without it the page has no methods. One Layer may be used in
// several stacks.
func (p *Page) Layer() interceptors.Layer {
	observe := interceptors.Observe(p.happened)
	return func(inner interceptors.Service) interceptors.Service {
		return &methodService{Service: observe(inner), inner: inner, methods: p.methods}
	}
}

// happened notes the last call of each kind of event, and the warnings.
func (p *Page) happened(_ context.Context, e interceptors.Event) {
	p.samples.note(e, time.Now())
	p.reports.note(e)
}
