package interceptors

import (
	"slices"
	"strings"

	"github.com/turret-go/turret"
)

// A Finding is something about a stack that is most likely a mistake.
type Finding struct {
	// Check is the name of the check, the same for all findings of it:
	// "limit-outside-retry".
	Check string `json:"check"`
	// Layer is the layer that the finding is about, as Describe titles it.
	Layer string `json:"layer"`
	// Text says what happens.
	Text string `json:"text"`
	// Fix says what to do.
	Fix string `json:"fix"`
}

// String returns the finding in one line.
func (f Finding) String() string { return f.Check + ": " + f.Layer + " " + f.Text + ": " + f.Fix }

// A Router is a layer that sends each RPC through one of several sequences of
// layers, as those of package policy do. [Stack.Lint] looks at each.
type Router interface {
	// Routes returns the sequences, at most as many as most.
	Routes(most int) []Route
}

// A Route is one of the sequences of a [Router].
type Route struct {
	// Title says for which RPCs it is.
	Title string
	// Kinds are the kinds of RPC that take it.
	Kinds []Kind
	// Layers are what the layers have made, outermost first. They are described
	// by turret.Describe.
	Layers []any
}

// Lint looks for usual mistakes in the order of the layers of a stack that is for
// one side: a retry without a timeout of each attempt, a limit outside of it, a
// timeout that ends streams. It finds nothing in the stacks that the documentation
// recommends. A test may hold a stack to it:
//
//	if findings := stack.Lint(interceptors.SideClient); len(findings) > 0 {
//		t.Error(findings)
//	}
//
// Layers are known by what they describe themselves as, see [turret.Describer];
// Lint finds nothing in layers that it does not know. Nothing is called but
// Describe and [Router].
func (s *Stack) Lint(side Side) []Finding {
	l := &linter{side: side, seen: map[Finding]bool{}}
	for _, path := range l.paths([]path{nil}, s.layers, leafService{}, everything) {
		l.check(path)
	}
	return l.findings
}

// Sides returns the sides whose RPCs have passed through s: none before the first
// RPC, and both only by mistake. A stack without layers has none.
func (s *Stack) Sides() []Side {
	var all []Side
	for _, side := range []Side{SideClient, SideServer} {
		if s.sides.seen.Load()&(1<<side) != 0 {
			all = append(all, side)
		}
	}
	return all
}

// mostRoutes bounds how many sequences of layers Lint looks at.
const mostRoutes = 200

// A linter collects what is found.
type linter struct {
	side     Side
	findings []Finding
	seen     map[Finding]bool
}

// A path is the layers that some RPCs pass, outermost first.
type path []lintLayer

// A lintLayer is a layer with the RPCs that it is for.
type lintLayer struct {
	turret.Node

	scope scope
}

// A scope says for which RPCs a layer is.
type scope struct {
	kinds    [KindBidiStream + 1]bool
	patterns []string // all of them match
	except   []string // none of them matches
	some     bool     // a matcher decides too
}

var everything = scope{kinds: [KindBidiStream + 1]bool{true, true, true, true}}

// inside returns the part of s that goes into a For, an Except or a ForKind with
// that heading.
func (s scope) inside(heading string) scope {
	s.patterns, s.except = slices.Clip(s.patterns), slices.Clip(s.except)
	if rest, ok := strings.CutPrefix(heading, "except "); ok {
		s.except = append(s.except, strings.Split(rest, ", ")...)
		return s
	}
	rest := strings.TrimPrefix(heading, "for ")
	if strings.HasPrefix(rest, "/") {
		if !strings.Contains(rest, ", ") {
			s.patterns = append(s.patterns, rest)
		} else {
			s.some = true
		}
		return s
	}
	var kinds [KindBidiStream + 1]bool
	known := false
	for k := KindUnary; k <= KindBidiStream; k++ {
		if slices.Contains(strings.Split(rest, ", "), k.String()) {
			kinds[k], known = s.kinds[k], true
		}
	}
	if !known {
		s.some = true
		return s
	}
	s.kinds = kinds
	return s
}

