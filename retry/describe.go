package retry

import (
	"fmt"

	"github.com/turret-go/turret"
)

// Describe says what b allows and has counted; of [Unlimited] only that.
func (b *Budget) Describe(d *turret.Description) {
	t := b.lock()
	if t == nil {
		d.Is("retry_budget", "budget unlimited")
		return
	}
	s, c := t.stats(), t.config
	t.mu.Unlock()
	d.Is("retry_budget", "budget")
	d.Setting("ratio", "1", c.Ratio)
	d.Setting("min_per_second", "{retry}/s", c.MinPerSecond)
	d.Setting("window", "s", c.Window)
	d.Gauge("calls", "{call}", float64(s.Calls))
	d.Gauge("retries", "{retry}", float64(s.Retries))
	d.Gauge("left", "{retry}", float64(s.Left))
	d.Count("refused", "{retry}", "", s.Refused)
}

// Describe says how often the policy retries, and describes its budget.
func (p policy[Req, Res]) Describe(d *turret.Description) {
	d.Is("retry", fmt.Sprintf("retry %d attempts", p.MaxAttempts))
	d.Setting("max_attempts", "{attempt}", p.MaxAttempts)
	d.Inside(p.Budget)
}

// Describe says what the policy says, if it is a Describer.
func (s *service[Req, Res]) Describe(d *turret.Description) {
	if p, ok := s.policy.(turret.Describer); ok {
		d.Forward(p)
		return
	}
	d.Is("retry", s.String())
}
