package hedge

import "github.com/turret-go/turret"

// Describe says when p hedges now, what it has counted, and describes its
// budget.
func (p *Policy) Describe(d *turret.Description) {
	s, c := p.Stats(), p.config.Load()
	d.Is("hedge", "hedge "+p.when(s))
	d.Setting("max_hedges", "{hedge}", c.MaxHedges)
	d.Gauge("delay", "s", s.Delay.Seconds())
	d.Gauge("quantile", "s", s.Quantile.Seconds())
	d.Gauge("samples", "{call}", float64(s.Samples))
	d.Count("calls", "{call}", "", s.Calls)
	d.Count("hedges", "{hedge}", "sent", s.Hedges)
	d.Count("hedges", "{hedge}", "won", s.Wins)
	d.Count("hedges", "{hedge}", "lost", s.Losses)
	d.Count("hedges", "{hedge}", "paused", s.Paused)
	d.Count("hedges", "{hedge}", "over_budget", s.Spent)
	d.Inside(c.Budget)
}

// Describe says what the policy says.
func (s *service[Req, Res]) Describe(d *turret.Description) { d.Forward(s.policy) }
