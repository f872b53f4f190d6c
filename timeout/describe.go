package timeout

import "github.com/turret-go/turret"

// Describe says the bound, and how many calls it has ended.
func (s *service[Req, Res]) Describe(d *turret.Description) {
	d.Is("timeout", s.String())
	d.Setting("timeout", "s", s.d)
	d.Count("timeouts", "{call}", "", s.over.Load())
}

// Inner returns the service that is bounded.
func (s *service[Req, Res]) Inner() any { return s.Service }
