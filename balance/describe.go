package balance

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/turret-go/turret"
)

// channels are the policies that are in use, so that they can be described: gRPC
// makes them, and returns no pointer to them.
var (
	channelsMu sync.Mutex
	channels   = map[turret.Describer]string{} // a policy and its target
)

// Channels returns the channels of this process that balance with this policy,
// by target, with a description of the policy: its endpoints, those that are
// banned first, then those with the greatest load. A channel that is idle has no
// policy. Channels may be called concurrently; it is a snapshot.
func Channels() iter.Seq2[string, turret.Describer] {
	channelsMu.Lock()
	targets := maps.Clone(channels)
	channelsMu.Unlock()
	all := slices.Collect(maps.Keys(targets))
	slices.SortFunc(all, func(a, b turret.Describer) int { return cmp.Compare(targets[a], targets[b]) })
	return func(yield func(string, turret.Describer) bool) {
		for _, p := range all {
			if !yield(targets[p], p) {
				return
			}
		}
	}
}

// The states of an endpoint, the worst first.
const (
	stateBanned      = "banned"      // by failures or latency
	stateOnTrial     = "on_trial"    // its ban is over; the next call is a probe, or it is under way
	stateUnreachable = "unreachable" // the last attempt to connect failed
	stateConnecting  = "connecting"  // or idle
	stateInUse       = "in_use"
)

var states = [...]string{stateBanned, stateOnTrial, stateUnreachable, stateConnecting, stateInUse}

// A view is an endpoint as it was looked at for a description.
// It reads the endpoint once, so that the order of the list and its figures agree.
type view struct {
	*endpoint

	tracker tracker
	state   string
	inside  any // its stack; may be nil
	load    float64
}

// look returns e as it is at now; connected is the state of its connection.
// It takes locks of circuits only where one is not closed.
func look(e *endpoint, now int64, connected connectivity.State, inside any) view {
	t := e.tracker()
	v := view{endpoint: e, tracker: t, state: stateInUse, inside: inside, load: t.Load(now)}
	switch {
	case e.out.Load() && (e.failures.Refuses(now) || e.slowness.Refuses(now)):
		v.state = stateBanned
	case e.out.Load():
		v.state = stateOnTrial
	case connected == connectivity.Ready:
	case connected == connectivity.TransientFailure:
		v.state = stateUnreachable
	default:
		v.state = stateConnecting
	}
	return v
}

// Describe describes the endpoint.
// The latency is what the tracker expects of one call: the load without the calls in
// flight. LoadPending measures none.
func (v *view) Describe(d *turret.Description) {
	d.Is("endpoint", "endpoint")
	d.Named(v.name)
	d.State("state", v.state)
	if last := v.last.Load(); last != nil && v.state != stateInUse {
		d.State("why", last.Why())
		d.State("since", last.When.UTC().Format(time.RFC3339))
	}
	describeAlarm(d, v.endpoint)
	n := v.tracker.InFlight()
	d.Gauge("in_flight", "{call}", float64(n))
	if v.config.Load().Load != LoadPending {
		d.Gauge("latency", "s", v.load/float64(n+1)/1e9)
	}
	d.Count("calls", "{call}", "", v.calls.Load())
	d.Count("failures", "{call}", "", v.failed.Load())
	d.Count("bans", "{ban}", causeFailures, v.failures.Openings())
	d.Count("bans", "{ban}", causeLatency, v.slowness.Openings())
	if v.inside != nil {
		d.Inside(v.inside)
	}
}

// describeEndpoints describes the endpoints of one balancer: how many are in each
// state, and one by one those that matter most.
// The worst states come first, and within a state the greatest load: of thousands of
// endpoints the description has as many as were asked for.
func describeEndpoints(d *turret.Description, views []view) {
	count := map[string]int{}
	for i := range views {
		count[views[i].state]++
	}
	for _, state := range states {
		d.Gauge("endpoints_"+state, "{endpoint}", float64(count[state]))
	}
	slices.SortStableFunc(views, func(a, b view) int {
		if c := cmp.Compare(slices.Index(states[:], a.state), slices.Index(states[:], b.state)); c != 0 {
			return c
		}
		return cmp.Compare(b.load, a.load)
	})
	listed := min(len(views), max(d.Most(), 0))
	for i := range views[:listed] {
		d.Inside(&views[i])
	}
	d.LeftOut(len(views) - listed)
}

// layersOf describes the layers of a service.
// A service that turret.Stack has made is described layer by layer.
type layersOf struct{ service any }

// Describe describes the layers, outermost first.
func (l layersOf) Describe(d *turret.Description) {
	d.Is("stack", "stack")
	d.Chain(l.service, nil)
}
