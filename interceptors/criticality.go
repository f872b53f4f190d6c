package interceptors

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/internal/misuse"
)

// A CriticalityConfig says how critical RPCs are that do not say so themselves,
// and what peers may claim. The zero value is a good one.
type CriticalityConfig struct {
	// Methods has the levels of RPCs whose context, or metadata, has none. The
	// keys are patterns as [For] takes them; of several that match, the longest
	// holds. RPCs that none matches are criticality.Critical.
	Methods map[string]criticality.Level
	// Allow returns the most critical level that the peer of a server's RPC may
	// claim; a higher claim counts as that level. nil means criticality.Critical
	// for every peer: criticality.CriticalPlus must be allowed. It may be called
	// concurrently.
	Allow func(ctx context.Context, rpc *RPC) criticality.Level
}

// Validate returns a [*turret.FieldError] if a pattern or a level is invalid.
func (c CriticalityConfig) Validate() error {
	for _, pattern := range slices.Sorted(maps.Keys(c.Methods)) {
		field := fmt.Sprintf("CriticalityConfig.Methods[%q]", pattern)
		if _, ok := parsePattern(pattern); !ok {
			return &turret.FieldError{Package: "interceptors", Field: field, Value: pattern, Bound: `"/package.Service/Method", "/package.Service/*" or "/*"`}
		}
		if level := c.Methods[pattern]; !level.Valid() {
			return &turret.FieldError{Package: "interceptors", Field: field, Value: level, Bound: "a level of package criticality"}
		}
	}
	return nil
}

// Criticality returns a [Layer] that carries the level of RPCs (package
// criticality) over the wire, on both sides, in the metadata of key
// criticality.Key. It panics with the error of c.Validate if there is one.
//
// On a client it sends the level of the context, or else that of the method.
// Inside [Retry] or [Hedge] it sends the next lower level with every attempt after
// the first: what was tried already yields to what was not.
//
// On a server it puts the level that the peer claims, as far as c.Allow allows it,
// or else that of the method into the context, where [AdaptiveLimit] finds it.
// RPCs that the handler makes with its context inherit it. A text that names no
// level is no claim.
func Criticality(c CriticalityConfig) Layer {
	misuse.Check("interceptors: Criticality", c.Validate())
	c.Methods = maps.Clone(c.Methods)
	return func(inner Service) Service { return &criticalityService{inner, c} }
}

type criticalityService struct {
	Service

	config CriticalityConfig
}

func (s *criticalityService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.Side == SideServer {
		return s.Service.Call(s.incoming(ctx, rpc), rpc)
	}
	level, ok := criticality.Lookup(ctx)
	if !ok {
		level = s.ofMethod(rpc.Method)
	}
	if rpc.Attempt > 0 {
		level = level.Lower()
	}
	out := outgoing{ctx: ctx}
	out.Set(criticality.Key, level.String())
	return s.Service.Call(out.context(), rpc)
}

// incoming returns ctx with the level of rpc, which a server has received.
func (s *criticalityService) incoming(ctx context.Context, rpc *RPC) context.Context {
	claims := metadata.ValueFromIncomingContext(ctx, criticality.Key)
	if len(claims) == 1 {
		if level, ok := criticality.Parse(claims[0]); ok {
			return criticality.With(ctx, max(level, s.allowed(ctx, rpc)))
		}
	}
	return criticality.With(ctx, s.ofMethod(rpc.Method))
}

// allowed is the most critical level that the peer of rpc may claim.
func (s *criticalityService) allowed(ctx context.Context, rpc *RPC) criticality.Level {
	if s.config.Allow == nil {
		return criticality.Critical
	}
	return min(max(s.config.Allow(ctx, rpc), criticality.CriticalPlus), criticality.Sheddable)
}

// ofMethod is the level of RPCs of method that say nothing.
func (s *criticalityService) ofMethod(method string) criticality.Level {
	if len(s.config.Methods) == 0 {
		return criticality.Critical
	}
	if level, ok := s.config.Methods[method]; ok {
		return level
	}
	if i := strings.LastIndexByte(method, '/'); i > 0 {
		if level, ok := s.config.Methods[method[:i+1]+"*"]; ok {
			return level
		}
	}
	return s.config.Methods["/*"] // or the zero level, which is Critical
}

func (s *criticalityService) String() string { return "criticality" }

// Describe says which methods have levels.
func (s *criticalityService) Describe(d *turret.Description) {
	d.Is("criticality", "criticality")
	for _, pattern := range slices.Sorted(maps.Keys(s.config.Methods)) {
		d.Setting(pattern, "", s.config.Methods[pattern].String())
	}
}
