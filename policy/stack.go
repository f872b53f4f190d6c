package policy

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"weak"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/boundedmap"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A set is the state of one call of Client or Server: what a stack's limits and
// budgets are, by the names of their blocks.
type set struct {
	side       interceptors.Side
	perAttempt []interceptors.Layer
	policy     *Policy

	// The rest is guarded by the policy's mutex.
	units    map[unitKey]*unit
	services []weak.Pointer[service]
}

// A service is the layers of a policy in a stack. An RPC runs to its end in the
// table that was there when it began.
type service struct {
	interceptors.Service // what is inside

	set   *set
	table atomic.Pointer[table]
}

// A table says which layers an RPC passes. It does not change.
type table struct {
	methods  map[string]*route
	services map[string]*route // for methods that are not in methods
	other    *route
}

func (t *table) route(method string) *route {
	if r := t.methods[method]; r != nil {
		return r
	}
	if len(t.services) > 0 {
		if r := t.services[serviceOf(method)]; r != nil {
			return r
		}
	}
	return t.other
}

func (s *service) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	way := &s.table.Load().route(rpc.Method).ways[wayOf(rpc.Kind)]
	if s.set.side == interceptors.SideClient {
		if options := rpc.CallOptions(); len(options) > 0 {
			if p := perCallOf(options); p != (perCall{}) {
				return way.variant(p).Call(ctx, rpc)
			}
		}
	}
	return way.service.Call(ctx, rpc)
}

// wayOf returns the index of a kind's way: unary RPCs, or streams.
func wayOf(k interceptors.Kind) int {
	if k == interceptors.KindUnary {
		return 0
	}
	return 1
}

var kindOfWay = [2]interceptors.Kind{interceptors.KindUnary, interceptors.KindBidiStream}

// A route is the layers of methods with the same verdict.
type route struct{ ways [2]way }

// A way is the layers of a route for unary RPCs, or for streams.
type way struct {
	service  interceptors.Service
	layers   []placed               // outermost first
	made     []interceptors.Service // by the layers, in the same order
	inner    interceptors.Service
	variants boundedmap.Map[perCall, interceptors.Service]
}

// placed is a layer with the block that it is of; nil for those of
// Config.PerAttempt.
type placed struct {
	layer interceptors.Layer
	block *block
}

// variant returns the layers for RPCs with options of the call. They share the
// state of the others.
func (w *way) variant(p perCall) interceptors.Service {
	return w.variants.Get(p, func(p perCall) interceptors.Service {
		var layers []interceptors.Layer
		if p.within > 0 {
			layers = append(layers, interceptors.Timeout(p.within))
		}
		for _, l := range w.layers {
			if l.block == nil || !p.replaces(l.block) {
				layers = append(layers, l.layer)
			}
		}
		outermost, _ := around(layers, w.inner)
		return outermost
	})
}

// replaces reports whether the option of a call takes the place of an enforced
// block.
func (p perCall) replaces(b *block) bool {
	if b.rule.shadow() {
		return false
	}
	switch b.kind.name {
	case "retry", "hedge":
		return p.once
	case "timeout", "stream_timeout":
		return p.within > 0
	}
	return false
}

// around puts layers around inner, the first outermost, and returns what each of
// them made too.
func around(layers []interceptors.Layer, inner interceptors.Service) (outermost interceptors.Service, made []interceptors.Service) {
	for _, l := range slices.Backward(layers) {
		inner = l(inner)
		made = append(made, inner)
	}
	slices.Reverse(made)
	return inner, made
}

// A builder makes the tables of the services of a set for a policy. It changes
// nothing that is in use until it commits.
type builder struct {
	set      *set
	compiled *compiled
	units    map[unitKey]*unit
	retunes  []func()
}

func newBuilder(s *set, c *compiled) *builder {
	return &builder{set: s, compiled: c, units: map[unitKey]*unit{}}
}

// unit returns the unit of a block: the one that was there, to be retuned when
// the builder commits, or a new one.
func (b *builder) unit(of *block, v *verdict) *unit {
	if !of.stateful() {
		return nil
	}
	key := unitKey{block: of.id()}
	if of.byMethod() {
		key.method = v.method
	}
	if u := b.units[key]; u != nil {
		return u
	}
	u := b.set.units[key]
	switch {
	case u == nil || fateOf(u.block, of) == renewed:
		u = newUnit(of)
	case u.block != of:
		old := u
		b.retunes = append(b.retunes, func() { old.retune(of) })
	}
	b.units[key] = u
	return u
}

