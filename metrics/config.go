package metrics

import (
	"cmp"
	"math"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/turret-go/turret"
)

// Defaults and bounds of [Config].
const (
	defaultMaxMethods = 200
	maxMaxMethods     = 10_000
	maxBuckets        = 200
)

// defaultBuckets are from 1 ms to 30 s, in seconds.
var defaultBuckets = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30}

// A Config says where metrics go and what bounds them. The zero Config is what
// most programs want.
type Config struct {
	// MeterProvider makes the instruments. Nil: that of otel.SetMeterProvider,
	// which may be called later.
	MeterProvider metric.MeterProvider
	// Methods, if not nil, says which methods ("/package.Service/Method") have
	// series of their own; the others are _OTHER. A server that forwards RPCs of
	// any method should have it: see interceptors.Registered. It must answer the
	// same for the same method, and may be called concurrently.
	Methods func(method string) bool
	// MaxMethods is how many methods have series of their own. Those that come
	// later are _OTHER. 0 means 200; at most 10,000.
	MaxMethods int
	// Buckets are the upper bounds of the buckets of durations, in seconds,
	// ascending and above 0. Nil: 14 buckets from 1 ms to 30 s; at most 200. A view
	// of the OpenTelemetry SDK overrides them.
	Buckets []float64
}

// Validate returns a [*turret.FieldError] if a field is out of its bounds.
func (c Config) Validate() error {
	invalid := func(field string, value any, bound string) error {
		return &turret.FieldError{Package: "metrics", Field: field, Value: value, Bound: bound}
	}
	switch {
	case c.MaxMethods < 0 || c.MaxMethods > maxMaxMethods:
		return invalid("MaxMethods", c.MaxMethods, "between 0 (for 200) and 10000")
	case len(c.Buckets) > maxBuckets:
		return invalid("Buckets", len(c.Buckets), "at most 200 of them")
	}
	last := 0.0
	for _, b := range c.Buckets {
		if !(b > last) || math.IsInf(b, 0) { // NaN is not
			return invalid("Buckets", c.Buckets, "ascending, finite and above 0")
		}
		last = b
	}
	return nil
}

// withDefaults returns c with its zeros filled in, and nothing of the caller's
// kept that may change.
func (c Config) withDefaults() Config {
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	c.MaxMethods = cmp.Or(c.MaxMethods, defaultMaxMethods)
	if len(c.Buckets) == 0 {
		c.Buckets = defaultBuckets
	}
	c.Buckets = slices.Clone(c.Buckets)
	return c
}
