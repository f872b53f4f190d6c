package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// Layer returns a layer that does to each call what the rule of i says, before
// the inner service is called. It panics if i is nil.
func Layer[Req, Res any](i *Injector) turret.Layer[Req, Res] {
	if i == nil {
		misuse.Check("fault: Layer", &turret.FieldError{Package: "fault", Field: "i", Value: i, Bound: "non-nil"})
	}
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] { return &service[Req, Res]{inner, i} }
}

type service[Req, Res any] struct {
	turret.Service[Req, Res]

	injector *Injector
}

func (s *service[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	if err := s.injector.Inject(ctx); err != nil {
		return res, err
	}
	return s.Service.Call(ctx, req)
}

func (s *service[Req, Res]) String() string { return s.injector.String() }

// Describe says what the injector does.
func (s *service[Req, Res]) Describe(d *turret.Description) { s.injector.Describe(d) }

// String returns the rule and how long it still holds, in one line.
func (i *Injector) String() string {
	r := i.running.Load()
	if r == nil {
		return "fault: off"
	}
	return fmt.Sprintf("fault: %g %% delayed by %s, %g %% failed, for %s",
		100*r.rule.DelayShare, r.rule.Delay, 100*r.rule.ErrShare, r.left().Round(time.Second))
}

func (r *running) left() time.Duration { return max(time.Until(r.until), 0) }

// Describe says which rule holds, for how long, and what was done to calls.
func (i *Injector) Describe(d *turret.Description) {
	d.Is("fault", "fault injection")
	if r := i.running.Load(); r == nil {
		d.State("state", "off")
	} else {
		d.State("state", "on")
		d.Gauge("left", "s", r.left().Seconds())
		d.Setting("delay_share", "1", r.rule.DelayShare)
		d.Setting("delay", "s", r.rule.Delay)
		d.Setting("err_share", "1", r.rule.ErrShare)
		d.Setting("err", "", r.err)
		d.Setting("max_active", "{call}", r.rule.MaxActive)
	}
	d.Gauge("active", "{call}", float64(i.active.Load()))
	d.Count("delayed", "{call}", "", i.delayed.Load())
	d.Count("injected", "{call}", ReasonInjected, i.failed.Load())
}
