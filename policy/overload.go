package policy

import (
	"context"
	"strings"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
	"github.com/turret-go/turret/throttle"
)

// The bounds and defaults of package adaptive and package throttle.
const (
	throttleLeast = 100 * time.Millisecond
	throttleMost  = 10 * time.Minute
	largestLimit  = 1_000_000
	defaultMax    = 10_000
)

var (
	throttleFields = map[string]string{"K": "ratio", "Window": "window"}
	adaptiveFields = map[string]string{"Start": "initial", "Min": "min", "Max": "max"}
)

func (c *checker) throttle(m *policyv1.Throttle) {
	c.share("ratio", m.Ratio, 1.1, 1000)
	c.within("window", m.GetWindow(), throttleLeast, throttleMost)
	if !c.failed() {
		c.validate(throttleConfig(m).Validate(), throttleFields)
	}
}

func throttleConfig(m *policyv1.Throttle) throttle.Config {
	return throttle.Config{K: m.GetRatio(), Window: seconds(m.GetWindow(), 0)}
}

func (c *checker) adaptiveLimit(m *policyv1.AdaptiveLimit) {
	c.between("min", m.Min, 1, largestLimit)
	c.between("max", m.Max, 1, largestLimit)
	c.between("initial", m.Initial, 1, largestLimit)
	switch {
	case c.failed():
	case m.Max != nil && m.GetMax() < m.GetMin():
		c.wrong("max", "is %d, must be at least min, which is %d", m.GetMax(), m.GetMin())
	case m.Initial != nil && m.GetInitial() < m.GetMin():
		c.wrong("initial", "is %d, must be at least min, which is %d", m.GetInitial(), m.GetMin())
	case m.Initial != nil && m.Max != nil && m.GetInitial() > m.GetMax():
		c.wrong("initial", "is %d, must be at most max, which is %d", m.GetInitial(), m.GetMax())
	default:
		c.validate(adaptive.Config{Start: int(m.GetInitial()), Min: int(m.GetMin()), Max: int(m.GetMax())}.Validate(), adaptiveFields)
	}
}

// adaptiveConfig returns the Config with the bounds filled in, for SetBounds.
func adaptiveConfig(m *policyv1.AdaptiveLimit) adaptive.Config {
	c := adaptive.Config{Start: int(m.GetInitial()), Min: max(int(m.GetMin()), 1), Max: int(m.GetMax())}
	if m.Max == nil {
		c.Max = max(defaultMax, c.Min)
	}
	return c
}

// criticalityOf returns the level that l stands for.
func criticalityOf(l policyv1.Level) criticality.Level {
	switch l {
	case policyv1.Level_LEVEL_CRITICAL_PLUS:
		return criticality.CriticalPlus
	case policyv1.Level_LEVEL_SHEDDABLE_PLUS:
		return criticality.SheddablePlus
	case policyv1.Level_LEVEL_SHEDDABLE:
		return criticality.Sheddable
	case policyv1.Level_LEVEL_UNSPECIFIED, policyv1.Level_LEVEL_CRITICAL:
	}
	return criticality.Critical
}

// levelInContext returns a layer that gives RPCs a level whose context has none. It
// describes itself as a criticality, because the layers inside it know the level.
func levelInContext(level criticality.Level) interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return &withLevel{inner, level} }
}

type withLevel struct {
	interceptors.Service

	level criticality.Level
}

func (s *withLevel) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	if _, ok := criticality.Lookup(ctx); !ok {
		ctx = criticality.With(ctx, s.level)
	}
	return s.Service.Call(ctx, rpc)
}

// Describe says which level it is.
func (s *withLevel) Describe(d *turret.Description) {
	d.Is("criticality", "level in the context")
	d.Setting("/*", "", s.level.String())
}

func criticalityConfig(m *policyv1.Criticality) interceptors.CriticalityConfig {
	allow := criticalityOf(m.GetAllow())
	return interceptors.CriticalityConfig{
		Methods: map[string]criticality.Level{"/*": criticalityOf(m.GetLevel())},
		Allow:   func(context.Context, *interceptors.RPC) criticality.Level { return allow },
	}
}

func (c *checker) perKey(m *policyv1.PerKey) {
	switch m.GetKey().(type) {
	case nil:
		c.wrong("", "has no key, must have metadata or peer_address")
	case *policyv1.PerKey_Metadata:
		if key := m.GetMetadata(); !isName(key, "-.") || strings.ToLower(key) != key || strings.HasPrefix(key, "grpc-") {
			c.wrong("metadata", "is %q, must be a metadata key: a-z, 0-9, '-', '_' and '.', and not grpc-", shortened(key))
		}
	case *policyv1.PerKey_PeerAddress:
		if !m.GetPeerAddress() {
			c.wrong("peer_address", "is false, must be true, or be left out")
		}
	}
	c.between("max_keys", m.MaxKeys, 1, 1_000_000)
	if m.GetLimit() == nil && m.GetRateLimit() == nil {
		c.wrong("", "has no limit and no rate_limit, must have one of them")
	}
	if l := m.GetLimit(); l != nil {
		c.inKey("limit", l.GetOff(), l.GetScope())
		c.limit(l, "limit.")
	}
	if r := m.GetRateLimit(); r != nil {
		c.inKey("rate_limit", r.GetOff(), r.GetScope())
		c.rateLimit(r, "rate_limit.")
	}
}

// inKey checks what a limit inside a per_key must not have.
func (c *checker) inKey(field string, off bool, scope policyv1.Scope) {
	if off {
		c.wrong(field+".off", "is inside per_key, must not be (leave %s out)", field)
	}
	if scope != policyv1.Scope_SCOPE_UNSPECIFIED {
		c.wrong(field+".scope", "is inside per_key, whose keys have a limit each, must not be given")
	}
}
