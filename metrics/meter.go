package metrics

import (
	"context"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/turret-go/turret/internal/boundedmap"
	"github.com/turret-go/turret/internal/misuse"
)

// SchemaURL is the version of the semantic conventions that the durations of calls
// follow.
const SchemaURL = semconv.SchemaURL

// scope is the instrumentation scope of all instruments.
const scope = "github.com/turret-go/turret/metrics"

// A Meter records RPCs, and exports what Describers count. A program needs one,
// which all its stacks share. Make it with [New]. Its methods may be called
// concurrently.
type Meter struct {
	config Config
	meter  metric.Meter

	durations [3]metric.Float64Histogram       // by durationOf
	methods   boundedmap.Map[string, struct{}] // those that have series
	targets   boundedmap.Map[string, struct{}] // those that series name
	series    boundedmap.Map[Call, *Series]

	mu  sync.Mutex // guards all; no method of the MeterProvider is called under it
	all []*Series

	watching sync.Mutex // guards the rest; callbacks do not take it
	watched  map[string]struct{}
	others   map[string]metric.Float64Observable // by name
	rules    []instrument                        // of the catalogue
}

// New returns a Meter of c. It panics with the error of c.Validate if there is
// one. An instrument that the MeterProvider refuses is reported to otel.Handle, and
// left out.
func New(c Config) *Meter {
	misuse.Check("metrics: New", c.Validate())
	c = c.withDefaults()
	m := &Meter{
		config:  c,
		meter:   c.MeterProvider.Meter(scope, metric.WithSchemaURL(SchemaURL)),
		watched: map[string]struct{}{},
		others:  map[string]metric.Float64Observable{},
	}
	m.methods.Max, m.targets.Max = c.MaxMethods, maxTargets
	m.series.Max = maxSeries(c.MaxMethods)
	for i, d := range durationNames {
		h, err := m.meter.Float64Histogram(d.name, metric.WithUnit("s"), metric.WithDescription(d.what),
			metric.WithExplicitBucketBoundaries(c.Buckets...))
		report(err)
		m.durations[i] = h
	}
	m.observeActive()
	m.rules = catalogue(m.meter)
	return m
}

// Series returns the Series of c. It allocates nothing for one that is known.
func (m *Meter) Series(c Call) *Series {
	if s, ok := m.series.Load(c); ok {
		return s
	}
	return m.find(m.bounded(c))
}

// bounded returns c with what has no series of its own replaced.
func (m *Meter) bounded(c Call) Call {
	if !m.hasSeries(c.Method) {
		c.Method = other
	}
	if c.Server {
		c.Target, c.Attempt = "", false
	} else if !claim(&m.targets, c.Target) {
		c.Target = ""
	}
	return c
}

func (m *Meter) hasSeries(name string) bool {
	if m.config.Methods != nil && !m.config.Methods(name) {
		return false
	}
	return claim(&m.methods, name)
}

// claim reports whether name is one of those that have series: one of the first.
func claim(names *boundedmap.Map[string, struct{}], name string) bool {
	if len(name) > longest {
		return false
	}
	names.Get(name, func(string) struct{} { return struct{}{} })
	_, ok := names.Load(name)
	return ok
}

// find returns the Series of c, which is bounded.
func (m *Meter) find(c Call) *Series {
	if s, ok := m.series.Load(c); ok {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.series.Load(c); !ok && m.series.Len() >= m.series.Max-withoutTarget(m.config.MaxMethods) {
		c.Target = ""
	}
	return m.series.Get(c, func(c Call) *Series {
		s := &Series{call: c, duration: m.durations[durationOf(c)]}
		s.byCode.Max, s.success = maxCodes, s.options(codeOK)
		m.all = append(m.all, s)
		return s
	})
}

// observeActive exports how many calls are under way.
func (m *Meter) observeActive() {
	active, err := m.meter.Int64ObservableUpDownCounter("turret.rpc.active",
		metric.WithUnit("{call}"), metric.WithDescription("RPCs under way."))
	report(err)
	_, err = m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.mu.Lock()
		all := slices.Clip(m.all)
		m.mu.Unlock()
		sums := map[method]int64{}
		for _, s := range all {
			if s.call.Attempt {
				continue
			}
			sums[method{s.call.Method, s.call.Server}] += s.active.Load()
		}
		for of, n := range sums {
			o.ObserveInt64(active, n, metric.WithAttributeSet(of.attributes()))
		}
		return nil
	}, active)
	report(err)
}

// report hands err to OpenTelemetry's handler of errors, if there is one.
func report(err error) {
	if err != nil {
		otel.Handle(err)
	}
}
