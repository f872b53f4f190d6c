package statusz

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turret-go/turret"
)

// A look builds the View of one moment. Everything in it is a function of the
// trees that were described, the histories, and now.
type look struct {
	now      time.Time
	history  *history
	states   map[string]string // of breakers and endpoints, at the look before
	seen     map[string]string // the same, now
	samples  *samples
	view     *View
	budget   int // parts that may still be drawn
	rows     int // endpoints that may still be listed
	findings []Finding
}

// The bounds of a View.
const (
	mostParts    = 300
	mostChildren = 40
	mostDepth    = 8
	mostFindings = 20
	mostEvents   = 100
	mostChanges  = 30
	mostRows     = 200 // methods, and endpoints of all channels
)

// A tree is what one Describer said, under the name that it was added with.
type tree struct {
	name string
	node turret.Node
}

// tree adds what one Describer said to the View.
func (l *look) tree(t tree) {
	if !isChannel(&t.node) {
		l.view.Stacks = append(l.view.Stacks, l.part(t.name, t.name, &t.node, 0))
		return
	}
	l.channel(t)
	for i := range t.node.Children {
		if child := &t.node.Children[i]; child.Kind == "stack" {
			l.view.Stacks = append(l.view.Stacks, l.part(t.name+"/stack", t.name, child, 0))
		}
	}
}

// part turns a node into what is drawn of it, and adds its events and findings.
// key tells its curves from others; where is the stack that it belongs to.
func (l *look) part(key, where string, n *turret.Node, depth int) Part {
	l.budget--
	p := Part{Kind: n.Kind, Name: n.Name, Title: n.Title, More: n.More}
	if depth == 0 {
		p.Name = where
	} else {
		where += " › " + label(n)
	}
	f := figuresOf(n)
	p.State = f.text("state")
	p.Used, p.Max = f.bar()
	if n.Again {
		p.Notes = []string{"shared: its figures are elsewhere in this stack"}
		return p
	}
	l.count(&p, key, where, n)
	switch {
	case p.Max > 0:
		p.curve = l.history.gauge(key, p.Used)
	case f.has("row"): // a breaker
		p.curve = l.history.gauge(key, f.value("calls"))
	}
	p.Notes = f.notes()
	l.judge(&p, key, where, n, f)
	for i := range n.Children {
		child := &n.Children[i]
		childKey := fmt.Sprintf("%s/%d%s", key, i, child.Kind)
		if depth >= mostDepth || i >= mostChildren || l.budget <= 0 {
			p.More += len(n.Children) - i
			break
		}
		p.Children = append(p.Children, l.part(childKey, where, child, depth+1))
	}
	return p
}

// label returns what a node is called: its name, or else its kind.
func label(n *turret.Node) string {
	switch {
	case n.Name != "":
		return n.Name
	case n.Kind == "for" && len(n.Title) <= 60:
		return n.Title
	default:
		return words(n.Kind)
	}
}

// eventNames are the counters that are events, and what they are called.
var eventNames = map[string]string{
	"refused": "refused", "rejected": "refused", "retries": "retry", "hedges": "hedge",
	"timeouts": "timeout", "panics": "panic", "faults": "fault", "injected": "fault",
}

// count adds the counters of a node to the events, and sums up its refusals.
func (l *look) count(p *Part, key, where string, n *turret.Node) {
	for _, f := range n.Figures {
		what, known := eventNames[f.Name]
		if f.Kind != turret.Counter || !known {
			continue
		}
		if n.Kind == "retry_budget" {
			what = "over budget"
		}
		rate, curve := l.history.count(key+"#"+f.Name+"#"+f.Reason, f.Value)
		if f.Name == "refused" || f.Name == "rejected" {
			p.Refused += rate
			if f.Value > 0 {
				p.Refusals = append(p.Refusals, strings.TrimSpace(num(f.Value)+" "+cmp.Or(f.Reason, "refused")))
			}
		}
		if f.Value == 0 || len(l.view.Events) >= mostEvents || curve == nil {
			continue
		}
		e := Event{What: what, Layer: where, Reason: f.Reason, Rate: rate, Ever: f.Value, curve: curve}
		minute := 60
		if l.history.dt > 0 {
			minute = int(60 / l.history.dt)
		}
		e.LastMinute = min(f.Value, curve.mean(minute)*l.history.dt*float64(min(minute, len(curve.ring))))
		if what == "timeout" {
			e.Reason = "TIMEOUT"
		}
		e.Last = l.samples.last(what, n.Name, e.Reason)
		l.view.Events = append(l.view.Events, e)
	}
}

