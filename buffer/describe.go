package buffer

import "github.com/turret-go/turret"

// Describe says what b counts. A call counts as entered when it has left the
// inner service, and was not refused there.
func (b *Buffer[Req, Res]) Describe(d *turret.Description) {
	s := b.Stats()
	state := "open"
	if s.Closed {
		state = "closed"
	}
	d.Is("buffer", "buffer")
	d.Setting("max", "{call}", s.Max)
	d.State("state", state)
	d.Gauge("in_flight", "{call}", float64(s.Inside))
	d.Gauge("waiting", "{call}", float64(s.Waiting))
	d.Count("entered", "{call}", "", s.Over)
	d.Count("refused", "{call}", turret.ReasonBufferFull, s.Full)
	d.Count("refused", "{call}", turret.ReasonBufferClosed, s.RefusedClosed)
	d.Count("cancelled", "{call}", "", s.Cancelled)
	d.Total("wait", "s", "", s.Waited.Seconds())
}

// Inner returns the service behind the line.
func (b *Buffer[Req, Res]) Inner() any { return b.inner }
