package balance

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"

	"github.com/turret-go/turret/internal/tried"
)

// A picker chooses among the endpoints that were ready at one moment. What is
// known of the endpoints is shared with the pickers before and after it.
//
// Its snapshot is made at its first pick, not when a connection changes: while
// 1,000 endpoints connect, nearly all pickers are replaced unused.
type picker struct {
	policy *policy

	once   sync.Once
	states []endpointsharding.ChildState
	snapshot
	children []balancer.Picker // of the choices
}

func (p *picker) build() {
	p.snapshot, p.children = p.policy.snapshot(p.states)
	p.states = nil
}

// Pick chooses an endpoint for one attempt of an RPC.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	p.once.Do(p.build)
	if len(p.choices) == 0 { // all removed; the picker that knows comes at once
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	now := p.policy.now()
	record := tried.FromContext(info.Ctx)
	chosen, pass, err := p.choose(now, record)
	if err != nil {
		return balancer.PickResult{}, err
	}
	result, err := p.children[chosen.index].Pick(info)
	if err != nil {
		chosen.cancel(now, pass)
		return result, err
	}
	record.Add(chosen.id)
	result.Done = p.policy.begin(chosen.endpoint, now, pass, info, record, result.Done)
	return result, nil
}

// snapshot returns the ready endpoints and their pickers. An endpoint that was
// not ready in the last snapshot begins its slow start.
func (p *policy) snapshot(states []endpointsharding.ChildState) (snapshot, []balancer.Picker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ordered := make([]choice, p.endpoints.Len())
	pickers := make([]balancer.Picker, len(ordered))
	weights := make([]float64, len(ordered))
	for _, child := range states {
		e, ok := p.endpoints.Get(child.Endpoint)
		if !ok {
			continue // removed since
		}
		ready := child.State.ConnectivityState == connectivity.Ready
		if ready && !e.ready {
			e.warmUp(p.now())
		}
		if e.ready = ready; ready {
			ordered[e.order] = e.choice(0)
			pickers[e.order] = child.State.Picker
			weights[e.order] = max(1, float64(weight.FromEndpoint(child.Endpoint).Weight))
		}
	}
	ready := ordered[:0]
	for i, c := range ordered {
		if c.endpoint != nil {
			c.index = len(ready)
			pickers[c.index], weights[c.index] = pickers[i], weights[i]
			ready = append(ready, c)
		}
	}
	p.ready = len(ready)
	s := snapshot{choices: ready, config: p.config}
	if weights = weights[:len(ready)]; !alike(weights) {
		s.weights = newAlias(weights)
	}
	return s, pickers[:len(ready)]
}

// alike reports whether all weights are equal.
func alike(weights []float64) bool {
	for _, w := range weights {
		if w != weights[0] {
			return false
		}
	}
	return true
}