// routeKey is what methods with the same layers have in common.
type routeKey struct {
	verdict verdict
	shadows string
}

// table makes the table of one service.
func (b *builder) table(inner interceptors.Service) *table {
	routes := map[routeKey]*route{}
	t := &table{
		methods:  map[string]*route{},
		services: map[string]*route{},
		other:    b.route(target{}, inner, routes),
	}
	for name, of := range b.compiled.named() {
		t.methods[name] = b.route(of, inner, routes)
	}
	for service := range b.compiled.services() {
		t.services[service] = b.route(target{service: service}, inner, routes)
	}
	return t
}

func (b *builder) route(t target, inner interceptors.Service, routes map[routeKey]*route) *route {
	v, shadows := b.compiled.resolve(t, b.set.side), b.compiled.shadowsOf(t, b.set.side)
	key := routeKey{verdict: v}
	for _, s := range shadows {
		if s.byMethod() {
			v.method = ownMethod(t)
		}
		key.shadows += s.id() + "\n"
	}
	key.verdict.method = v.method
	if r := routes[key]; r != nil {
		return r
	}
	r := new(route)
	for i := range r.ways {
		r.ways[i].inner = inner
		r.ways[i].layers = b.layers(&v, shadows, kindOfWay[i])
		layers := make([]interceptors.Layer, len(r.ways[i].layers))
		for j, l := range r.ways[i].layers {
			layers[j] = l.layer
		}
		r.ways[i].service, r.ways[i].made = around(layers, inner)
	}
	routes[key] = r
	return r
}

// layers returns the layers of a verdict for RPCs of a kind, outermost first.
// What is only counted is outside of what is enforced of the same kind.
func (b *builder) layers(v *verdict, shadows []*block, rpc interceptors.Kind) (all []placed) {
	for i, k := range order[b.set.side] {
		if k.name == perAttempt && b.set.side == interceptors.SideClient {
			for _, l := range b.set.perAttempt {
				all = append(all, placed{layer: l})
			}
		}
		if !k.kinds.fit(rpc) {
			continue
		}
		for _, s := range shadows {
			if s.kind == k {
				all = b.append(all, s, v)
			}
		}
		of := v.blocks[i]
		if of == nil || of.off {
			continue
		}
		if k.name == "threshold" {
			all = appendLevel(all, v)
		}
		all = b.append(all, of, v)
	}
	return all
}

func (b *builder) append(all []placed, of *block, v *verdict) []placed {
	layer := layerOf(of, b.unit(of, v), v)
	if layer == nil {
		return all
	}
	return append(all, placed{interceptors.Named(of.rule.name, layer), of})
}

// appendLevel appends a layer for a threshold, which is outside of the retry and so
// outside of the criticality: RPCs have their level in front of it already.
func appendLevel(all []placed, v *verdict) []placed {
	of := v.blocks[kind(interceptors.SideClient, "criticality").index]
	if of == nil || of.off {
		return all
	}
	layer := levelInContext(criticalityOf(of.message().(*policyv1.Criticality).GetLevel()))
	return append(all, placed{interceptors.Named(of.rule.name, layer), of})
}

// waitForReady returns a layer that says whether RPCs wait for a connection,
// unless an option of the call says so.
func waitForReady(wait bool) interceptors.Layer {
	option := grpc.WaitForReady(wait)
	return func(inner interceptors.Service) interceptors.Service { return &waiting{inner, option, wait} }
}

type waiting struct {
	interceptors.Service

	option grpc.CallOption
	wait   bool
}

func (s *waiting) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	for _, o := range rpc.CallOptions() {
		if _, said := o.(grpc.FailFastCallOption); said {
			return s.Service.Call(ctx, rpc)
		}
	}
	return s.Service.Call(ctx, rpc.WithOptions(s.option))
}

func (s *waiting) String() string {
	if s.wait {
		return "wait for ready"
	}
	return "fail fast"
}

// String returns the layers in their order with the state of each.
func (s *service) String() string {
	s.set.policy.mu.Lock()
	defer s.set.policy.mu.Unlock()
	lines := []string{"policy"}
	for _, u := range s.set.ordered() {
		lines = append(lines, "  "+u.String())
	}
	return strings.Join(lines, "\n")
}
