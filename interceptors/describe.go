package interceptors

import (
	"maps"
	"slices"
	"sync"

	"github.com/turret-go/turret"
)

// describeLayers describes layers that are around inner. What [turret.Stack] has
// made one layer of is described layer by layer.
func describeLayers(d *turret.Description, layers []Service, inner Service) {
	for i, layer := range layers {
		if i+1 < len(layers) {
			d.Chain(layer, layers[i+1])
		} else {
			d.Chain(layer, inner)
		}
	}
}

// Describe describes the layers that run for some RPCs only.
func (b *branchService) Describe(d *turret.Description) {
	d.Is("for", b.heading)
	describeLayers(d, b.layers, b.Service)
}

// Describe gives the layer that has the name to d.
func (n *namedService) Describe(d *turret.Description) {
	d.Named(n.name)
	d.Forward(n.Service)
}

// Describe says what the mechanism says.
func (s *timeoutService) Describe(d *turret.Description) { d.Forward(s.Service) }

// Describe says what the mechanism says.
func (s *hedgeService) Describe(d *turret.Description) { d.Forward(s.hedged) }

// Describe says what the mechanism says, and how much a stream keeps.
func (s *retryService) Describe(d *turret.Description) {
	d.Forward(s.Service)
	d.Setting("replay_limit", "By", s.replayLimit)
}

// Describe says how often RPCs were tried again, and why.
func (p retryPolicy) Describe(d *turret.Description) {
	d.Forward(p.Policy)
	p.retries.describe(d, "retries", "{retry}")
}

// Describe says how many panics were caught.
func (s *recoverService) Describe(d *turret.Description) {
	d.Is("recover", s.String())
	d.Count("panics", "{panic}", "", s.panics.Load())
}

// Describe says how many RPCs were rejected.
func (s *filterService) Describe(d *turret.Description) {
	d.Is("filter", s.String())
	s.rejected.describe(d, "rejected", "{call}")
}

// Describe says that RPCs are traced.
func (s *traceService) Describe(d *turret.Description) { d.Is("trace", s.String()) }

// Describe says that RPCs are observed.
func (s *observeService) Describe(d *turret.Description) { d.Is("observe", s.String()) }

// Describe says that RPCs are put into their contexts.
func (s *inContextService) Describe(d *turret.Description) { d.Is("in_context", s.String()) }

// Describe says that an interceptor was adopted.
func (a *adopted) Describe(d *turret.Description) { d.Is("adopted", a.name) }

// The layers below embed their mechanism, which is not what RPCs go on to.

// Inner returns what RPCs go on to.
func (s *timeoutService) Inner() any { return innerOf(s.Service) }

// Inner returns what RPCs go on to.
func (s *retryService) Inner() any { return s.inner }

// Inner returns what RPCs go on to.
func (n *namedService) Inner() any { return n.inner }

// innerOf returns what the layer of a mechanism passes calls on to.
func innerOf(s Service) any {
	if d, ok := s.(interface{ Inner() any }); ok {
		return d.Inner()
	}
	return nil
}

// A tally counts by reason. It is for what happens seldom: it takes a lock. The
// zero tally is empty. Its methods may be called concurrently.
type tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// mostReasons is how many reasons are distinguished. Gates of a program may give
// reasons of their own, and must not make them up without end.
const (
	mostReasons = 64
	otherReason = "OTHER"
)

func (t *tally) add(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]uint64{}
	}
	if _, known := t.counts[reason]; !known && len(t.counts) >= mostReasons {
		reason = otherReason
	}
	t.counts[reason]++
}

// describe adds a counter for each reason, in the order of their names.
func (t *tally) describe(d *turret.Description, name, unit string) {
	t.mu.Lock()
	counts := maps.Clone(t.counts)
	t.mu.Unlock()
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		d.Count(name, unit, reason, counts[reason])
	}
}
