package breaker

import "github.com/turret-go/turret"

// Describe says in which state b is, what led to it, and what b counts. A
// transition is counted when it happens, so that from open to half-open when the
// first probe enters.
func (b *Breaker) Describe(d *turret.Description) {
	s := b.Stats()
	c := b.circuit.Config()
	d.Is("breaker", "breaker")
	d.Setting("consecutive", "{call}", c.Consecutive)
	d.Setting("ratio", "1", c.Ratio)
	d.Setting("min_calls", "{call}", c.MinCalls)
	d.Setting("window", "s", c.Window)
	d.State("state", word(s.State))
	d.Gauge("open_for", "s", s.OpenFor.Seconds())
	d.Gauge("row", "{call}", float64(s.Row))
	d.Gauge("calls", "{call}", float64(s.Calls))
	d.Gauge("failures", "{call}", float64(s.Failures))
	d.Gauge("in_flight", "{call}", float64(s.InFlight))
	d.Count("entered", "{call}", "", s.Entered)
	d.Count("refused", "{call}", turret.ReasonCircuitOpen, s.Refused)
	for state, n := range b.circuit.Entries() {
		d.Count("transitions", "{transition}", word(State(state)), n)
	}
}

// word returns the name of s as figures have it.
func word(s State) string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	default:
		return "half_open"
	}
}
