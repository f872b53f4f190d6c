package soak

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/fakemeter"
	"github.com/turret-go/turret/metrics"
)

// Counters are what metrics and events say. They must agree with the tally and
// with the Stats of the gates.
type counters struct {
	exporter fakemeter.Provider
	meter    *metrics.Meter
	client   events
	server   events
}

// Events counts those of one side. The zero value is ready.
type events struct {
	kinds   [interceptors.EventEnd + 1]atomic.Uint64
	refused sync.Map // of *atomic.Uint64, by layer and reason
}

func (e *events) observe(_ context.Context, event interceptors.Event) {
	e.kinds[event.Kind].Add(1)
	if event.Kind != interceptors.EventRefused {
		return
	}
	key := event.Layer + " " + event.Reason
	n, ok := e.refused.Load(key)
	if !ok {
		n, _ = e.refused.LoadOrStore(key, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// of returns how many events there were of a kind.
func (e *events) of(kind interceptors.EventKind) uint64 { return e.kinds[kind].Load() }

// refusedBy returns how many calls a layer has refused for a reason.
func (e *events) refusedBy(layer, reason string) uint64 {
	if n, ok := e.refused.Load(layer + " " + reason); ok {
		return n.(*atomic.Uint64).Load()
	}
	return 0
}

// An exported is what the callbacks of a meter observe, by instrument and
// attributes.
type exported map[string]float64

func (c *counters) collect(t *testing.T) exported {
	t.Helper()
	values, err := c.exporter.Collect()
	if err != nil {
		t.Error(err)
	}
	return values
}

// sum adds up the values of an instrument that have all of these attributes.
func (e exported) sum(instrument string, attributes ...string) uint64 {
	sum := 0.0
	for _, key := range slices.Sorted(maps.Keys(e)) {
		name, has, _ := strings.Cut(strings.TrimSuffix(key, "}"), "{")
		of := strings.Split(has, ",")
		if name == instrument && !slices.ContainsFunc(attributes, func(a string) bool { return !slices.Contains(of, a) }) {
			sum += e[key]
		}
	}
	return uint64(sum)
}

// The names of the gates, which events and metrics share.
const (
	nameOfCircuit = "circuit"
	nameOfPlaces  = "places"
	nameOfRoom    = "room"
)

// agree asserts that metrics, events, Stats and the tally say the same.
func (w *world) agree(t *testing.T, s *sums) {
	t.Helper()
	got := w.counters.collect(t)
	same := func(what string, values ...uint64) {
		t.Helper()
		if slices.Min(values) != slices.Max(values) {
			t.Errorf("%s: %d", what, values)
		}
	}
	recorded := func(name string) uint64 { return uint64(w.counters.exporter.Durations(name)) }
	client, server := &w.counters.client, &w.counters.server
	circuit, places := w.circuit.Stats(), w.places.Stats()

	same("RPCs", s.RPCs, client.of(interceptors.EventEnd), recorded("rpc.client.call.duration"))
	same("attempts", s.Attempts, recorded("turret.client.attempt.duration"))
	same("retries", client.of(interceptors.EventRetry), got.sum("turret.retries"))
	// A caller may give up while its RPC waits to be tried again.
	if made, decided := s.Attempts-s.Tried, client.of(interceptors.EventRetry); made > decided || decided-made > s.GaveUp+s.Refused {
		t.Errorf("%d retries were made, and %d decided; %d RPCs were given up, and %d refused", made, decided, s.GaveUp, s.Refused)
	}
	same("timeouts of the client", client.of(interceptors.EventTimeout), got.sum("turret.timeouts", "turret.stack=client"))
	same("RPCs that the breaker let in", circuit.Entered, got.sum("turret.gate.entered", "turret.layer="+nameOfCircuit))
	same("RPCs that the breaker refused", circuit.Refused,
		client.refusedBy(nameOfCircuit, "CIRCUIT_OPEN"), got.sum("turret.refusals", "turret.layer="+nameOfCircuit))
	same("attempts that the client's limit let in", places.Entered, got.sum("turret.gate.entered", "turret.layer="+nameOfPlaces))
	refusals := func(who *events, layer string, stats map[string]uint64) (sum uint64) {
		for reason, n := range stats {
			same(layer+": "+reason, n, who.refusedBy(layer, reason), got.sum("turret.refusals", "turret.layer="+layer, "turret.reason="+reason))
			sum += n
		}
		return sum
	}
	refusals(client, nameOfPlaces, map[string]uint64{"LIMIT_FULL": places.Full, "QUEUE_FULL": places.QueueFull, "QUEUE_TIMEOUT": places.QueueTimeout})

	arrived := w.tally.arrived.Load()
	same("attempts that servers saw", arrived, server.of(interceptors.EventEnd), recorded("rpc.server.call.duration"))
	same("panics", w.panics.Load(), server.of(interceptors.EventPanic), got.sum("turret.panics"))
	same("timeouts of the servers", server.of(interceptors.EventTimeout), got.sum("turret.timeouts")-got.sum("turret.timeouts", "turret.stack=client"))
	rooms := map[string]uint64{}
	var entered, cancelled uint64
	for _, r := range w.rooms {
		of := r.Stats()
		entered += of.Entered
		cancelled += of.Cancelled
		rooms["LIMIT_FULL"] += of.Full
		rooms["QUEUE_FULL"] += of.QueueFull
		rooms["QUEUE_TIMEOUT"] += of.QueueTimeout
	}
	refused := refusals(server, nameOfRoom, rooms)
	shed := got.sum("turret.refusals", "turret.layer=load_shed")
	same("streams that servers shed", shed, server.refusedBy("shed", "OVERLOADED"))
	same("RPCs in the servers' limits", entered, got.sum("turret.gate.entered", "turret.layer="+nameOfRoom))
	// The context of the others had ended before they came to the limit.
	if of := entered + refused + shed + cancelled; of > arrived || arrived-of > s.GaveUp+w.tally.late.Load()+s.Attempts-s.Tried {
		t.Errorf("servers saw %d attempts; %d entered, %d were refused, %d shed, %d gave up in line", arrived, entered, refused, shed, cancelled)
	}
	same("held", 0, got.sum("turret.rpc.active"), got.sum("turret.gate.in_flight"), got.sum("turret.gate.waiting"))
	t.Log(fmt.Sprintf("metrics, events and Stats agree: %d RPCs, %d attempts, %d seen by servers; ", s.RPCs, s.Attempts, arrived),
		fmt.Sprintf("%d timeouts, %d refused by the client's limit, %d by servers, %d shed", client.of(interceptors.EventTimeout),
			places.Full+places.QueueFull+places.QueueTimeout, refused, shed))
}
