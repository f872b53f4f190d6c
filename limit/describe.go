package limit

import "github.com/turret-go/turret"

// Describe says what c counts.
func (c *Concurrency) Describe(d *turret.Description) {
	s := c.Stats()
	d.Is("concurrency_limit", "concurrency limit")
	d.Setting("max", "{call}", s.Max)
	describeQueue(d, c.line.getQueue())
	d.Gauge("in_flight", "{call}", float64(s.InFlight))
	d.Gauge("waiting", "{call}", float64(s.Waiting))
	d.Count("entered", "{call}", "", s.Entered)
	d.Count("refused", "{call}", turret.ReasonLimitFull, s.Full)
	d.Count("refused", "{call}", turret.ReasonQueueFull, s.QueueFull)
	d.Count("refused", "{call}", turret.ReasonQueueTimeout, s.QueueTimeout)
	d.Count("cancelled", "{call}", "", s.Cancelled)
	d.Total("wait", "s", "", s.Waited.Seconds())
}

// Utilization is the calls inside and in line, as a part of the limit: above 1 if
// calls wait. It is 1 if the limit is 0.
func (c *Concurrency) Utilization() float64 {
	s := c.Stats()
	if s.Max == 0 {
		return 1
	}
	return float64(s.InFlight+s.Waiting) / float64(s.Max)
}

// Describe says what b counts.
func (b *TokenBucket) Describe(d *turret.Description) {
	s := b.Stats()
	d.Is("rate_limit", "rate limit "+s.Rate.String())
	d.Setting("rate", "{call}/s", float64(s.Rate.N)/s.Rate.Per.Seconds())
	d.Setting("burst", "{call}", s.Rate.burst())
	describeQueue(d, b.line.getQueue())
	d.Gauge("tokens", "{call}", float64(s.Tokens))
	d.Gauge("waiting", "{call}", float64(s.Waiting))
	d.Count("entered", "{call}", "", s.Entered)
	d.Count("returned", "{call}", "", s.Returned)
	d.Count("refused", "{call}", turret.ReasonRateLimited, s.RateLimited)
	d.Count("refused", "{call}", turret.ReasonQueueFull, s.QueueFull)
	d.Count("refused", "{call}", turret.ReasonQueueTimeout, s.QueueTimeout)
	d.Count("cancelled", "{call}", "", s.Cancelled)
	d.Total("wait", "s", "", s.Waited.Seconds())
}

// describeQueue says how calls may wait in line.
func describeQueue(d *turret.Description, q Queue) {
	if q.Max == Unbounded {
		d.Setting("queue_max", "", "unbounded")
	} else {
		d.Setting("queue_max", "{call}", q.Max)
	}
	if q.Timeout > 0 {
		d.Setting("queue_timeout", "s", q.Timeout)
	}
}