// state notes the state of what key stands for, and adds a Change if it differs
// from that of the look before.
func (l *look) state(key, where, state, why string, bad bool) {
	if len(l.seen) >= mostSeries {
		return
	}
	before, known := l.states[key]
	l.seen[key] = state
	if known && before != state {
		l.view.Changes = append(l.view.Changes, Change{l.now, where, words(state), why, bad})
	}
}

// words returns a state as people write it.
func words(state string) string { return strings.ReplaceAll(state, "_", " ") }

// figures are those of a node.
type figures []turret.Figure

func figuresOf(n *turret.Node) figures { return n.Figures }

func (f figures) find(name string) (turret.Figure, bool) {
	if i := slices.IndexFunc(f, func(f turret.Figure) bool { return f.Name == name }); i >= 0 {
		return f[i], true
	}
	return turret.Figure{}, false
}

func (f figures) has(name string) bool { _, ok := f.find(name); return ok }

func (f figures) value(name string) float64 { found, _ := f.find(name); return found.Value }

func (f figures) text(name string) string { found, _ := f.find(name); return found.Text }

// sum returns the sum of the counters of one name, whatever their reasons.
func (f figures) sum(name string) (sum float64) {
	for _, f := range f {
		if f.Name == name {
			sum += f.Value
		}
	}
	return sum
}

// bar returns how much of a bounded thing is used: places of a limit, tokens of a
// rate limit, retries of a budget. most is 0 if there is no such thing.
func (f figures) bar() (used, most float64) {
	switch {
	case f.has("limit") && f.has("in_flight"):
		return f.value("in_flight"), f.value("limit")
	case f.has("max") && f.has("in_flight"):
		return f.value("in_flight"), f.value("max")
	case f.has("burst") && f.has("tokens"):
		return max(0, f.value("burst")-f.value("tokens")), f.value("burst")
	case f.has("left") && f.has("retries"):
		return f.value("retries"), f.value("retries") + max(0, f.value("left"))
	case f.has("probability"):
		return f.value("probability"), 1
	}
	return 0, 0
}

// notes returns what a node tells beside its bar and its refusals.
func (f figures) notes() []string {
	var notes []string
	add := func(name, format string) {
		if v := f.value(name); v > 0 {
			notes = append(notes, fmt.Sprintf(format, num(v)))
		}
	}
	if f.has("row") {
		notes = append(notes, fmt.Sprintf("%s of %s failed", num(f.value("failures")), num(f.value("calls"))))
	}
	if f.has("burst") {
		notes = append(notes, "burst "+num(f.value("burst")))
	}
	if max, ok := f.find("queue_max"); ok {
		notes = append(notes, "line of "+cmp.Or(max.Text, num(max.Value)))
	}
	add("waiting", "%s in line")
	add("entered", "%s entered")
	add("cancelled", "%s cancelled in line")
	add("timeouts", "%s timed out")
	add("panics", "%s panics")
	add("keys", "%s keys")
	if n := f.sum("retries"); n > 0 && f.has("max_attempts") {
		notes = append(notes, num(n)+" retries")
	}
	if n := f.sum("hedges"); n > 0 {
		notes = append(notes, num(n)+" hedges")
	}
	if f.has("latency") && f.has("limit") {
		notes = append(notes, "latency "+seconds(f.value("latency")))
	}
	return notes
}

