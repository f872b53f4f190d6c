package interceptors

import (
	"context"
	"errors"

	"github.com/turret-go/turret"
)

// Named returns l with a name that its refusals, events and spans carry as
// Layer, in place of that of its kind: of two limits in a stack, one can tell
// which refused. What comes from inside l's inner service keeps its own name.
// Of several names around one layer the outermost holds. It panics if name is
// empty or l is nil.
func Named(name string, l Layer) Layer {
	if name == "" {
		misused("Named", "name", name, "non-empty")
	}
	if l == nil {
		misused("Named", "layer", nil, "non-nil")
	}
	return func(inner Service) Service {
		n := &namedService{name: name, inner: inner}
		n.Service, _ = stacked("Named", []Layer{l}, &insideNamed{Service: inner, named: n})
		if r, ok := n.Service.(renamer); ok {
			r.rename(name)
		}
		return n
	}
}

// A renamer is a layer's service that has more to name than namedService sees.
type renamer interface{ rename(name string) }

// namedService gives its name to what the layer in it refuses and tells.
type namedService struct {
	Service // the layer that has the name

	name  string
	inner Service // what follows the layer
	names derivation
}

// An RPC that is observed gets n among its observers, so that n names the events of the
// layer before the observers outside see them. Errors are named on their way out.
func (n *namedService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.more != nil && rpc.more.observer != nil {
		rpc = n.names.of(rpc, n.add)
	}
	reply, err := n.Service.Call(ctx, rpc)
	if err != nil {
		err = n.rename(err)
	}
	return reply, err
}

// add adds n to the observers of an RPC.
func (n *namedService) add(x *extra) { x.observer = &observer{named: n, outer: x.observer} }

// remove is the opposite of add.
func (n *namedService) remove(x *extra) { x.observer = x.observer.without(n) }

func (n *namedService) String() string { return n.name + ": " + describe(n.Service) }

// rename returns err with n's name on its refusal, unless that comes from
// inside n's inner service.
func (n *namedService) rename(err error) error {
	if p, ok := err.(*passedError); ok && p.by == n { //nolint:errorlint // just ours, as it came
		return p.err
	}
	r, ok := errors.AsType[*turret.Refusal](err)
	if !ok || n.passed(err) {
		return err
	}
	renamed := *r
	renamed.Layer = n.name
	if err == error(r) { //nolint:errorlint // nothing around it
		return &renamed
	}
	return &renamedError{err, &renamed}
}

// passed reports whether err came from inside n's inner service. Of several
// names around a layer, the innermost has marked it last.
func (n *namedService) passed(err error) bool {
	p, ok := errors.AsType[*passedError](err)
	for ok && p.by != n {
		p, ok = errors.AsType[*passedError](p.err)
	}
	return ok
}

// tells gives e n's name, unless it tells of a refusal that comes from inside
// n's inner service.
func (n *namedService) tells(e *Event) {
	if e.Kind != EventRefused || !n.passed(e.Err) {
		e.Layer = n.name
	}
}

// renamedError is an error around a refusal, with the refusal renamed.
type renamedError struct {
	error

	refusal *turret.Refusal
}

// Unwrap returns the error around the refusal; As finds the renamed one first.
func (e *renamedError) Unwrap() error { return e.error }

// As returns the renamed refusal in place of the one that Unwrap leads to.
func (e *renamedError) As(target any) bool {
	if r, ok := target.(**turret.Refusal); ok {
		*r = e.refusal
		return true
	}
	return false
}

// insideNamed is between a named layer and its inner service: it marks the
// refusals that come from there, and lets its events keep their names.
type insideNamed struct {
	Service

	named   *namedService
	unnamed derivation
}

// Call undoes on the way in what namedService.Call has done, and marks refusals on their
// way out: both are about the inner service, which keeps its own names.
func (s *insideNamed) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.more != nil && rpc.more.observer.has(s.named) {
		rpc = s.unnamed.of(rpc, s.named.remove)
	}
	reply, err := s.Service.Call(ctx, rpc)
	if err == nil {
		return reply, nil
	}
	if _, ok := errors.AsType[*turret.Refusal](err); ok {
		err = &passedError{err, s.named}
	}
	return reply, err
}

// passedError marks an error that came from inside a named layer's inner
// service.
type passedError struct {
	err error
	by  *namedService
}

func (e *passedError) Error() string { return e.err.Error() }
func (e *passedError) Unwrap() error { return e.err }

// Describe gives the layer that has the name to d.
func (n *namedService) Describe(d *turret.Description) {
	d.Named(n.name)
	d.Forward(n.Service)
}

// Inner returns what RPCs go on to.
func (n *namedService) Inner() any { return n.inner }
