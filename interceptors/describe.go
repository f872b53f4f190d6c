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

// add counts one for reason, or for otherReason where there are too many reasons.
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