// methods adds the methods, the busiest first.
func (l *look) methods(all *methods) (t sums) {
	for _, m := range *all.all.Load() {
		calls, failed, by := m.counts()
		name := strings.TrimPrefix(m.key.method, "/")
		made := Method{
			Side: m.key.side.String(), Kind: m.key.kind.String(), Method: name,
			InFlight: max(0, m.inFlight.Load()), Calls: calls, Codes: by,
			P50: m.quantile(0.5), P99: m.quantile(0.99),
		}
		key := "method/" + made.Side + "/" + made.Kind + "/" + name
		l.history.fromZero(key)
		l.history.fromZero(key + "#failed")
		made.Rate, made.curve = l.history.count(key, float64(calls))
		rate, bad := l.history.count(key+"#failed", float64(failed))
		if mean := made.curve.mean(60); mean > 0 {
			made.Failed = min(1, bad.mean(60)/mean)
		}
		t.any = true
		t.calls += made.Rate
		t.failed += rate
		t.inFlight += made.InFlight
		l.view.Methods = append(l.view.Methods, made)
	}
	slices.SortFunc(l.view.Methods, func(a, b Method) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Calls, a.Calls),
			cmp.Compare(a.Side, b.Side), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Kind, b.Kind))
	})
	listed := min(len(l.view.Methods), mostRows)
	l.view.MoreMethods = len(l.view.Methods) - listed
	l.view.Methods = l.view.Methods[:listed]
	if n := all.beyond.Load(); n > 0 {
		l.find(rankLost, "methods", fmt.Sprintf("are more than %d: %s calls are counted as %s", all.most, num(float64(n)), otherMethod),
			"Raise Config.Methods if they are real. Callers may make names up where a handler takes unknown services.")
	}
	return t
}

// totals adds the six figures of the process.
func (l *look) totals(t sums) {
	rate := map[string]float64{}
	for _, e := range l.view.Events {
		rate[e.What] += e.Rate
	}
	share := 0.0
	if t.calls > 0 {
		share = 100 * min(1, t.failed/t.calls)
	}
	for _, total := range []Total{
		{Name: "calls", Unit: "/s", Value: t.calls},
		{Name: "failed", Unit: "%", Value: share},
		{Name: "in flight", Value: float64(t.inFlight)},
		{Name: "refused", Unit: "/s", Value: rate["refused"]},
		{Name: "retries", Unit: "/s", Value: rate["retry"]},
		{Name: "timeouts", Unit: "/s", Value: rate["timeout"]},
	} {
		total.curve = l.history.gauge("total/"+total.Name, total.Value)
		l.view.Totals = append(l.view.Totals, total)
	}
}

// channel adds a channel and its endpoints.
func (l *look) channel(t tree) {
	n := &t.node
	f := figuresOf(n)
	c := Channel{Name: cmp.Or(n.Name, t.name), Title: n.Title, More: n.More}
	c.Bans = f.sum("bans")
	key := "channel/" + t.name
	total := 0.0
	for i := range n.Children {
		child := &n.Children[i]
		if child.Kind != "endpoint" {
			continue
		}
		if l.rows--; l.rows < 0 {
			c.More++
			continue
		}
		e := l.endpoint(key+"/"+child.Name, c.Name, child)
		total += e.Calls
		c.Endpoints = append(c.Endpoints, e)
	}
	c.Known = len(c.Endpoints) + c.More
	c.InUse = int(f.value("endpoints_in_use"))
	for i := range c.Endpoints {
		if total > 0 {
			c.Endpoints[i].Share = c.Endpoints[i].Calls / total
		}
	}
	l.describes(c.Name, n, f)
	l.judgeChannel(&c, f)
	l.view.Channels = append(l.view.Channels, c)
}

func (l *look) endpoint(key, channel string, n *turret.Node) Endpoint {
	f := figuresOf(n)
	e := Endpoint{
		Name: n.Name, State: f.text("state"), Why: f.text("why"),
		InFlight: f.value("in_flight"), Latency: f.value("latency"), Bans: f.sum("bans"),
	}
	e.Calls, e.curve = l.history.count(key, f.value("calls"))
	e.Failed, _ = l.history.count(key+"#failed", f.value("failures"))
	if e.State != "in_use" {
		e.Latency = 0 // it is of the last call that succeeded
	}
	l.connection(key, e.Name+" of "+channel, e.State)
	l.describes(e.Name, n, f)
	for i := range n.Children { // its own layers: what is wrong with them
		if l.budget > 0 {
			l.part(fmt.Sprintf("%s/%d", key, i), e.Name, &n.Children[i], 0)
		}
	}
	return e
}

// connection notes whether an endpoint can be reached. Bans come with their
// evidence, as transitions.
func (l *look) connection(key, where, state string) {
	switch state {
	case "unreachable":
		l.state(key, where, "cannot be reached", "", true)
	case "in_use":
		l.state(key, where, "connected", "", false)
	default:
		if before, known := l.states[key]; known {
			l.seen[key] = before
		}
	}
}