// streams reports whether s has streams of any kind.
func (s scope) streams() bool { return slices.Contains(s.kinds[KindClientStream:], true) }

// meets reports whether an RPC may be in both scopes.
func (s scope) meets(o scope) bool {
	both := false
	for k := range s.kinds {
		both = both || s.kinds[k] && o.kinds[k]
	}
	for _, p := range s.patterns {
		if slices.Contains(o.except, p) || slices.ContainsFunc(o.patterns, func(q string) bool { return !overlap(p, q) }) {
			return false
		}
	}
	for _, p := range o.patterns {
		if slices.Contains(s.except, p) {
			return false
		}
	}
	return both
}

// overlap reports whether a method may match both patterns.
func overlap(p, q string) bool {
	p, q = strings.TrimSuffix(p, "*"), strings.TrimSuffix(q, "*")
	return strings.HasPrefix(p, q) || strings.HasPrefix(q, p)
}

// paths puts layers, which are around inner, behind each of the paths.
func (l *linter) paths(to []path, layers []Service, inner Service, in scope) []path {
	for i, layer := range layers {
		next := inner
		if i+1 < len(layers) {
			next = layers[i+1]
		}
		to = l.layer(to, layer, next, in)
	}
	return to
}

// layer puts one layer behind each of the paths. Branches and routers are looked into
// by their types, which know more than their descriptions say; all others are taken
// as they describe themselves.
func (l *linter) layer(to []path, layer, next Service, in scope) []path {
	switch layer := layer.(type) {
	case *branchService:
		return l.paths(to, layer.layers, layer.Service, in.inside(layer.heading))
	case *namedService:
		return l.layer(to, layer.Service, next, in)
	case Router:
		return l.routes(to, layer, in)
	}
	nodes := turret.Describe(describedLayer{layer, next}, 0).Children
	return behind(to, flat(nil, nodes, in))
}

// routes puts each route of a Router behind each of the paths.
func (l *linter) routes(to []path, r Router, in scope) (all []path) {
	for _, route := range r.Routes(mostRoutes) {
		own := in
		own.kinds = [KindBidiStream + 1]bool{}
		for _, k := range route.Kinds {
			own.kinds[k] = in.kinds[k]
		}
		var layers path
		for _, made := range route.Layers {
			node := turret.Describe(lone{made}, 0)
			layers = append(layers, lintLayer{node, own})
		}
		for _, p := range to {
			if len(all) < mostRoutes {
				all = append(all, append(slices.Clip(p), layers...))
			}
		}
	}
	if len(all) == 0 {
		return to
	}
	return all
}

// behind appends layers to each of the paths. Clip makes append copy, because paths
// share their beginnings.
func behind(to []path, layers path) []path {
	for i := range to {
		to[i] = append(slices.Clip(to[i]), layers...)
	}
	return to
}

// flat returns what is described, with what is inside of branches.
func flat(to path, nodes []turret.Node, in scope) path {
	for _, n := range nodes {
		if n.Kind == "for" {
			to = flat(to, n.Children, in.inside(n.Title))
			continue
		}
		to = append(to, lintLayer{n, in})
	}
	return to
}

// describedLayer describes the layers that a service consists of.
type describedLayer struct{ layer, next Service }

// Describe describes what turret.Stack made one of, layer by layer.
func (d describedLayer) Describe(to *turret.Description) {
	to.Is("layers", "")
	to.Chain(d.layer, d.next)
}

// lone describes a layer without what is inside it.
type lone struct{ layer any }

// Describe says what the layer says of itself.
func (l lone) Describe(d *turret.Description) { d.Forward(l.layer) }

// found adds a finding, unless the same one is there: layers that several paths share
// are checked once for each path.
func (l *linter) found(layer lintLayer, check, text, fix string) {
	title := layer.Title
	if title == "" {
		title = layer.Kind
	}
	title, _, _ = strings.Cut(title, "\n")
	f := Finding{Check: check, Layer: title, Text: text, Fix: fix}
	if !l.seen[f] {
		l.seen[f] = true
		l.findings = append(l.findings, f)
	}
}

