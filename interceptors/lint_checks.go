package interceptors

import "slices"

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

func (l *linter) hedge(layer lintLayer, inside path) {
	switch {
	case l.side == SideServer:
		l.found(layer, "hedge-on-server", "does nothing on a server", "put it into the stack of a client")
	case inside.has("retry"):
		l.found(layer, "hedge-outside-retry", "has a Retry inside it, so that each hedge is retried", "put Hedge inside Retry")
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
