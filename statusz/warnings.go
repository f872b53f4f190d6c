package statusz

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/turret-go/turret/interceptors"
)

const (
	mostWarnings = 20
	// lintEvery is how often stacks are linted: they rarely change, and a policy in
	// them only when it is loaded anew.
	lintEvery = 30 * time.Second
)

// bothSides is the check for a stack that runs RPCs of both sides.
const bothSides = "both-sides"

// A stack can say which mistakes it has, for the sides whose RPCs pass through it.
// An *interceptors.Stack can.
type stack interface {
	Sides() []interceptors.Side
	Lint(side interceptors.Side) []interceptors.Finding
}

// A lint is what a stack was found to have.
type lint struct {
	when  time.Time
	sides []interceptors.Side
	found []Warning
}

// lints are those of all stacks of a page. They are not for concurrent use.
type lints map[string]*lint

// of returns the warnings of what was added, in the order of its names.
func (l lints) of(now time.Time, added []described) (all []Warning) {
	for _, a := range added {
		s, ok := a.it.(stack)
		if !ok {
			continue
		}
		sides := s.Sides()
		last := l[a.name]
		if last == nil || now.Sub(last.when) >= lintEvery || !slices.Equal(last.sides, sides) {
			last = &lint{now, sides, warningsOf(a.name, s, sides)}
			l[a.name] = last
		}
		all = append(all, last.found...)
	}
	return all
}

// warningsOf lints s. What panics in it is not found.
func warningsOf(name string, s stack, sides []interceptors.Side) (all []Warning) {
	defer func() { _ = recover() }()
	if len(sides) > 1 {
		all = append(all, Warning{
			Where: name, What: "runs RPCs of a server and of a client, which share its limits and budgets: a handler can wait for itself",
			Turn: "Make a stack for each side.", Check: bothSides,
		})
	}
	for _, side := range sides {
		for _, f := range s.Lint(side) {
			all = append(all, Warning{Where: name + " › " + f.Layer, What: f.Text, Turn: f.Fix, Check: f.Check})
		}
	}
	return all
}

// reports are the warnings that RPCs brought about, the first ones: each is
// reported once in the life of its layer.
type reports struct {
	mu  sync.Mutex
	all []Warning
}

// turnOf says what to do about the warnings of RPCs, by their reason.
var turnOf = map[string]string{
	"WRONG_SIDE":     "Move the layer to a stack of its side.",
	"NO_SUCH_METHOD": "Correct the pattern.",
}

// note adds the warning of an event, unless the page sees for itself what it is
// about.
func (r *reports) note(e interceptors.Event) {
	if e.Kind != interceptors.EventWarning || e.Err == nil {
		return
	}
	check := strings.ToLower(strings.ReplaceAll(e.Reason, "_", "-"))
	if check == bothSides {
		return
	}
	what, _, _ := strings.Cut(e.Err.Error(), "; ") // what follows is the advice
	w := Warning{
		Where: e.Layer, What: what, Turn: cmp.Or(turnOf[e.Reason], "Look at where the layer stands."),
		Check: check,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < mostWarnings {
		r.all = append(r.all, w)
	}
}

func (r *reports) list() []Warning {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.all)
}

// warn puts warnings into the View, but those of checks that are accepted.
func (v *View) warn(all []Warning, accepted []string) {
	all = slices.DeleteFunc(all, func(w Warning) bool { return slices.Contains(accepted, w.Check) })
	listed := min(len(all), mostWarnings)
	v.Warnings = append([]Warning{}, all[:listed]...)
	v.MoreWarnings = len(all) - listed
}