// seconds returns the setting of a layer that is a time, 0 if it has none.
func (n lintLayer) seconds() float64 {
	for _, f := range n.Figures {
		if f.Kind == turret.Setting && f.Unit == "s" {
			return f.Value
		}
	}
	return 0
}

// is reports whether the layer is of one of the kinds.
func (n lintLayer) is(kinds ...string) bool { return slices.Contains(kinds, n.Kind) }

// The kinds of layer that checks are about.
var (
	limits = []string{"concurrency_limit", "adaptive", "keyed_limit", "per_key"}
	rates  = []string{"rate_limit", "shared_limit"}
	gates  = slices.Concat(limits, rates, []string{"breaker", "throttle"})
)

// check looks at the layers that some RPCs pass.
func (l *linter) check(p path) {
	for i, layer := range p {
		outside, inside := p[:i], p[i+1:]
		outside, inside = outside.of(layer), inside.of(layer)
		switch layer.Kind {
		case "retry":
			l.retry(layer, outside, inside)
		case "hedge":
			l.hedge(layer, inside)
		case "load_shed":
			l.loadShed(layer, p[i+1:], inside)
		case "timeout":
			l.timeout(layer, outside)
		case "recover":
			l.recover(layer, outside)
		case "metrics":
			l.metrics(layer, outside, inside)
		case "threshold", "thresholds":
			l.threshold(layer, outside, inside)
		}
	}
}

// of returns the layers of p that RPCs of layer may pass too.
func (p path) of(layer lintLayer) (met path) {
	for _, other := range p {
		if other.scope.meets(layer.scope) {
			met = append(met, other)
		}
	}
	return met
}

// unary returns the layers of p that unary RPCs may pass.
func (p path) unary() path {
	return slices.DeleteFunc(slices.Clone(p), func(n lintLayer) bool { return !n.scope.kinds[KindUnary] })
}

// has reports whether p has a layer of one of the kinds.
func (p path) has(kinds ...string) bool {
	return slices.ContainsFunc(p, func(n lintLayer) bool { return n.is(kinds...) })
}

// retry looks for what a Retry needs around and inside it. outside and inside are the
// layers of the same path whose RPCs the Retry may see.
func (l *linter) retry(layer lintLayer, outside, inside path) {
	if l.side == SideServer {
		l.found(layer, "retry-on-server", "does nothing on a server", "put it into the stack of a client")
		return
	}
	// Of streams an attempt has no natural bound.
	total, attempt := outside.unary().has("timeout"), inside.unary().has("timeout")
	switch {
	case !layer.scope.kinds[KindUnary]:
	case total && !attempt:
		l.found(layer, "no-attempt-timeout", "has no Timeout inside it, so that one stuck attempt takes all of the time",
			"put a shorter Timeout inside Retry")
	case attempt && !total:
		l.found(layer, "no-total-timeout", "has a Timeout inside it and none outside, so that an RPC takes as long as all attempts together",
			"put a Timeout outside of Retry as well")
	}
	if outside.has(limits...) {
		l.found(layer, "limit-outside-retry", "is inside a limit, so that RPCs which wait for their next attempt hold a place in it",
			"put the limit inside Retry")
	}
	if outside.has(rates...) {
		l.found(layer, "rate-outside-retry", "is inside a rate limit, which does not count the retries", "put the rate limit inside Retry")
	}
	if outside.has("breaker") {
		l.found(layer, "breaker-outside-retry", "is inside a Breaker, which sees one outcome of several attempts", "put the Breaker inside Retry")
	}
	if inside.has("retry") {
		l.found(layer, "retry-in-retry", "has another Retry inside it, and their attempts multiply", "keep one of them")
	}
}

