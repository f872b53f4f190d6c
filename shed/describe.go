package shed

import "github.com/turret-go/turret"

// Describe says how many calls were refused.
func (s *shedder[Req, Res]) Describe(d *turret.Description) {
	d.Is("load_shed", s.String())
	d.Count("refused", "{call}", turret.ReasonOverloaded, s.refused.Load())
}