// hedge looks for a Hedge where it does nothing, or where attempts multiply.
func (l *linter) hedge(layer lintLayer, inside path) {
	switch {
	case l.side == SideServer:
		l.found(layer, "hedge-on-server", "does nothing on a server", "put it into the stack of a client")
	case inside.has("retry"):
		l.found(layer, "hedge-outside-retry", "has a Retry inside it, so that each hedge is retried", "put Hedge inside Retry")
	}
}

// threshold looks for a Threshold where it does nothing, where what it turns away is
// asked for again, or where it does not know the levels of methods.
func (l *linter) threshold(layer lintLayer, outside, inside path) {
	if l.side == SideServer {
		l.found(layer, "threshold-on-server", "does nothing on a server", "put it into the stack of a client")
		return
	}
	if outside.has("retry") {
		l.found(layer, "threshold-inside-retry", "is inside Retry, which asks again for what was turned away", "put Threshold outside of Retry")
	}
	levels := func(n lintLayer) bool { return n.is("criticality") && len(n.Figures) > 0 }
	if slices.ContainsFunc(inside, levels) && !slices.ContainsFunc(outside, levels) {
		l.found(layer, "threshold-outside-criticality", "is outside of the Criticality that says how critical methods are, and takes their RPCs for critical",
			"put Criticality outside of Threshold; inside Retry as well, if retries are to be less critical")
	}
}

// loadShed looks at what a load shedder watches. A For is as ready as what follows
// it, so what is inside of a narrower scope is not watched.
func (l *linter) loadShed(layer lintLayer, all, inside path) {
	watched := slices.ContainsFunc(all, func(n lintLayer) bool { return n.is(gates...) && layer.scope.within(n.scope) })
	switch {
	case watched || all.has("buffer"):
	case inside.has(gates...):
		l.found(layer, "shed-outside-for", "is outside of a For, which is as ready as what follows it, so that nothing is shed",
			"put LoadShed and the limit into the For together")
	default:
		l.found(layer, "shed-of-nothing", "has no limit inside it, so that nothing is shed", "put LoadShed outside of the limit")
	}
}

// within reports whether all RPCs of s are in o, as far as that is known.
func (s scope) within(o scope) bool {
	for k := range s.kinds {
		if s.kinds[k] && !o.kinds[k] {
			return false
		}
	}
	contains := func(in []string) func(string) bool { return func(p string) bool { return !slices.Contains(in, p) } }
	return (!o.some || s.some) && !slices.ContainsFunc(o.patterns, contains(s.patterns)) && !slices.ContainsFunc(o.except, contains(s.except))
}

// timeout looks for a timeout of both unary RPCs and streams. One of streams alone
// is meant.
func (l *linter) timeout(layer lintLayer, outside path) {
	if layer.scope.kinds[KindUnary] && layer.scope.streams() && len(layer.scope.patterns) == 0 && !layer.scope.some {
		l.found(layer, "timeout-of-streams", "ends streams that live longer", "put it into ForKind([]Kind{KindUnary}, …), or leave the long streams out with Except")
	}
	for _, other := range outside {
		if other.Kind == "timeout" && other.seconds() > 0 && layer.seconds() >= other.seconds() && layer.scope.within(other.scope) {
			l.found(layer, "timeout-not-shorter", "is inside a Timeout that is not longer, so that it never ends anything", "make the inner one shorter")
		}
	}
}

// recover looks at what is outside of a Recover. Layers that only look on are well
// there.
func (l *linter) recover(layer lintLayer, outside path) {
	if l.side == SideServer && outside.has(slices.Concat(gates, []string{"filter", "load_shed", "buffer"})...) {
		l.found(layer, "recover-inside", "is inside other layers, whose panics it does not catch", "put Recover outermost")
	}
}

// metrics looks for a Trace whose span the durations do not see. That of another
// layer outside is one of the same trace.
func (l *linter) metrics(layer lintLayer, outside, inside path) {
	if inside.has("trace") && !outside.has("trace") {
		l.found(layer, "metrics-outside-trace", "is outside of Trace, so that its durations have no exemplars of that span", "put Metrics inside Trace")
	}
}
